//! Slices and means of one dimension.

use super::op::{OpCall, PlainOp};

/// A slice of the middle dimension of `[.., n, after]`.
#[derive(Debug)]
pub(crate) struct SlicePlan {
    pub n: usize,
    pub after: usize,
    pub start: usize,
    pub step: usize,
    pub count: usize,
}

impl SlicePlan {
    /// Returns the number of elements of a block `[n, after]`.
    pub fn block(&self) -> usize {
        self.n * self.after
    }

    /// Returns the number of elements that remain of a block.
    pub fn sliced(&self) -> usize {
        self.count * self.after
    }

    /// Slices every block of the input.
    pub fn run(&self, input: &[f32], output: &mut [f32]) {
        let blocks = input.chunks_exact(self.block());
        for (x, y) in blocks.zip(output.chunks_exact_mut(self.sliced())) {
            if self.step == 1 {
                y.copy_from_slice(&x[self.start * self.after..][..y.len()]);
                continue;
            }
            for (k, y) in y.chunks_exact_mut(self.after).enumerate() {
                let from = (self.start + k * self.step) * self.after;
                y.copy_from_slice(&x[from..][..self.after]);
            }
        }
    }
}

/// The mean over the middle dimension of `[.., n, after]`.
#[derive(Debug)]
pub(crate) struct MeanPlan {
    pub n: usize,
    pub after: usize,
}

impl PlainOp for MeanPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        super::elementwise::sum_axis(self.n, self.after, input(0), output);
        let n = self.n as f32;
        output.iter_mut().for_each(|y| *y /= n);
    }
}
