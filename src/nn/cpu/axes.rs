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

impl PlainOp for SlicePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let blocks = input(0).chunks_exact(self.n * self.after);
        for (x, y) in blocks.zip(output.chunks_exact_mut(self.count * self.after)) {
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
