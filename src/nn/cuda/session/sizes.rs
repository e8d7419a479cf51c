//! How much memory the values of a plan take.

use crate::nn::cuda::driver::{Buffer, DeviceError, Driver};
use crate::nn::cuda::plan::CudaPlan;

/// The buffer of a slot, which `begin` has given one.
pub(super) fn held(slot: &Option<Buffer>) -> &Buffer {
    slot.as_ref().expect("a slot of a part that was begun")
}

/// Makes the buffer at least so many numbers large; what it held is lost then.
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

/// Decisions of each dropout per row of the batch.
pub(super) fn mask_sizes(plan: &CudaPlan) -> Vec<usize> {
    let mut sizes = vec![0; plan.parts.dropouts];
    for d in plan.parts.dropouts() {
        sizes[d.number as usize] = d.units;
    }
    sizes
}
