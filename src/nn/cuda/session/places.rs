//! Values that do not lie in their slots.

use super::{Part, Source, held};
use crate::nn::cuda::driver::{Buffer, DeviceError};
use crate::nn::cuda::plan::CudaPlan;

/// What the kernels may ask of an address, in bytes, so that they can load vectors of numbers.
const ALIGNMENT: u64 = 16;

/// Where a part's inputs are read and its outputs written without a copy, and what must be copied.
#[derive(Debug, Default)]
pub(super) struct Places {
    placed: Vec<(usize, u64)>,
    copied: Vec<(usize, u64)>,
}

impl Places {
    /// `kept` has the buffers of the outputs, if these stay on the device.
    ///
    /// # Errors
    /// If a buffer has not the rows.
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
            // A plan that keeps all reads values through the slots of others.
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

    /// Where a value lies, if not in its slot.
    pub fn of(&self, value: usize) -> Option<u64> {
        let found = self.placed.iter().find(|(placed, _)| *placed == value);
        found.map(|(_, address)| *address)
    }

    /// Outputs that are computed elsewhere, and where they are to be kept.
    pub fn copied(&self) -> &[(usize, u64)] {
        &self.copied
    }
}
