//! Matrix products of two values.

use super::op::{OpCall, PlainOp};
use crate::simd::mul_add;

/// Products of matrices `[m, k]` and `[k, n]`, each stored transposed or not.
///
/// Each element adds its products in the order of `k`.
#[derive(Debug)]
pub(crate) struct MatMulPlan {
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub transpose_a: bool,
    pub transpose_b: bool,
}

impl PlainOp for MatMulPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let Self { m, k, n, .. } = *self;
        let pairs = input(0)
            .chunks_exact(m * k)
            .zip(input(1).chunks_exact(k * n));
        for ((a, b), y) in pairs.zip(output.chunks_exact_mut(m * n)) {
            y.fill(0.0);
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                for l in 0..k {
                    let x = a[if self.transpose_a {
                        l * m + i
                    } else {
                        i * k + l
                    }];
                    match self.transpose_b {
                        true => {
                            for (y, &v) in y.iter_mut().zip(b[l..].iter().step_by(k)) {
                                *y = mul_add(x, v, *y);
                            }
                        }
                        false => {
                            for (y, &v) in y.iter_mut().zip(&b[l * n..][..n]) {
                                *y = mul_add(x, v, *y);
                            }
                        }
                    }
                }
            }
        }
    }
}
