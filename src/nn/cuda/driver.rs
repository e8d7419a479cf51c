//! Interface to a GPU; tests substitute an emulator.

use std::any::Any;
use std::fmt;

use super::sources::KernelName;

/// Error of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// CUDA's driver library cannot be loaded.
    #[error(
        "there is no NVIDIA driver on this machine (libcuda was not found): install it, or compute on the CPU"
    )]
    NoDriver,
    /// CUDA's run-time compiler cannot be loaded.
    #[error(
        "CUDA's run-time compiler (libnvrtc) was not found: install it (CUDA's package cuda-nvrtc, or nvidia-cuda-nvrtc-cu12 from PyPI), put its folder into LD_LIBRARY_PATH, or compute on the CPU"
    )]
    NoCompiler,
    /// There is no GPU with this index.
    #[error("there is no GPU number {asked}: the driver sees {present}; compute on the CPU")]
    NoGpu {
        /// The requested index, from 0.
        asked: usize,
        /// Number of GPUs present.
        present: usize,
    },
    /// A kernel source does not compile for the device.
    #[error("{file} does not compile for {architecture}: {log}")]
    Compile {
        /// Name of the source.
        file: String,
        /// Architecture, such as `sm_90`.
        architecture: String,
        /// Log of the compiler.
        log: String,
    },
    /// No source has a kernel of this name.
    #[error("there is no kernel {0}")]
    NoKernel(String),
    /// Device memory is exhausted.
    #[error("the device has no {bytes} bytes left: give a smaller batch")]
    Memory {
        /// Bytes requested.
        bytes: usize,
    },
    /// A copy does not lie within its buffer.
    #[error("bytes {offset} to {end} do not lie in a buffer of {bytes}")]
    Bounds {
        /// Offset of the first byte.
        offset: usize,
        /// Offset past the last byte.
        end: usize,
        /// Bytes of the buffer.
        bytes: usize,
    },
    /// A call of the driver, or a kernel, failed.
    #[error("{what}: {problem}")]
    Failed {
        /// Name of the call or kernel.
        what: String,
        /// Error of the driver.
        problem: String,
    },
}

/// Element type of device memory, with the same representation on host and device.
pub trait Number: Copy + Default + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($type:ty)*) => { $(impl sealed::Sealed for $type {} impl Number for $type {})* };
}

numbers!(u8 i16 i32 u32 i64 u64 f32 f64);

/// Returns the elements as bytes.
pub fn bytes<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: a `Number` has no padding, and any of its bytes may be read.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// Returns the elements as writable bytes.
pub fn bytes_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: see `bytes`; every bit pattern is a valid `Number`.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Device memory. It is freed when dropped, after pending work on it is done.
pub struct Buffer {
    address: u64,
    bytes: usize,
    _owner: Box<dyn Any + Send + Sync>,
}

impl Buffer {
    /// Wraps an allocation.
    ///
    /// # Safety
    /// `address` is the start of `bytes` bytes of the driver's memory, aligned to 256, which stay
    /// allocated until `owner` is dropped.
    pub unsafe fn new(address: u64, bytes: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            address,
            bytes,
            _owner: owner,
        }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the address of byte `offset` if `count` bytes from there lie in the buffer.
    ///
    /// # Errors
    /// If they do not.
    pub fn range(&self, offset: usize, count: usize) -> Result<u64, DeviceError> {
        match offset.checked_add(count) {
            Some(end) if end <= self.bytes => Ok(self.address + offset as u64),
            end => Err(DeviceError::Bounds {
                offset,
                end: end.unwrap_or(usize::MAX),
                bytes: self.bytes,
            }),
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes)
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Device memory.
    Pointer(u64),
    /// `unsigned`
    U32(u32),
    /// `int`
    I32(i32),
    /// `unsigned long long`
    U64(u64),
    /// `float`
    F32(f32),
    /// `double`
    F64(f64),
    /// A struct of 32-bit members; a `float` is passed by its bits.
    Words(Vec<u32>),
    /// A struct that begins with a pointer: see [`Arg::structure`].
    Struct(Vec<u64>),
}

impl Arg {
    /// Lays out members like a C++ struct. 64-bit members (pointers) must come first.
    pub fn structure(members: &[Self]) -> Self {
        let mut all: Vec<u8> = members.iter().flat_map(Self::bytes).copied().collect();
        all.resize(all.len().next_multiple_of(8), 0);
        let (words, _) = all.as_chunks::<8>();
        Self::Struct(words.iter().map(|w| u64::from_ne_bytes(*w)).collect())
    }

