//! Layer normalisation.

use super::op::{OpCall, PlainOp};

/// A layer normalisation.
///
/// Mean and variance are summed in `f64`, in the order of the elements.
#[derive(Debug)]
pub(crate) struct LayerNormPlan {
    /// Scale of each normalised element.
    pub gamma: Vec<f32>,
    /// Shift of each normalised element.
    pub beta: Vec<f32>,
    pub epsilon: f32,
}

impl PlainOp for LayerNormPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let n = self.gamma.len();
        let groups = input(0).chunks_exact(n);
        for (x, y) in groups.zip(output.chunks_exact_mut(n)) {
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64;
            let squares = x.iter().map(|&v| (f64::from(v) - mean).powi(2));
            let variance = squares.sum::<f64>() / n as f64;
            let scale = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            let parameters = self.gamma.iter().zip(&self.beta);
            for ((y, &v), (&gamma, &beta)) in y.iter_mut().zip(x).zip(parameters) {
                let normal = (f64::from(v) - mean) * scale;
                *y = (normal * f64::from(gamma) + f64::from(beta)) as f32;
            }
        }
    }
}
