//! What follows a convolution is done together with it. The results are the same bits.

use super::{Op, Own};
use crate::nn::cpu::conv::Finish;
use crate::nn::cpu::gemm::Affine;
use crate::nn::layer::Activation;

impl Own {
    /// Becomes itself followed by `next`, if that can be done at once.
    pub(super) fn absorb(&mut self, next: &Op) -> bool {
        match self {
            Self::Conv {
                plan,
                finish,
                activation: Activation::Linear,
                channels,
                ..
            } => finish.absorb(next, plan.size_out(), *channels),
            Self::ScaledConv(conv) => match next {
                Op::Activation {
                    function: Activation::Relu,
                    ..
                } => conv.fuse_relu(),
                Op::Own(Self::ScaleShift { scale, shift }) => conv.fuse_affine(scale, shift),
                Op::Own(Self::Pool(pool)) => conv.fuse_pool(pool),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Finish {
    /// The same for what follows a convolution whose result has these rows and columns.
    fn absorb(&mut self, next: &Op, [rows, columns]: [usize; 2], channels: usize) -> bool {
        if self.pool.is_some() {
            return false;
        }
        let epilogue = &mut self.epilogue;
        match next {
            Op::Activation {
                function: Activation::Relu,
                ..
            } => match epilogue.affine {
                None => epilogue.relu = true,
                Some(_) => epilogue.relu_last = true,
            },
            Op::Own(Own::ScaleShift { scale, shift })
                if epilogue.affine.is_none() && scale.len() == channels =>
            {
                epilogue.affine = Some(Affine::new(scale, shift));
            }
            Op::Own(Own::Pool(pool)) if pool.input() == [rows, columns, channels] => {
                match pool.plain_max() {
                    Some(size) => self.pool = Some(size),
                    None => return false,
                }
            }
            _ => return false,
        }
        true
    }
}
