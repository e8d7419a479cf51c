//! A driver that tells how long each kernel takes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::driver::{Buffer, DeviceError, Driver, Event, Launch, Stream};
use super::work::Work;

/// Gives everything to one stream of another driver, so that kernels run one at a time, and has an
/// event recorded before and behind each. The device's clock tells the times; where it does not
/// wait for the host, some microsecond of each is the events' own.
pub struct Timed {
    inner: Arc<dyn Driver>,
    launches: Mutex<Vec<Recorded>>,
    /// Bytes of the buffers by their addresses.
    buffers: Mutex<BTreeMap<u64, u64>>,
}

struct Recorded {
    kernel: String,
    work: Work,
    from: Event,
    to: Event,
}

/// A launch that was timed.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    /// The kernel's name.
    pub kernel: String,
    /// What it had to do.
    pub work: Work,
    /// How long that took.
    pub time: Duration,
    /// From the beginning of the first launch that was taken with it to the end of this one.
    pub until: Duration,
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timed").field(&self.inner.name()).finish()
    }
}

/// What a panic in another thread leaves is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Timed {
    /// Times the kernels on `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Self {
        Self {
            inner,
            launches: Mutex::default(),
            buffers: Mutex::default(),
        }
    }

    /// The kernels that were launched since this was last asked, in their order; waits for them.
    ///
    /// # Errors
    /// If one of them, or the device, failed.
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

    /// Bytes from an address to the end of its buffer; 0 if it lies in none.
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
        // Whatever was there before was given up.
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
        // SAFETY: the caller's promise is the inner driver's; what waits for the stream that it names
        // waits for this one.
        unsafe { self.inner.launch(Stream::A, launch) }?;
        let to = self.inner.record(Stream::A)?;
        lock(&self.launches).push(Recorded {
            kernel: launch.kernel.into(),
            work,
            from,
            to,
        });
        Ok(())
    }

    fn synchronise(&self, _: Stream) -> Result<(), DeviceError> {
        self.inner.synchronise(Stream::A)
    }

    /// There is but one stream.
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
