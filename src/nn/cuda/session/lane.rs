//! Buffers of one stream: slots, values used in place, and the transfers to and from them.

use super::{CudaRunError, Part, Source};
use crate::nn::cuda::driver::{Arg, Buffer, DeviceError, Driver, Launch, Stream, bytes};
use crate::nn::cuda::ops::{KernelLaunch, THREADS, size_arg};
use crate::nn::cuda::plan::CudaPlan;
use crate::nn::cuda::sources::names;

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
    pub(super) fn address(
        &self,
        plan: &CudaPlan,
        in_place: &InPlaceBuffers,
        value: usize,
    ) -> Result<Arg, DeviceError> {
        match in_place.of(value) {
            Some(address) => Ok(Arg::Pointer(address)),
            None => Ok(Arg::from(held(
                &self.slots[plan.lowered.values[value].slot],
            ))),
        }
    }

    /// Copies `count` elements.
    fn copy(&self, plan: &CudaPlan, x: Arg, y: Arg, count: usize) -> Result<(), DeviceError> {
        let args = vec![x, y, size_arg(1), size_arg(count.max(1))];
        let call = KernelLaunch::each(names::REPEAT, count, args);
        // SAFETY: the arguments match the kernel; both ranges have `count` elements.
        unsafe { launch(&*plan.driver, self.stream, call) }
    }

    /// Uploads or copies the part's rows of an input to its slot, unless they are read in place.
    pub(super) fn load_input(
        &mut self,
        plan: &CudaPlan,
        number: usize,
        input: &Source,
        in_place: &InPlaceBuffers,
        part: Part,
    ) -> Result<(), CudaRunError> {
        let planned = &plan.lowered.inputs[number];
        if in_place.of(planned.value).is_some() {
            return Ok(());
        }
        let driver = &*plan.driver;
        let (first, count) = (part.start * planned.elements, part.rows * planned.elements);
        if let Source::Gathered { .. } = input {
            let bytes = part.rows * size_of::<u64>();
            grow(driver, &mut self.starts[number], bytes / size_of::<f32>())?;
        }
        let slot = held(&self.slots[plan.lowered.values[planned.value].slot]);
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
                let call = KernelLaunch {
                    kernel: names::GATHER,
                    blocks: part.rows,
                    threads: THREADS,
                    shared: 0,
                    args: vec![
                        from,
                        Arg::from(to),
                        Arg::from(slot),
                        size_arg(planned.elements),
                    ],
                };
                // SAFETY: the arguments match the kernel; the check of the inputs ensured that all
                // rows lie within the buffer.
                unsafe { launch(driver, self.stream, call) }?;
            }
        }
        Ok(())
    }

    /// Copies those outputs into `kept` that were not computed there.
    pub(super) fn store_outputs(
        &self,
        plan: &CudaPlan,
        in_place: &InPlaceBuffers,
        rows: usize,
    ) -> Result<(), CudaRunError> {
        for &(value, to) in in_place.copied() {
            let from = self.address(plan, in_place, value)?;
            let count = rows * plan.lowered.values[value].elements;
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
    call: KernelLaunch,
) -> Result<(), DeviceError> {
    if call.blocks == 0 {
        return Ok(());
    }
    let launch = Launch {
        kernel: call.kernel,
        grid: [call.blocks as u32, 1, 1],
        block: [call.threads as u32, 1, 1],
        shared: call.shared as u32,
        args: call.args,
    };
    // SAFETY: guaranteed by the caller.
    unsafe { driver.launch(stream, &launch) }
}

/// Alignment in bytes required by the kernels' vector loads.
const ALIGNMENT: u64 = 16;

/// Addresses of a part's inputs and outputs that are used in place, and outputs that need a copy.
#[derive(Debug, Default)]
pub(super) struct InPlaceBuffers {
    placed: Vec<(usize, u64)>,
    copied: Vec<(usize, u64)>,
}

impl InPlaceBuffers {
    /// Assigns addresses; `kept` holds the buffers of outputs that stay on the device.
    ///
    /// # Errors
    /// If a buffer is too small.
    pub fn new(
        plan: &CudaPlan,
        inputs: &[Source],
        kept: &[Option<Buffer>],
        part: Part,
        draws: usize,
    ) -> Result<Self, DeviceError> {
        let lowered = &plan.lowered;
        let mut in_place = Self::default();
        for (input, planned) in inputs.iter().zip(&lowered.inputs) {
            let Source::Device(rows) = input else {
                continue;
            };
            let (first, count) = (part.start * planned.elements, part.rows * planned.elements);
            let address = rows.address(first, count)?;
            // A plan that keeps all values reads some through the slots of others.
            if address.is_multiple_of(ALIGNMENT) && !lowered.keeps_all {
                in_place.placed.push((planned.value, address));
            }
        }
        for (output, kept) in lowered.outputs.iter().zip(kept) {
            let elements = draws * lowered.values[output.value].elements;
            let (first, count) = (part.start * elements, part.rows * elements);
            let bytes = |numbers: usize| numbers * size_of::<f32>();
            let address = held(kept).range(bytes(first), bytes(count))?;
            let is_input = lowered.inputs.iter().any(|i| i.value == output.value);
            let elsewhere = is_input || in_place.of(output.value).is_some() || lowered.keeps_all;
            match address.is_multiple_of(ALIGNMENT) && !elsewhere {
                true => in_place.placed.push((output.value, address)),
                false => in_place.copied.push((output.value, address)),
            }
        }
        Ok(in_place)
    }

    /// Returns the address of a value outside its slot.
    pub fn of(&self, value: usize) -> Option<u64> {
        let found = self.placed.iter().find(|(placed, _)| *placed == value);
        found.map(|(_, address)| *address)
    }

    /// Outputs to copy, with their target addresses.
    pub fn copied(&self) -> &[(usize, u64)] {
        &self.copied
    }
}

/// Returns the buffer of a slot, which `CudaSession::queue` has allocated.
pub(super) fn held(slot: &Option<Buffer>) -> &Buffer {
    slot.as_ref().expect("a slot of a part that was begun")
}

/// Ensures room for this number of elements; growing discards the contents.
pub(super) fn grow(
    driver: &dyn Driver,
    slot: &mut Option<Buffer>,
    numbers: usize,
) -> Result<(), DeviceError> {
    let bytes = numbers * size_of::<f32>();
    if slot.as_ref().is_none_or(|b| b.bytes() < bytes) {
        *slot = None;
        *slot = Some(driver.allocate(bytes)?);
    }
    Ok(())
}

/// Decisions of each dropout per batch row.
pub(super) fn mask_sizes(plan: &CudaPlan) -> Vec<usize> {
    let mut sizes = vec![0; plan.lowered.dropouts];
    for d in plan.lowered.dropouts() {
        sizes[d.number as usize] = d.units;
    }
    sizes
}
