//! Layer normalisation.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{
    Problem, count, expect, first_rank, positive_epsilon, scale_and_shift, single,
};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and variance over the last
/// `dims` dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Scale, in the shape of the normalised dimensions; `None` is ones.
    pub gamma: Option<WeightId>,
    /// Shift, in the same shape; `None` is zeros.
    pub beta: Option<WeightId>,
    /// Added to the variance before the square root; positive.
    pub epsilon: f32,
    /// Number of normalised dimensions, at least 1.
    pub dims: usize,
}

impl LayerDefinition for LayerNorm {
    fn class(&self) -> &'static str {
        "LayerNorm"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        scale_and_shift(self.gamma, self.beta).collect()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        positive_epsilon(self.epsilon)?;
        let first = x.len().checked_sub(self.dims).filter(|_| self.dims > 0);
        let Some(first) = first else {
            return Err(format!(
                "{} dimensions of {x:?} cannot be normalised",
                self.dims
            ));
        };
        for (part, id) in self.weights() {
            expect(part, &weights[id.0], &x[first..])?;
        }
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 7
    }

    /// `y[.., i] = (x[.., i] - mean) / sqrt(variance + epsilon) * gamma[i] + beta[i]`, `i` running over
    /// the last dimensions
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let n: usize = output[output.len() - self.dims..].iter().product();
        let gamma = self.gamma.map(|id| floats(&weights[id.0]));
        let beta = self.beta.map(|id| floats(&weights[id.0]));
        let mut y = Vec::with_capacity(inputs[0].data.len());
        for group in inputs[0].data.chunks_exact(n) {
            let mean = group.iter().sum::<f64>() / n as f64;
            let squares = group.iter().map(|v| (v - mean) * (v - mean));
            let variance = squares.sum::<f64>() / n as f64;
            let deviation = (variance + f64::from(self.epsilon)).sqrt();
            for (i, v) in group.iter().enumerate() {
                let scale = gamma.as_ref().map_or(1.0, |g| g[i]);
                let shift = beta.as_ref().map_or(0.0, |b| b[i]);
                y.push((v - mean) / deviation * scale + shift);
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::LayerNorm(self)))
    }
}
