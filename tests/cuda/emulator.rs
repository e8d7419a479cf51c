//! A [`Driver`] that runs the kernels on the CPU: the same sources, compiled as C++ behind
//! `kernels/shim.h` by the system's compiler (`CXX`, or `c++`).
//!
//! A compiled source is kept in cargo's folder for tests until it, the header or the compiler
//! changes.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use libloading::Library;
use maeum::nn::cuda::{Arg, Buffer, DeviceError, Driver, Launch, Stream, sources};
use sha2::{Digest, Sha256};

/// In which order blocks, and the threads of a block, run between two barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Forward,
    Reverse,
    /// Another one after each barrier.
    Shuffled,
}

pub const ORDERS: [Order; 3] = [Order::Forward, Order::Reverse, Order::Shuffled];

/// The memory that the emulated device claims to have.
pub const MEMORY: usize = 1 << 30;

/// Behind each buffer, and on the device never written: found changed, a kernel wrote too far.
/// As numbers they are NaN, so that who reads too far computes NaN.
const FENCE: [u64; 32] = [0xffff_ffff_ffff_fff1; 32];

/// As of the device's memory, in bytes.
const ALIGNMENT: usize = 256;

struct Memory {
    words: Vec<u64>,
    /// Where [`FENCE`] begins.
    fence: usize,
    /// Without what surrounds them.
    bytes: usize,
}

pub struct Emulator {
    order: Order,
    sources: Vec<(String, String)>,
    allocations: Mutex<Vec<Weak<Mutex<Memory>>>>,
    launches: AtomicU64,
    allocated: AtomicU64,
    memory: usize,
}

impl Emulator {
    pub fn new(order: Order) -> Self {
        let own = |&(file, text): &(&str, &str)| (file.to_owned(), text.to_owned());
        Self {
            order,
            sources: sources::SOURCES.iter().map(own).collect(),
            allocations: Mutex::default(),
            launches: AtomicU64::new(0),
            allocated: AtomicU64::new(0),
            memory: MEMORY,
        }
    }

    /// One that has this source besides.
    pub fn with_source(mut self, file: &str, text: &str) -> Self {
        self.sources.push((file.into(), text.into()));
        self
    }

    /// One that has so many bytes.
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Buffers given out so far.
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    fn live_bytes(&self) -> usize {
        let all = self.allocations.lock().unwrap();
        let live = all.iter().filter_map(Weak::upgrade);
        live.map(|memory| memory.lock().unwrap().bytes).sum()
    }

    fn check_fences(&self, kernel: &str) -> Result<(), DeviceError> {
        let mut all = self.allocations.lock().unwrap();
        all.retain(|memory| memory.strong_count() > 0);
        for memory in all.iter().filter_map(Weak::upgrade) {
            let memory = memory.lock().unwrap();
            if memory.words[memory.fence..][..FENCE.len()] != FENCE {
                return Err(failed(kernel, "wrote past the end of a buffer"));
            }
        }
        Ok(())
    }
}

fn failed(what: &str, problem: impl Into<String>) -> DeviceError {
    DeviceError::Failed {
        what: what.into(),
        problem: problem.into(),
    }
}

impl Driver for Emulator {
    fn name(&self) -> String {
        format!("emulator, threads {:?}", self.order)
    }

    fn free_memory(&self) -> Result<usize, DeviceError> {
        Ok(self.memory.saturating_sub(self.live_bytes()))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.allocated.fetch_add(1, Ordering::Relaxed);
        if bytes > self.memory.saturating_sub(self.live_bytes()) {
            return Err(DeviceError::Memory { bytes });
        }
        // All ones are NaN: what is read before it is written shows.
        let words = bytes.div_ceil(8);
        let mut memory = vec![u64::MAX; ALIGNMENT / 8 + words + FENCE.len()];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let address = memory[start..].as_ptr() as u64;
        let fence = start + words;
        memory[fence..][..FENCE.len()].copy_from_slice(&FENCE);
        let memory = Arc::new(Mutex::new(Memory {
            words: memory,
            fence,
            bytes,
        }));
        self.allocations
            .lock()
            .unwrap()
            .push(Arc::downgrade(&memory));
        // SAFETY: the vector is neither moved nor resized until its last owner drops it.
        Ok(unsafe { Buffer::new(address, bytes, Box::new(memory)) })
    }

    fn upload(
        &self,
        _: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        let at = to.range(offset, data.len())? as *mut u8;
        // SAFETY: the range lies in the buffer, which is memory of this process.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), at, data.len()) };
        Ok(())
    }

