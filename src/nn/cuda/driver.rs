//! What runs kernels: a GPU, or in tests something that does as if.

use std::any::Any;
use std::fmt;

/// Why a device cannot do what is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// There is no GPU of this number.
    #[error("there is no GPU number {asked}: the driver sees {present}; compute on the CPU")]
    NoGpu {
        /// The number asked for, from 0.
        asked: usize,
        /// GPUs that there are.
        present: usize,
    },
    /// A kernel source does not compile for the device.
    #[error("{file} does not compile for {architecture}: {log}")]
    Compile {
        /// The source's name.
        file: String,
        /// Such as `sm_90`.
        architecture: String,
        /// What the compiler says.
        log: String,
    },
    /// No source has a kernel of this name.
    #[error("there is no kernel {0}")]
    NoKernel(String),
    /// Device memory is used up.
    #[error("the device has no {bytes} bytes left: give a smaller batch")]
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// A copy that does not lie in its buffer.
    #[error("bytes {offset} to {end} do not lie in a buffer of {bytes}")]
    Bounds {
        /// First byte.
        offset: usize,
        /// Behind the last byte.
        end: usize,
        /// Bytes of the buffer.
        bytes: usize,
    },
    /// A call of the driver, or a kernel, failed.
    #[error("{what}: {problem}")]
    Failed {
        /// The call or the kernel.
        what: String,
        /// What the driver says.
        problem: String,
    },
}

/// A number that device memory can hold: its bytes mean the same on both sides.
pub trait Number: Copy + Default + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! numbers {
    ($($type:ty)*) => { $(impl sealed::Sealed for $type {} impl Number for $type {})* };
}

numbers!(u8 i16 i32 u32 i64 u64 f32 f64);

/// The bytes of numbers.
pub fn bytes<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: a `Number` has no padding, and any of its bytes may be read.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The bytes of numbers, to be written.
pub fn bytes_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`; and any bytes are a `Number`.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Device memory; it is given back when dropped, once what uses it is done.
pub struct Buffer {
    address: u64,
    bytes: usize,
    _owner: Box<dyn Any + Send + Sync>,
}

impl Buffer {
    /// # Safety
    /// `address` is the start of `bytes` bytes of the driver's memory, aligned to 256, which are
    /// there until `owner` is dropped.
    pub unsafe fn new(address: u64, bytes: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            address,
            bytes,
            _owner: owner,
        }
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the bytes from `offset` on lie, if `count` do.
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
    /// A struct of 32-bit numbers; a `float` is given by its bits.
    Words(Vec<u32>),
    /// A struct that begins with a pointer: see [`Arg::structure`].
    Struct(Vec<u64>),
}

impl Arg {
    /// A struct of these members as C++ lays it out: pointers and other numbers of 64 bits first, then
    /// those of 32 bits.
    pub fn structure(members: &[Self]) -> Self {
        let mut all: Vec<u8> = members.iter().flat_map(Self::bytes).copied().collect();
        all.resize(all.len().next_multiple_of(8), 0);
        let (words, _) = all.as_chunks::<8>();
        Self::Struct(words.iter().map(|w| u64::from_ne_bytes(*w)).collect())
    }

    /// The value's bytes.
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
pub struct Launch<'a> {
    /// Its name in the sources.
    pub kernel: &'a str,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension; at most 1024 together.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory, at most 48 KiB.
    pub shared: u32,
    /// In the kernel's order.
    pub args: Vec<Arg>,
}

/// A moment in what a stream does, as a driver's [`record`](Driver::record) gives it.
pub struct Event(Box<dyn Any + Send + Sync>);

impl Event {
    /// What the driver that made it knows it by.
    pub fn new(known: impl Any + Send + Sync) -> Self {
        Self(Box::new(known))
    }

    /// What it was made of, if it was made of a `T`.
    pub fn known<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

/// One of the queues of a driver: what is given to one of them is done in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The first.
    A,
    /// The second, which runs beside it.
    B,
}

/// A device with memory and kernels.
pub trait Driver: Send + Sync {
    /// What it is, for messages.
    fn name(&self) -> String;

    /// Bytes of memory that are free.
    ///
    /// # Errors
    /// If the device does not answer.
    fn free_memory(&self) -> Result<usize, DeviceError>;

    /// Memory with any content.
    ///
    /// # Errors
    /// If there is not so much.
    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError>;

    /// Copies `data` to `to` from byte `offset` on, behind what `stream` was given. The copy may
    /// go on after this returns; `data` is no longer needed then.
    ///
    /// # Errors
    /// If it does not lie in the buffer, or the device fails.
    fn upload(
        &self,
        stream: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError>;

    /// Copies from byte `offset` of `from` on, behind what `stream` was given, and waits for it.
    ///
    /// # Errors
    /// If it does not lie in the buffer, or the device or what it was given to do fails.
    fn download(
        &self,
        stream: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError>;

    /// Gives a kernel to `stream`.
    ///
    /// # Errors
    /// If there is no such kernel, or the device refuses it. What goes wrong in the kernel
    /// may be told by a later call.
    ///
    /// # Safety
    /// The arguments are those of the kernel, which stays within its buffers and its shared memory with
    /// them; the buffers live until the stream has been waited for.
    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError>;

    /// Waits until everything that `stream` was given is done.
    ///
    /// # Errors
    /// If any of it failed.
    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError>;

    /// Lets what `stream` is given from here on begin only when all that `for_stream` was given so
    /// far is done. Returns at once.
    ///
    /// # Errors
    /// If the device refuses it.
    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError>;

    /// Marks the moment at which everything that `stream` was given so far is done.
    ///
    /// # Errors
    /// If the device fails.
    fn record(&self, stream: Stream) -> Result<Event, DeviceError>;

    /// Milliseconds from one event to another, told by the device's clock; waits for both.
    ///
    /// # Errors
    /// If they are not events of this driver, or the device or what it was given to do fails.
    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError>;
}

/// The error for an event of another driver.
pub(super) fn foreign_event() -> DeviceError {
    DeviceError::Failed {
        what: "milliseconds".into(),
        problem: "the event is another driver's".into(),
    }
}
