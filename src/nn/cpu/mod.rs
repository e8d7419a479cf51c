//! CPU kernels of the layers.
//!
//! Every output is summed in one fixed order, and every multiply-add is fused, on every instruction
//! set. The results are therefore bit-identical across instruction sets, batch sizes and numbers of
//! threads.

#![expect(
    clippy::needless_range_loop,
    reason = "constant indices keep accumulators in registers"
)]

pub(crate) mod axes;
pub(crate) mod channel_scaled;
pub(crate) mod conv;
pub(crate) mod conv3d;
pub(crate) mod conv_lstm;
pub(crate) mod dense;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod group_norm;
pub(crate) mod layer_norm;
pub(crate) mod layout;
pub(crate) mod map;
pub(crate) mod mat_mul;
pub(crate) mod math;
pub(crate) mod op;
mod packed;
pub(crate) mod pool;
pub(crate) mod quantised;
pub(crate) mod recurrent;
pub(crate) mod simple_rnn;
mod single_channel;
pub(crate) mod stateful;
pub(crate) mod stft;
pub(crate) mod table;
pub(crate) mod transposed;
