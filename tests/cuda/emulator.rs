//! A [`Driver`] that runs the kernels on the CPU: the same sources, compiled as C++ with
//! `kernels/shim.h` by the system's compiler (`CXX`, or `c++`).
//!
//! Queued work is executed as late as possible: at a download, a synchronisation, or the release of
//! memory. A missing wait between streams therefore shows as a missing result.
//!
//! Compiled sources are cached in cargo's folder for tests until the source, the header or the
//! compiler changes.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Instant;

use libloading::Library;
use maeum::nn::cuda::{Arg, Buffer, DeviceError, Driver, Event, Launch, Stream, sources};

#[path = "emulator/library.rs"]
pub mod library;

use library::{Run, library};

/// Order of blocks, and of a block's threads between two barriers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Forward,
    Reverse,
    /// A new random order after each barrier.
    Shuffled,
}

pub const ORDERS: [Order; 3] = [Order::Forward, Order::Reverse, Order::Shuffled];

/// Size of the emulated device's memory.
pub const MEMORY: usize = 1 << 30;

/// Guard words after each buffer. A kernel that changes them wrote past the end. Read as floats
/// they are NaN.
const FENCE: [u64; 32] = [0xffff_ffff_ffff_fff1; 32];

/// Alignment of device memory, in bytes.
const ALIGNMENT: usize = 256;

struct Memory {
    words: Vec<u64>,
    /// Index of the first word of [`FENCE`].
    fence: usize,
    /// Length of the buffer, without alignment and guard words.
    bytes: usize,
}

pub struct Emulator {
    sources: Vec<(String, String)>,
    launches: AtomicU64,
    allocated: AtomicU64,
    memory: usize,
    device: Arc<Device>,
}

/// State shared with queued work and buffers.
struct Device {
    order: Order,
    streams: [Mutex<Queue>; 2],
    /// Held during execution, so that no work overtakes earlier work.
    executing: Mutex<()>,
    allocations: Mutex<Vec<Weak<Mutex<Memory>>>>,
    /// An error that occurred while memory was released.
    failed: Mutex<Option<DeviceError>>,
}

/// A recorded event and the time at which its stream reached it.
struct Moment {
    device: Weak<Device>,
    stream: Stream,
    reached: OnceLock<Instant>,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Number of items queued so far, and number started or done.
    given: u64,
    begun: u64,
}

enum Work {
    /// Records the host's clock.
    Event(Arc<Moment>),
    /// Waits until the other stream has done its first `given` items.
    Wait {
        stream: Stream,
        given: u64,
    },
    Copy {
        data: Vec<u8>,
        to: u64,
    },
    Launch {
        library: Arc<Library>,
        kernel: String,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: Vec<Arg>,
        number: u64,
    },
}

/// Owner of a buffer's memory. Before its release all queued work is executed.
struct Owner {
    device: Arc<Device>,
    _memory: Arc<Mutex<Memory>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        for stream in [Stream::A, Stream::B] {
            if let Err(e) = self.device.catch_up(stream) {
                let mut failed = self.device.failed.lock().unwrap_or_else(|e| e.into_inner());
                failed.get_or_insert(e);
            }
        }
    }
}

impl Device {
    fn queue(&self, stream: Stream) -> MutexGuard<'_, Queue> {
        let queue = &self.streams[usize::from(stream == Stream::B)];
        queue.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Executes the work queued on the stream.
    fn catch_up(&self, stream: Stream) -> Result<(), DeviceError> {
        let _alone = self.executing.lock().unwrap_or_else(|e| e.into_inner());
        self.catch_up_to(stream, u64::MAX)
    }

    /// Executes the first `given` items ever queued on the stream.
    fn catch_up_to(&self, stream: Stream, given: u64) -> Result<(), DeviceError> {
        loop {
            let work = {
                let mut queue = self.queue(stream);
                if queue.begun >= given {
                    return Ok(());
                }
                let Some(work) = queue.work.pop_front() else {
                    return Ok(());
                };
                queue.begun += 1;
                work
            };
            if let Err(e) = self.execute(&work) {
                let mut queue = self.queue(stream);
                queue.begun = queue.given;
                queue.work.clear();
                return Err(e);
            }
        }
    }

    /// Executes the queued work, and returns any earlier error.
    fn wait(&self, stream: Stream) -> Result<(), DeviceError> {
        self.catch_up(stream)?;
        let mut failed = self.failed.lock().unwrap_or_else(|e| e.into_inner());
        failed.take().map_or(Ok(()), Err)
    }

    fn give(&self, stream: Stream, work: Work) {
        let mut queue = self.queue(stream);
        queue.given += 1;
        queue.work.push_back(work);
    }

