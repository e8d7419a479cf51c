//! Buffers of one stream, and the transfers to and from them.

use super::launch::word;
use super::{CudaRunError, Part, Places, Source, grow, held};
use crate::nn::cuda::driver::{Arg, Buffer, DeviceError, Driver, Launch, Stream, bytes};
use crate::nn::cuda::plan::CudaPlan;

/// Threads per block.
const THREADS: usize = 256;

/// Buffers of one stream.
#[derive(Debug)]
pub(super) struct Lane {
    pub stream: Stream,
    pub slots: Vec<Option<Buffer>>,
    /// Factors of each dropout whose masks are given, by dropout number.
    pub masks: Vec<Option<Buffer>>,
    /// Row offsets of each gathered input.
    pub starts: Vec<Option<Buffer>>,
}

impl Lane {
    /// Address of a value.
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

    /// Copies `count` elements.
    fn copy(&self, plan: &CudaPlan, x: Arg, y: Arg, count: usize) -> Result<(), DeviceError> {
        let args = vec![x, y, word(1), word(count.max(1)), word(count)];
        let blocks = count.div_ceil(THREADS);
        // SAFETY: the arguments match the kernel; both ranges have `count` elements.
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

    /// Uploads or copies the part's rows of an input to its slot, unless they are read in place.
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
                // SAFETY: the arguments match the kernel; the check of the inputs ensured that all
                // rows lie within the buffer.
                unsafe { launch(driver, self.stream, "gather", part.rows, THREADS, 0, args) }?;
            }
        }
        Ok(())
    }

    /// Copies those outputs into `kept` that were not computed there.
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

/// Queues a kernel on a stream; does nothing for zero blocks.
///
/// # Safety
/// See [`Driver::launch`](Driver::launch). Freeing a buffer waits for the stream.
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
    // SAFETY: guaranteed by the caller.
    unsafe { driver.launch(stream, &launch) }
}
