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
pub(crate) mod doubles;
pub(crate) mod elementwise;
mod first;
pub(crate) mod gemm;
mod isa;
pub(crate) mod lanes;
pub(crate) mod layout;
pub(crate) mod math;
mod packed;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod scaled;

pub(crate) use isa::Kernel;
pub use isa::{Isa, UnknownIsa};
pub(crate) use lanes::Lanes;
