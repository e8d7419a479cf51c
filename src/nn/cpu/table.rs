//! Rows of a table by index.

use super::op::{OpCall, PlainOp};

/// An embedding.
#[derive(Debug)]
pub(crate) struct EmbeddingPlan {
    /// `[rows, width]`.
    pub table: Vec<f32>,
    pub width: usize,
}

impl PlainOp for EmbeddingPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let rows = self.table.len() / self.width;
        for (&x, y) in input(0).iter().zip(output.chunks_exact_mut(self.width)) {
            // Indices between -1 and 0 become 0, as their fraction is dropped; NaN is no index.
            let row = (x > -1.0).then_some(x as usize).filter(|&row| row < rows);
            match row {
                Some(row) => y.copy_from_slice(&self.table[row * self.width..][..self.width]),
                None => y.fill(0.0),
            }
        }
    }
}
