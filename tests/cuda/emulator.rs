//! A [`Driver`] that runs the kernels on the CPU: the same sources, compiled as C++ behind
//! `kernels/shim.h` by the system's compiler (`CXX`, or `c++`).
//!
//! What a stream is given waits until somebody asks for it: a copy back, a wait, or memory that is
//! given up. So a result that another stream should have made is not there, unless that was waited
//! for or the stream told to wait for it.
//!
//! A compiled source is kept in cargo's folder for tests until it, the header or the compiler
//! changes.

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
    sources: Vec<(String, String)>,
    launches: AtomicU64,
    allocated: AtomicU64,
    memory: usize,
    device: Arc<Device>,
}

/// What goes on while nobody looks.
struct Device {
    order: Order,
    streams: [Mutex<Queue>; 2],
    /// Held by who executes, so that no work overtakes what was given before it.
    executing: Mutex<()>,
    allocations: Mutex<Vec<Weak<Mutex<Memory>>>>,
    /// What failed without anybody to tell it to.
    failed: Mutex<Option<DeviceError>>,
}

/// An event, and when its stream came to it.
struct Moment {
    device: Weak<Device>,
    stream: Stream,
    reached: OnceLock<Instant>,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// How much it was given so far, and how much of that is done or begun.
    given: u64,
    begun: u64,
}

enum Work {
    /// By the host's clock.
    Event(Arc<Moment>),
    /// Until the other stream has done so much of what it was given.
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

/// Owns a buffer's memory; the device waits for everything before it gives any up.
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

    /// Does what the stream was given.
    fn catch_up(&self, stream: Stream) -> Result<(), DeviceError> {
        let _alone = self.executing.lock().unwrap_or_else(|e| e.into_inner());
        self.catch_up_to(stream, u64::MAX)
    }

    /// Does the first so much of all that the stream was ever given.
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

    /// As `catch_up`, and tells what failed before.
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
                // SAFETY: the range was checked to lie in a buffer, which waits for this before it is
                // given up.
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
        // SAFETY: the symbol is the function at the end of what `source` writes, and the kernel
        // reads arguments only if their sizes are right.
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
