//! A driver that measures the time of each kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::driver::{Buffer, DeviceError, Driver, Event, Launch, Stream};
use super::work::Work;

/// Wraps a driver and serialises all work on one stream, with an event before and after each
/// kernel. Times are those of the device's clock. Unless the device waits for the host, the events
/// add about a microsecond per kernel.
pub struct Timed {
    inner: Arc<dyn Driver>,
    launches: Mutex<Vec<Recorded>>,
    /// Size in bytes of each buffer, by address.
    buffers: Mutex<BTreeMap<u64, u64>>,
}

struct Recorded {
    kernel: String,
    work: Work,
    from: Event,
    to: Event,
}

/// A timed launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// Name of the kernel.
    pub kernel: String,
    /// Minimum work of the launch.
    pub work: Work,
    /// Duration of the launch.
    pub time: Duration,
    /// Time from the start of the first launch of the same batch of results to the end of this one.
    pub until: Duration,
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timed").field(&self.inner.name()).finish()
    }
}

/// Ignores poisoning: the guarded state is valid after a panic in another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timed {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self {
            inner,
            launches: Mutex::default(),
            buffers: Mutex::default(),
        }
    }

    /// Returns the launches since the last call, in order; waits for them.
    ///
    /// # Errors
    /// If a launch or the device failed.
    pub fn take(&self) -> Result<Vec<Timing>, DeviceError> {
        let launches = std::mem::take(&mut *lock(&self.launches));
        let between = |from: &Event, to: &Event| {
            let seconds = self.inner.milliseconds(from, to)? / 1e3;
            Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
        };
        let timing = |launch: &Recorded| {
            Ok(Timing {
                kernel: launch.kernel.clone(),
                work: launch.work,
                time: between(&launch.from, &launch.to)?,
                until: between(&launches[0].from, &launch.to)?,
            })
        };
        launches.iter().map(timing).collect()
    }

    /// Bytes from an address to the end of its buffer; 0 outside all buffers.
    fn behind(&self, address: u64) -> u64 {
        let buffers = lock(&self.buffers);
        let before = buffers.range(..=address).next_back();
        before.map_or(0, |(start, bytes)| (start + bytes).saturating_sub(address))
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
        let buffer = self.inner.allocate(bytes)?;
        let (start, bytes) = (buffer.range(0, 0)?, bytes as u64);
        let mut buffers = lock(&self.buffers);
        // Older buffers in this range have been freed.
        buffers.retain(|&other, length| other + *length <= start || other >= start + bytes);
        buffers.insert(start, bytes);
        Ok(buffer)
    }

    fn upload(
        &self,
        _: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        self.inner.upload(Stream::A, data, to, offset)
    }

    fn download(
        &self,
        _: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.inner.download(Stream::A, from, offset, data)
    }

    unsafe fn launch(&self, _: Stream, launch: &Launch) -> Result<(), DeviceError> {
        let work = Work::of(launch, |address| self.behind(address));
        let from = self.inner.record(Stream::A)?;
        // SAFETY: guaranteed by the caller. All streams map to one, so waiting for the named stream
        // waits for this launch.
        unsafe { self.inner.launch(Stream::A, launch) }?;
        let to = self.inner.record(Stream::A)?;
        lock(&self.launches).push(Recorded {
            kernel: launch.kernel.as_str().into(),
            work,
            from,
            to,
        });
        Ok(())
    }

    fn synchronise(&self, _: Stream) -> Result<(), DeviceError> {
        self.inner.synchronise(Stream::A)
    }

    /// Does nothing: there is only one stream.
    fn wait(&self, _: Stream, _: Stream) -> Result<(), DeviceError> {
        Ok(())
    }

    fn record(&self, _: Stream) -> Result<Event, DeviceError> {
        self.inner.record(Stream::A)
    }

    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError> {
        self.inner.milliseconds(from, to)
    }
}
