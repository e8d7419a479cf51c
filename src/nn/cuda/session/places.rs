//! Values read or written outside their slots.

use super::{Part, Source, held};
use crate::nn::cuda::driver::{Buffer, DeviceError};
use crate::nn::cuda::plan::CudaPlan;

/// Alignment in bytes required by the kernels' vector loads.
const ALIGNMENT: u64 = 16;

/// Addresses of a part's inputs and outputs that are used in place, and outputs that need a copy.
#[derive(Debug, Default)]
pub(super) struct Places {
    placed: Vec<(usize, u64)>,
    copied: Vec<(usize, u64)>,
}

impl Places {
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
        let parts = &plan.parts;
        let mut places = Self::default();
        for (input, planned) in inputs.iter().zip(&parts.inputs) {
            let Source::Device(rows) = input else {
                continue;
            };
            let (first, count) = (part.start * planned.elements, part.rows * planned.elements);
            let address = rows.address(first, count)?;
            // A plan that keeps all values reads some through the slots of others.
            if address.is_multiple_of(ALIGNMENT) && !parts.keeps_all {
                places.placed.push((planned.value, address));
            }
        }
        for (output, kept) in parts.outputs.iter().zip(kept) {
            let elements = draws * parts.values[output.value].elements;
            let (first, count) = (part.start * elements, part.rows * elements);
            let bytes = |numbers: usize| numbers * size_of::<f32>();
            let address = held(kept).range(bytes(first), bytes(count))?;
            let is_input = parts.inputs.iter().any(|i| i.value == output.value);
            let elsewhere = is_input || places.of(output.value).is_some() || parts.keeps_all;
            match address.is_multiple_of(ALIGNMENT) && !elsewhere {
                true => places.placed.push((output.value, address)),
                false => places.copied.push((output.value, address)),
            }
        }
        Ok(places)
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
