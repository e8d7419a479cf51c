//! Kernel sources compiled as C++ shared libraries.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use libloading::Library;
use maeum::nn::cuda::{DeviceError, sources};
use sha2::{Digest, Sha256};

use super::failed;

/// Signature of `maeum_launch`, which every library exports.
pub type Run = unsafe extern "C" fn(
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

/// Returns the C++ file: the source and a table of its kernels.
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
extern \"C\" __attribute__((visibility(\"default\")))
int maeum_sizes(const char *name, unsigned *sizes, unsigned room) {
    for (const emulated::Kernel &k : TABLE)
        if (strcmp(k.name, name) == 0 && k.sizes.size() <= room) {
            std::copy(k.sizes.begin(), k.sizes.end(), sizes);
            return int(k.sizes.size());
        }
    return -1;
}
",
    );
    whole
}

/// Returns the compiled source, loaded once. Only its entry points are exported, so that equal
/// names in two sources stay separate.
pub fn library(file: &str, text: &str) -> Result<Arc<Library>, DeviceError> {
    static LOADED: Mutex<Option<HashMap<String, Arc<Library>>>> = Mutex::new(None);
    let mut loaded = LOADED.lock().unwrap_or_else(|e| e.into_inner());
    let loaded = loaded.get_or_insert_default();
    let key = format!("{file}\n{text}");
    if let Some(library) = loaded.get(&key) {
        return Ok(library.clone());
    }
    let built = built(file, text)?;
    // SAFETY: the library was compiled from the text above and runs nothing when loaded.
    let library = unsafe { Library::new(&built) }.map_err(|e| failed(file, e.to_string()))?;
    let library = Arc::new(library);
    loaded.insert(key, library.clone());
    Ok(library)
}

/// Returns the path of the compiled source.
pub fn built(file: &str, text: &str) -> Result<PathBuf, DeviceError> {
    let dir = kernels_dir();
    let read = |name: &str| {
        std::fs::read_to_string(dir.join(name)).map_err(|e| failed(name, e.to_string()))
    };
    // Compiled for this machine's CPU.
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find(|l| l.starts_with("flags"));
    let made_of = [
        &*read("shim.h")?,
        &read("maeum.cuh")?,
        processor.unwrap_or_default(),
    ];
    shared_object(file, &source(file, text), &dir, &made_of)
}

/// Compiles a C++ text to a shared object, unless one with the same text and the same `made_of`
/// exists.
pub fn shared_object(
    name: &str,
    text: &str,
    include: &Path,
    made_of: &[&str],
) -> Result<PathBuf, DeviceError> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut hash = Sha256::new();
    let flags = FLAGS.join(" ");
    for part in [text, &*compiler, &*flags].iter().chain(made_of) {
        hash.update(part);
    }
    let hash: String = hash.finalize()[..12]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulator");
    std::fs::create_dir_all(&cache).map_err(|e| failed(name, e.to_string()))?;
    let built = cache.join(format!("{name}-{hash}.so"));
    // Serialises concurrent compilations by tests of this process.
    static COMPILING: Mutex<()> = Mutex::new(());
    let _alone = COMPILING.lock().unwrap_or_else(|e| e.into_inner());
    if !built.exists() {
        compile(&compiler, text, name, include, &built)?;
    }
    Ok(built)
}

fn compile(
    compiler: &str,
    whole: &str,
    file: &str,
    include: &Path,
    built: &Path,
) -> Result<(), DeviceError> {
    // Another process may compile the same text; the last rename wins.
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