    fn execute(&self, work: &Work) -> Result<(), DeviceError> {
        let (library, kernel, grid, block, shared, args, number) = match work {
            Work::Event(moment) => {
                let _ = moment.reached.set(Instant::now());
                return Ok(());
            }
            Work::Wait { stream, given } => return self.catch_up_to(*stream, *given),
            Work::Copy { data, to } => {
                // SAFETY: the range was checked to lie in a buffer, whose release executes this
                // copy first.
                unsafe {
                    std::ptr::copy_nonoverlapping(data.as_ptr(), *to as *mut u8, data.len());
                }
                return Ok(());
            }
            Work::Launch {
                library,
                kernel,
                grid,
                block,
                shared,
                args,
                number,
            } => (library, kernel, grid, block, *shared, args, *number),
        };
        let mut pointers: Vec<*mut c_void> = args
            .iter()
            .map(|a| Arg::bytes(a).as_ptr().cast_mut().cast())
            .collect();
        let sizes: Vec<c_uint> = args.iter().map(|a| a.bytes().len() as c_uint).collect();
        let name = CString::new(&**kernel).unwrap();
        let mut error = [0u8; 512];
        // SAFETY: the symbol is the function that `source` appends, and the kernel reads arguments
        // only if their sizes match.
        let code = unsafe {
            let run = library.get::<Run>(c"maeum_launch").unwrap();
            run(
                name.as_ptr(),
                grid.as_ptr(),
                block.as_ptr(),
                shared,
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
            return Err(failed(kernel, text.to_string_lossy()));
        }
        self.check_fences(kernel)
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

impl Emulator {
    pub fn new(order: Order) -> Self {
        let own = |&(file, text): &(&str, &str)| (file.to_owned(), text.to_owned());
        Self {
            sources: sources::SOURCES.iter().map(own).collect(),
            launches: AtomicU64::new(0),
            allocated: AtomicU64::new(0),
            memory: MEMORY,
            device: Arc::new(Device {
                order,
                streams: Default::default(),
                executing: Mutex::default(),
                allocations: Mutex::default(),
                failed: Mutex::default(),
            }),
        }
    }

    /// Adds a source.
    pub fn with_source(mut self, file: &str, text: &str) -> Self {
        self.sources.push((file.into(), text.into()));
        self
    }

    /// Sets the size of the memory.
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Number of buffers allocated so far.
    pub fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Number of kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
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
        format!("emulator, threads {:?}", self.device.order)
    }

    fn free_memory(&self) -> Result<usize, DeviceError> {
        Ok(self.memory.saturating_sub(self.device.live_bytes()))
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.allocated.fetch_add(1, Ordering::Relaxed);
        if bytes > self.memory.saturating_sub(self.device.live_bytes()) {
            return Err(DeviceError::Memory { bytes });
        }
        // Filled with NaN, so that a read before the first write shows.
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
        self.device
            .allocations
            .lock()
            .unwrap()
            .push(Arc::downgrade(&memory));
        let owner = Owner {
            device: Arc::clone(&self.device),
            _memory: memory,
        };
        // SAFETY: the vector is neither moved nor resized until its last owner drops it.
        Ok(unsafe { Buffer::new(address, bytes, Box::new(owner)) })
    }

    fn upload(
        &self,
        stream: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        let to = to.range(offset, data.len())?;
        let data = data.to_vec();
        self.device.give(stream, Work::Copy { data, to });
        Ok(())
    }

    fn download(
        &self,
        stream: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let at = from.range(offset, data.len())? as *const u8;
        self.device.wait(stream)?;
        // SAFETY: the range lies in the buffer, which is memory of this process.
        unsafe { std::ptr::copy_nonoverlapping(at, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError> {
        let name = launch.kernel.as_str();
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
        let work = Work::Launch {
            library: library(file, text)?,
            kernel: name.into(),
            grid: launch.grid,
            block: launch.block,
            shared: launch.shared,
            args: launch.args.clone(),
            number: self.launches.fetch_add(1, Ordering::Relaxed),
        };
        self.device.give(stream, work);
        Ok(())
    }

    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError> {
        self.device.wait(stream)
    }

    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError> {
        let work = Work::Wait {
            stream: for_stream,
            given: self.device.queue(for_stream).given,
        };
        self.device.give(stream, work);
        Ok(())
    }

    fn record(&self, stream: Stream) -> Result<Event, DeviceError> {
        let moment = Arc::new(Moment {
            device: Arc::downgrade(&self.device),
            stream,
            reached: OnceLock::new(),
        });
        self.device.give(stream, Work::Event(Arc::clone(&moment)));
        Ok(Event::new(moment))
    }

    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError> {
        let reached = |event: &Event| {
            let of_device = |m: &&Arc<Moment>| m.device.as_ptr() == Arc::as_ptr(&self.device);
            let moment = event.known::<Arc<Moment>>().filter(of_device);
            let moment = moment.ok_or_else(|| failed("milliseconds", "a foreign event"))?;
            self.device.wait(moment.stream)?;
            let reached = moment.reached.get();
            reached
                .copied()
                .ok_or_else(|| failed("milliseconds", "what came before it failed"))
        };
        let (from, to) = (reached(from)?, reached(to)?);
        Ok(match to.checked_duration_since(from) {
            Some(time) => 1e3 * time.as_secs_f64(),
            None => -1e3 * (from - to).as_secs_f64(),
        })
    }
}
