//! A driver that tells how long each kernel takes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::driver::{Buffer, DeviceError, Driver, Launch, Stream};

/// Runs one kernel at a time on another driver and keeps how long each took, from the launch to
/// its end: some microseconds of that are the launch itself.
pub struct Timed {
    inner: Arc<dyn Driver>,
    launches: Mutex<Vec<(String, Duration)>>,
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timed").field(&self.inner.name()).finish()
    }
}

impl Timed {
    /// Times the kernels on `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self {
            inner,
            launches: Mutex::default(),
        }
    }

    /// The kernels that ran since this was last asked, in their order, with their times.
    pub fn take(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut *self.launches.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Driver for Timed {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn free_memory(&self) -> Result<usize, DeviceError> {
        self.inner.free_memory()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.inner.allocate(bytes)
    }

    fn upload(
        &self,
        stream: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        self.inner.upload(stream, data, to, offset)
    }

    fn download(
        &self,
        stream: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.inner.download(stream, from, offset, data)
    }

    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError> {
        // Nothing else is at work meanwhile.
        self.inner.synchronise(Stream::A)?;
        self.inner.synchronise(Stream::B)?;
        let begin = Instant::now();
        // SAFETY: the caller's promise is the inner driver's.
        unsafe { self.inner.launch(stream, launch) }?;
        self.inner.synchronise(stream)?;
        let took = begin.elapsed();
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        launches.push((launch.kernel.into(), took));
        Ok(())
    }

    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError> {
        self.inner.synchronise(stream)
    }

    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError> {
        self.inner.wait(stream, for_stream)
    }
}
