//! Fusion of ops into convolutions and dense layers.

use crate::nn::cuda::ops::{Conv, CudaOp, Dense, Op, PostOp};
use crate::nn::layers::Activation;

/// Tries to fuse `next` into `op`; returns whether it did.
pub(super) fn fuse(op: &mut Op, next: &Op) -> bool {
    match (&mut *op, next) {
        (Op::Backend(CudaOp::Conv(conv)), _) => conv.fuse(next),
        (Op::Backend(CudaOp::Dense(dense)), _) => dense.fuse(next),
        (&mut Op::ChannelMultiply { item, channels }, Op::Backend(CudaOp::Conv(conv)))
            if item == conv.input.iter().product::<usize>() && channels == conv.input[2] =>
        {
            *op = Op::Backend(CudaOp::Conv(Box::new(Conv {
                scaled: true,
                ..(**conv).clone()
            })));
            true
        }
        _ => false,
    }
}

impl Dense {
    fn fuse(&mut self, next: &Op) -> bool {
        if self.post_op.is_some() {
            return false;
        }
        match *next {
            Op::Activation {
                function: Activation::Relu,
                ..
            } => self.relu = true,
            Op::Activation {
                function: Activation::Softmax,
                last: n,
            }
            | Op::Softmax { n, after: 1 }
                if self.units == n && !self.relu =>
            {
                self.post_op = Some(PostOp::Softmax(n));
            }
            _ => return false,
        }
        true
    }
}

impl Conv {
    fn fuse(&mut self, next: &Op) -> bool {
        if self.pool || self.post_op.is_some() {
            return false;
        }
        match next {
            Op::Activation {
                function: Activation::Relu,
                ..
            } => match self.affine {
                None => self.relu = true,
                Some(_) => self.relu_last = true,
            },
            &Op::Backend(CudaOp::ScaleShift {
                scale,
                shift,
                channels,
            }) if self.affine.is_none() && channels == self.output[2] => {
                self.affine = Some((scale, shift));
            }
            Op::Backend(CudaOp::Pool(pool))
                if self.tiling.is_some_and(|t| t.pools())
                    && pool.image.input == self.output
                    && pool.is_non_overlapping_max() =>
            {
                self.pool = true;
            }
            _ => return false,
        }
        true
    }
}
