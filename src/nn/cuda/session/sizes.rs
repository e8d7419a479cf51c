//! Buffer sizes of a plan's values.

use crate::nn::cuda::driver::{Buffer, DeviceError, Driver};
use crate::nn::cuda::plan::CudaPlan;

/// Returns the buffer of a slot, which `begin` has allocated.
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
    let mut sizes = vec![0; plan.parts.dropouts];
    for d in plan.parts.dropouts() {
        sizes[d.number as usize] = d.units;
    }
    sizes
}