    fn download(
        &self,
        _: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let at = from.range(offset, data.len())? as *const u8;
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(at, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    unsafe fn launch(&self, _: Stream, launch: &Launch) -> Result<(), DeviceError> {
        let name = launch.kernel;
        let (file, text) = self
            .sources
            .iter()
            .find(|(_, text)| sources::kernels(text).any(|k| k == name))
            .ok_or_else(|| DeviceError::NoKernel(name.into()))?;
        let threads: u32 = launch.block.iter().product();
        if threads == 0 || threads > 1024 || launch.grid.contains(&0) || launch.shared > 48 << 10 {
            return Err(failed(name, format!("cannot be launched as {launch:?}")));
        }
        if launch.grid[1] > 65535 || launch.grid[2] > 65535 {
            return Err(failed(name, "the grid is too large"));
        }
        let library = library(file, text)?;
        let mut pointers: Vec<*mut c_void> = launch
            .args
            .iter()
            .map(|a| Arg::bytes(a).as_ptr().cast_mut().cast())
            .collect();
        let sizes: Vec<c_uint> = launch
            .args
            .iter()
            .map(|a| a.bytes().len() as c_uint)
            .collect();
        let kernel = CString::new(name).unwrap();
        let mut error = [0u8; 512];
        let number = self.launches.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the symbol is the function at the end of what `source` writes, and the kernel
        // reads arguments only if their sizes are right.
        let code = unsafe {
            let run = library.get::<Run>(c"maeum_launch").unwrap();
            run(
                kernel.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                launch.shared,
                pointers.as_mut_ptr(),
                sizes.as_ptr(),
                sizes.len() as c_uint,
                self.order as c_int,
                number,
                error.as_mut_ptr().cast(),
                error.len(),
            )
        };
        if code != 0 {
            let text = CStr::from_bytes_until_nul(&error).unwrap_or_default();
            return Err(failed(name, text.to_string_lossy()));
        }
        self.check_fences(name)
    }

    fn synchronise(&self, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }
}

type Run = unsafe extern "C" fn(
    kernel: *const c_char,
    grid: *const c_uint,
    block: *const c_uint,
    shared: c_uint,
    args: *mut *mut c_void,
    sizes: *const c_uint,
    count: c_uint,
    order: c_int,
    seed: u64,
    error: *mut c_char,
    room: usize,
) -> c_int;

const FLAGS: [&str; 13] = [
    "-std=c++17",
    "-O2",
    "-fno-strict-aliasing",
    "-march=native",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-Wno-unused",
];

fn kernels_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

/// The C++ file: the source and a table of its kernels.
fn source(file: &str, text: &str) -> String {
    let mut whole = String::from("#include \"shim.h\"\n#include \"maeum.cuh\"\n");
    writeln!(whole, "#line 1 \"{file}\"\n{text}").unwrap();
    whole.push_str("static const emulated::Kernel TABLE[] = {\n");
    for kernel in sources::kernels(text) {
        writeln!(
            whole,
            "{{\"{kernel}\", emulated::Entry<{kernel}>::run, emulated::Entry<{kernel}>::sizes()}},"
        )
        .unwrap();
    }
    whole.push_str(
        "};
extern \"C\" __attribute__((visibility(\"default\")))
int maeum_launch(const char *name, const unsigned *grid, const unsigned *block,
                            unsigned shared, void **args, const unsigned *sizes, unsigned count,
                            int order, uint64_t seed, char *error, size_t room) {
    for (const emulated::Kernel &k : TABLE)
        if (strcmp(k.name, name) == 0)
            return emulated::launch(k, grid, block, shared, args, sizes, count, order, seed, error,
                                    room);
    return 1;
}
",
    );
    whole
}

/// The compiled source, loaded once. Nothing but its entry is visible: what two sources call alike
/// must not become one.
fn library(file: &str, text: &str) -> Result<Arc<Library>, DeviceError> {
    static LOADED: Mutex<Option<HashMap<String, Arc<Library>>>> = Mutex::new(None);
    let dir = kernels_dir();
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name)).map_err(|e| failed(name, e.to_string()))
    };
    let mut loaded = LOADED.lock().unwrap_or_else(|e| e.into_inner());
    let loaded = loaded.get_or_insert_default();
    let key = format!("{file}\n{text}");
    if let Some(library) = loaded.get(&key) {
        return Ok(library.clone());
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let whole = source(file, text);
    let mut hash = Sha256::new();
    // Compiled for this machine's processor.
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find(|l| l.starts_with("flags"));
    let processor = processor.unwrap_or_default().to_owned();
    for part in [
        &whole,
        &read("shim.h")?,
        &read("maeum.cuh")?,
        &compiler,
        &processor,
        &FLAGS.join(" "),
    ] {
        hash.update(part);
    }
    let hash: String = hash.finalize()[..12]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
    std::fs::create_dir_all(&cache).map_err(|e| failed(file, e.to_string()))?;
    let built = cache.join(format!("{file}-{hash}.so"));
    if !built.exists() {
        compile(&compiler, &whole, file, &dir, &built)?;
    }
    // SAFETY: what is loaded was compiled from the text above and runs nothing when loaded.
    let library = unsafe { Library::new(&built) }.map_err(|e| failed(file, e.to_string()))?;
    let library = Arc::new(library);
    loaded.insert(key, library.clone());
    Ok(library)
}

fn compile(
    compiler: &str,
    whole: &str,
    file: &str,
    include: &Path,
    built: &Path,
) -> Result<(), DeviceError> {
    // Two tests may compile the same at the same time; the last to rename wins.
    let own = built.with_extension(format!("{}.tmp", std::process::id()));
    let text = own.with_extension("cpp");
    std::fs::write(&text, whole).map_err(|e| failed(file, e.to_string()))?;
    let output = Command::new(compiler)
        .args(FLAGS)
        .arg("-I")
        .arg(include)
        .arg("-o")
        .args([&own, &text])
        .output()
        .map_err(|e| {
            let problem = format!("{e}: a C++ compiler is needed to run kernels on the CPU");
            failed(compiler, problem)
        })?;
    let _ = std::fs::remove_file(&text);
    if !output.status.success() {
        return Err(DeviceError::Compile {
            file: file.into(),
            architecture: "the CPU".into(),
            log: String::from_utf8_lossy(&output.stderr).into(),
        });
    }
    std::fs::rename(&own, built).map_err(|e| failed(file, e.to_string()))
}
