//! Fusion of ReLU, scale and pooling into convolutions. The results keep their bits.

use super::{CpuOp, Op};
use crate::nn::cpu::conv::ConvEpilogue;
use crate::nn::cpu::gemm::Affine;
use crate::nn::layers::Activation;

impl CpuOp {
    /// Tries to fuse `next`; returns whether it did.
    pub(super) fn fuse(&mut self, next: &Op) -> bool {
        match self {
            Self::Conv {
                plan,
                epilogue,
                activation: Activation::Linear,
                channels,
                ..
            } => epilogue.fuse(next, plan.size_out(), *channels),
            Self::ChannelScaledConv(conv) => match next {
                Op::Activation {
                    function: Activation::Relu,
                    ..
                } => conv.fuse_relu(),
                Op::Backend(Self::ScaleShift { scale, shift }) => conv.fuse_affine(scale, shift),
                Op::Backend(Self::Pool(pool)) => conv.fuse_pool(pool),
                _ => false,
            },
            _ => false,
        }
    }
}

impl ConvEpilogue {
    /// Tries to fuse `next` into the epilogue of a convolution with `rows` x `columns` outputs.
    fn fuse(&mut self, next: &Op, [rows, columns]: [usize; 2], channels: usize) -> bool {
        if self.pool.is_some() {
            return false;
        }
        let epilogue = &mut self.pointwise;
        match next {
            Op::Activation {
                function: Activation::Relu,
                ..
            } => match epilogue.affine {
                None => epilogue.relu = true,
                Some(_) => epilogue.relu_last = true,
            },
            Op::Backend(CpuOp::ScaleShift { scale, shift })
                if epilogue.affine.is_none() && scale.len() == channels =>
            {
                epilogue.affine = Some(Affine::new(scale, shift));
            }
            Op::Backend(CpuOp::Pool(pool)) if pool.input() == [rows, columns, channels] => {
                match pool.non_overlapping_max() {
                    Some(size) => self.pool = Some(size),
                    None => return false,
                }
            }
            _ => return false,
        }
        true
    }
}
