//! Device, stream and named buffers of a front end.

use std::sync::Arc;

use crate::nn::cuda::memory::Memory;
use crate::nn::cuda::sources::KernelName;
use crate::nn::cuda::{Arg, DeviceError, Driver, Launch, Number, Stream, bytes_mut};

/// Workspace of a front end on a device. Dropping it waits for the submitted work.
pub(in crate::front_end) struct Workspace {
    pub driver: Arc<dyn Driver>,
    pub stream: Stream,
    pub memory: Memory,
}

impl Workspace {
    pub fn new(driver: Arc<dyn Driver>, stream: Stream) -> Self {
        Self {
            driver,
            stream,
            memory: Memory::default(),
        }
    }

    /// Launches a kernel on the stream.
    pub fn launch(
        &self,
        kernel: KernelName,
        grid: [usize; 2],
        threads: u32,
        args: Vec<Arg>,
    ) -> Result<(), DeviceError> {
        let [x, y] = grid.map(|n| n as u32);
        let launch = Launch {
            kernel,
            grid: [x, y, 1],
            block: [threads, 1, 1],
            shared: 0,
            args,
        };
        // SAFETY: the callers are in sibling modules. Each passes the arguments that the kernel's
        // source declares, and buffers of the lengths that the start offsets state. The buffers
        // belong to `self` or to its owner. Each is allocated before the first launch of a batch
        // that uses it, and releasing one for a larger buffer waits for the work that still uses
        // it.
        unsafe { self.driver.launch(self.stream, &launch) }
    }

    /// Uploads values into the buffer of this name.
    pub fn upload<T: Number>(
        &mut self,
        name: &'static str,
        values: &[T],
    ) -> Result<(), DeviceError> {
        self.memory.put(&*self.driver, self.stream, name, values)
    }

    /// Reserves a buffer of this name for `count` values.
    pub fn reserve<T: Number>(
        &mut self,
        name: &'static str,
        count: usize,
    ) -> Result<(), DeviceError> {
        self.memory.room::<T>(&*self.driver, name, count)
    }

    /// Downloads the first `count` values of the buffer of this name.
    pub fn download<T: Number>(
        &self,
        name: &'static str,
        count: usize,
    ) -> Result<Vec<T>, DeviceError> {
        let mut values = vec![T::default(); count];
        self.download_into(name, 0, &mut values)?;
        Ok(values)
    }

    /// Downloads values of the buffer of this name from index `first` on.
    pub fn download_into<T: Number>(
        &self,
        name: &'static str,
        first: usize,
        values: &mut [T],
    ) -> Result<(), DeviceError> {
        let (from, offset) = (self.memory.get(name), first * size_of::<T>());
        self.driver
            .download(self.stream, from, offset, bytes_mut(values))
    }

    pub fn arg(&self, name: &'static str) -> Arg {
        Arg::from(self.memory.get(name))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // After an error, kernels may still access the buffers. The error itself was reported
        // earlier.
        let _ = self.driver.synchronise(self.stream);
    }
}
