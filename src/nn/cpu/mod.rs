//! The arithmetic of the layers on the CPU.
//!
//! Every output number is summed up in one fixed order, and every multiply-add is fused, on every
//! instruction set. So all of them give the same bits, whatever the batch size or the number of
//! threads.

#![expect(
    clippy::needless_range_loop,
    reason = "constant indices keep accumulators in registers"
)]

pub(crate) mod conv;
pub(crate) mod elementwise;
mod first;
pub(crate) mod gemm;
pub(crate) mod layout;
pub(crate) mod math;
mod packed;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod scaled;
