//! A device, a stream of it, and what the front end keeps there.

use std::sync::Arc;

use crate::nn::cuda::memory::Memory;
use crate::nn::cuda::{Arg, DeviceError, Driver, Launch, Number, Stream, bytes_mut};

/// Where a front end works. It is left only when what it was given is done.
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

    /// Gives a kernel to the stream.
    pub fn launch(
        &self,
        kernel: &str,
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
        // SAFETY: the callers, all in this module's siblings, give each kernel the arguments that its source
        // asks for, with buffers as long as the starts say that go with them. Those are kept in `self` or
        // beside it; each gets its size before the first launch of a batch that uses it, and one that is
        // given up for a larger one waits for what still uses it.
        unsafe { self.driver.launch(self.stream, &launch) }
    }

    /// Puts numbers into the memory of this name.
    pub fn put<T: Number>(&mut self, name: &'static str, numbers: &[T]) -> Result<(), DeviceError> {
        self.memory.put(&*self.driver, self.stream, name, numbers)
    }

    /// Makes room for numbers.
    pub fn room<T: Number>(&mut self, name: &'static str, count: usize) -> Result<(), DeviceError> {
        self.memory.room::<T>(&*self.driver, name, count)
    }

    /// Takes numbers from the memory of this name, from the first on.
    pub fn take<T: Number>(&self, name: &'static str, count: usize) -> Result<Vec<T>, DeviceError> {
        let mut numbers = vec![T::default(); count];
        self.take_into(name, 0, &mut numbers)?;
        Ok(numbers)
    }

    /// Takes numbers from the memory of this name.
    pub fn take_into<T: Number>(
        &self,
        name: &'static str,
        first: usize,
        numbers: &mut [T],
    ) -> Result<(), DeviceError> {
        let (from, offset) = (self.memory.get(name), first * size_of::<T>());
        self.driver
            .download(self.stream, from, offset, bytes_mut(numbers))
    }

    pub fn arg(&self, name: &'static str) -> Arg {
        Arg::from(self.memory.get(name))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Kernels may still be at work on its memory after an error. What this says was said then.
        let _ = self.driver.synchronise(self.stream);
    }
}