    /// Bytes of the value.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Pointer(v) | Self::U64(v) => bytes(std::slice::from_ref(v)),
            Self::U32(v) => bytes(std::slice::from_ref(v)),
            Self::I32(v) => bytes(std::slice::from_ref(v)),
            Self::F32(v) => bytes(std::slice::from_ref(v)),
            Self::F64(v) => bytes(std::slice::from_ref(v)),
            Self::Words(v) => bytes(v),
            Self::Struct(v) => bytes(v),
        }
    }
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Self {
        Self::Pointer(buffer.address)
    }
}

impl From<u32> for Arg {
    fn from(v: u32) -> Self {
        Self::U32(v)
    }
}

impl From<i32> for Arg {
    fn from(v: i32) -> Self {
        Self::I32(v)
    }
}

impl From<u64> for Arg {
    fn from(v: u64) -> Self {
        Self::U64(v)
    }
}

impl From<f32> for Arg {
    fn from(v: f32) -> Self {
        Self::F32(v)
    }
}

impl From<f64> for Arg {
    fn from(v: f64) -> Self {
        Self::F64(v)
    }
}

/// One launch of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// Kernel of the sources.
    pub kernel: KernelName,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension; at most 1024 together.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory, at most 48 KiB.
    pub shared: u32,
    /// Arguments in the kernel's order.
    pub args: Vec<Arg>,
}

/// A point in a stream's work, made by [`Driver::record`].
pub struct Event(Box<dyn Any + Send + Sync>);

impl Event {
    /// Wraps the driver's handle.
    pub fn new(known: impl Any + Send + Sync) -> Self {
        Self(Box::new(known))
    }

    /// Returns the driver's handle if it is a `T`.
    pub fn known<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// One of two queues; each executes its work in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The first stream.
    A,
    /// The second stream, concurrent with the first.
    B,
}

/// A device with memory and kernels.
pub trait Driver: Send + Sync {
    /// Name for messages.
    fn name(&self) -> String;

    /// Free device memory in bytes.
    ///
    /// # Errors
    /// If the device fails.
    fn free_memory(&self) -> Result<usize, DeviceError>;

    /// Allocates uninitialised memory.
    ///
    /// # Errors
    /// If there is not enough free memory.
    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError>;

    /// Copies `data` to byte `offset` of `to`, after the work queued on `stream`. May return before
    /// the copy is done; `data` is not read afterwards.
    ///
    /// # Errors
    /// If the copy exceeds the buffer, or the device fails.
    fn upload(
        &self,
        stream: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError>;

    /// Copies from byte `offset` of `from`, after the work queued on `stream`, and waits for the
    /// copy.
    ///
    /// # Errors
    /// If the copy exceeds the buffer, or the device or any queued work fails.
    fn download(
        &self,
        stream: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError>;

    /// Queues a kernel on `stream`.
    ///
    /// # Errors
    /// If there is no such kernel, or the device rejects the launch. A failure inside the kernel
    /// may be reported by a later call.
    ///
    /// # Safety
    /// The arguments match the kernel's parameters, and with them the kernel stays within its
    /// buffers and shared memory. The buffers live until the stream is synchronised.
    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError>;

    /// Waits until all work queued on `stream` is done.
    ///
    /// # Errors
    /// If any of it failed.
    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError>;

    /// Makes later work on `stream` wait for the work queued so far on `for_stream`. Returns at
    /// once.
    ///
    /// # Errors
    /// If the device rejects it.
    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError>;

    /// Records an event after the work queued so far on `stream`.
    ///
    /// # Errors
    /// If the device fails.
    fn record(&self, stream: Stream) -> Result<Event, DeviceError>;

    /// Returns the milliseconds between two events on the device's clock; waits for both.
    ///
    /// # Errors
    /// If an event belongs to another driver, or the device or any queued work fails.
    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError>;
}

/// Returns the error for an event of another driver.
pub(super) fn foreign_event() -> DeviceError {
    DeviceError::Failed {
        what: "milliseconds".into(),
        problem: "the event is another driver's".into(),
    }
}
