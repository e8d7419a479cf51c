//! CPU kernels of the layers.
//!
//! Every output is summed in one fixed order, and every multiply-add is fused, on every instruction
//! set. The results are therefore bit-identical across instruction sets, batch sizes and numbers of
//! threads.

#![expect(
    clippy::needless_range_loop,
    reason = "constant indices keep accumulators in registers"
)]

pub(crate) mod channel_scaled;
pub(crate) mod conv;
pub(crate) mod dense;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod layout;
pub(crate) mod math;
pub(crate) mod op;
mod packed;
pub(crate) mod pool;
pub(crate) mod recurrent;
mod single_channel;
