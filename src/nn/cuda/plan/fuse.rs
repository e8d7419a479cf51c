//! Fusion of ops into convolutions and dense layers.

use crate::nn::cuda::ops::{After, Conv, Dense, Op, Own};
use crate::nn::layer::Activation;

/// Tries to fuse `next` into `op`; returns whether it did.
pub(super) fn absorb(op: &mut Op, next: &Op) -> bool {
    match (&mut *op, next) {
        (Op::Own(Own::Conv(conv)), _) => conv.absorb(next),
        (Op::Own(Own::Dense(dense)), _) => dense.absorb(next),
        (&mut Op::ChannelMultiply { item, channels }, Op::Own(Own::Conv(conv)))
            if item == conv.input.iter().product::<usize>() && channels == conv.input[2] =>
        {
            *op = Op::Own(Own::Conv(Box::new(Conv {
                scaled: true,
                ..(**conv).clone()
            })));
            true
        }
        _ => false,
    }
}

impl Dense {
    fn absorb(&mut self, next: &Op) -> bool {
        if self.after.is_some() {
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
                self.after = Some(After::Softmax(n));
            }
            _ => return false,
        }
        true
    }
}

impl Conv {
    fn absorb(&mut self, next: &Op) -> bool {
        if self.pool || self.after.is_some() {
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
            &Op::Own(Own::ScaleShift {
                scale,
                shift,
                channels,
            }) if self.affine.is_none() && channels == self.output[2] => {
                self.affine = Some((scale, shift));
            }
            Op::Own(Own::Pool(pool))
                if self.tiling.is_some_and(|t| t.pools())
                    && pool.image.input == self.output
                    && pool.is_plain_max() =>
            {
                self.pool = true;
            }
            _ => return false,
        }
        true
    }
}
