//! The buffers of one stream, and what goes there and away without being computed.

use super::launch::word;
use super::{CudaRunError, Part, Places, Source, grow, held};
use crate::nn::cuda::driver::{Arg, Buffer, DeviceError, Driver, Launch, Stream, bytes};
use crate::nn::cuda::plan::CudaPlan;

/// Threads of a block.
const THREADS: usize = 256;

/// The buffers of one stream.
#[derive(Debug)]
pub(super) struct Lane {
    pub stream: Stream,
    pub slots: Vec<Option<Buffer>>,
    /// The factors of each dropout with given masks, by its number.
    pub masks: Vec<Option<Buffer>>,
    /// For each input, where its rows begin, if they are gathered.
    pub starts: Vec<Option<Buffer>>,
}

impl Lane {
    /// Where a value lies.
    pub(super) fn place(
        &self,
        plan: &CudaPlan,
        places: &Places,
        value: usize,
    ) -> Result<Arg, DeviceError> {
        match places.of(value) {
            Some(address) => Ok(Arg::Pointer(address)),
            None => Ok(Arg::from(held(&self.slots[plan.parts.values[value].slot]))),
        }
    }

    /// Copies `count` numbers.
    fn copy(&self, plan: &CudaPlan, x: Arg, y: Arg, count: usize) -> Result<(), DeviceError> {
        let args = vec![x, y, word(1), word(count.max(1)), word(count)];
        let blocks = count.div_ceil(THREADS);
        // SAFETY: the kernel's arguments; both places have room for so many numbers.
        unsafe {
            launch(
                &*plan.driver,
                self.stream,
                "repeat",
                blocks,
                THREADS,
                0,
                args,
            )
        }
    }

    /// Brings the part's rows of an input to its slot, if they are not read where they are.
    pub(super) fn bring(
        &mut self,
        plan: &CudaPlan,
        number: usize,
        input: &Source,
        places: &Places,
        part: Part,
    ) -> Result<(), CudaRunError> {
        let planned = &plan.parts.inputs[number];
        if places.of(planned.value).is_some() {
            return Ok(());
        }
        let driver = &*plan.driver;
        let (first, count) = (part.start * planned.elements, part.rows * planned.elements);
        if let Source::Gathered { .. } = input {
            let bytes = part.rows * size_of::<u64>();
            grow(driver, &mut self.starts[number], bytes / size_of::<f32>())?;
        }
        let slot = held(&self.slots[plan.parts.values[planned.value].slot]);
        match input {
            Source::Host(data) => {
                driver.upload(self.stream, bytes(&data[first..][..count]), slot, 0)?;
            }
            Source::Device(rows) => {
                let from = Arg::Pointer(rows.address(first, count)?);
                self.copy(plan, from, Arg::from(slot), count)?;
            }
            Source::Gathered {
                numbers, starts, ..
            } => {
                let starts = &starts[part.start..][..part.rows];
                let to = held(&self.starts[number]);
                driver.upload(self.stream, bytes(starts), to, 0)?;
                let from = Arg::Pointer(numbers.address(0, 0)?);
                let args = vec![from, Arg::from(to), Arg::from(slot), word(planned.elements)];
                // SAFETY: the kernel's arguments; the check of the inputs has found that all rows lie
                // among the numbers.
                unsafe { launch(driver, self.stream, "gather", part.rows, THREADS, 0, args) }?;
            }
        }
        Ok(())
    }

    /// Copies those outputs to where they are kept that were not computed there.
    pub(super) fn keep(
        &self,
        plan: &CudaPlan,
        places: &Places,
        rows: usize,
    ) -> Result<(), CudaRunError> {
        for &(value, to) in places.copied() {
            let from = self.place(plan, places, value)?;
            let count = rows * plan.parts.values[value].elements;
            self.copy(plan, from, Arg::Pointer(to), count)?;
        }
        Ok(())
    }
}

/// Gives a kernel to a stream, unless there is nothing to do.
///
/// # Safety
/// As [`Driver::launch`](Driver::launch). A buffer that is given up waits for the stream.
pub(super) unsafe fn launch(
    driver: &dyn Driver,
    stream: Stream,
    kernel: &str,
    blocks: usize,
    threads: usize,
    shared: usize,
    args: Vec<Arg>,
) -> Result<(), DeviceError> {
    if blocks == 0 {
        return Ok(());
    }
    let launch = Launch {
        kernel,
        grid: [blocks as u32, 1, 1],
        block: [threads as u32, 1, 1],
        shared: shared as u32,
        args,
    };
    // SAFETY: the caller's promise.
    unsafe { driver.launch(stream, &launch) }
}
