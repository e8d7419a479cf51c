//! Group normalisation.

use super::op::{OpCall, PlainOp};

/// Normalisation of groups of channels over all pixels of `[pixels, channels]`.
///
/// Mean and variance are summed in `f64`, in the order of the elements.
#[derive(Debug)]
pub(crate) struct GroupNormPlan {
    pub pixels: usize,
    pub groups: usize,
    /// `[channels]`.
    pub gamma: Vec<f32>,
    /// `[channels]`.
    pub beta: Vec<f32>,
    pub epsilon: f32,
}

impl PlainOp for GroupNormPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        let channels = self.gamma.len();
        let width = channels / self.groups;
        let item = self.pixels * channels;
        let n = (self.pixels * width) as f64;
        for (x, y) in input(0)
            .chunks_exact(item)
            .zip(output.chunks_exact_mut(item))
        {
            for first in (0..channels).step_by(width) {
                let rows = || x.chunks_exact(channels).map(|row| &row[first..][..width]);
                let values = || rows().flatten().map(|&v| f64::from(v));
                let mean = values().sum::<f64>() / n;
                let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                let scale = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
                for (x, y) in rows().zip(y.chunks_exact_mut(channels)) {
                    for (c, (&v, y)) in x.iter().zip(&mut y[first..][..width]).enumerate() {
                        let normal = (f64::from(v) - mean) * scale;
                        let (gamma, beta) = (self.gamma[first + c], self.beta[first + c]);
                        *y = (normal * f64::from(gamma) + f64::from(beta)) as f32;
                    }
                }
            }
        }
    }
}
