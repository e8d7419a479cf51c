//! Checks of a run's inputs and masks, common to the CPU and CUDA sessions.

use super::RunError;
use crate::nn::dropout::DropoutMode;

/// Checks that every input holds `batch * elements_per_row` elements. `planned` lists the names and
/// elements per row of the plan's inputs; `holds(input, batch, elements)` is the number of elements
/// that an input holds.
///
/// # Errors
/// When the number of inputs is wrong, or one is not `batch` rows.
pub(in crate::nn) fn check_inputs<'a, I>(
    planned: impl ExactSizeIterator<Item = (&'a str, usize)>,
    inputs: &[I],
    holds: impl Fn(&I, usize, usize) -> usize,
    batch: usize,
) -> Result<(), RunError> {
    if inputs.len() != planned.len() {
        return Err(RunError::Inputs {
            expected: planned.len(),
            given: inputs.len(),
        });
    }
    for ((name, elements), data) in planned.zip(inputs) {
        let given = holds(data, batch, elements);
        if Some(given) != batch.checked_mul(elements) {
            return Err(RunError::InputLength {
                name: name.into(),
                given,
                batch,
                elements,
            });
        }
    }
    Ok(())
}

/// Checks that every forced dropout has a mask of `batch` rows; `dropouts` lists names and units.
///
/// # Errors
/// When masks are given and one is missing or does not have one decision per row and unit.
pub(in crate::nn) fn check_masks<'a>(
    dropouts: impl Iterator<Item = (&'a str, usize)>,
    batch: usize,
    mode: &DropoutMode,
) -> Result<(), RunError> {
    let DropoutMode::Masks(masks) = mode else {
        return Ok(());
    };
    for (name, units) in dropouts {
        let mask = masks
            .0
            .get(name)
            .ok_or_else(|| RunError::MissingMask(name.into()))?;
        if Some(mask.len()) != batch.checked_mul(units) {
            return Err(RunError::MaskLength {
                name: name.into(),
                given: mask.len(),
                expected: batch.saturating_mul(units),
            });
        }
    }
    Ok(())
}
