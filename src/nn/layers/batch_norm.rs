//! Batch normalisation.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{Problem, count, expect, first_rank, last, scale_and_shift, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Batch normalisation with its moving statistics, over the last dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Scale, `[channels]`; `None` is ones.
    pub gamma: Option<WeightId>,
    /// Shift, `[channels]`; `None` is zeros.
    pub beta: Option<WeightId>,
    /// Moving mean, `[channels]`.
    pub mean: WeightId,
    /// Moving variance, `[channels]`; with `epsilon` added it must be positive.
    pub variance: WeightId,
    /// Added to the variance before the square root; at least 0.
    pub epsilon: f32,
}

impl LayerDefinition for BatchNorm {
    fn class(&self) -> &'static str {
        "BatchNorm"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        scale_and_shift(self.gamma, self.beta)
            .chain([("mean", self.mean), ("variance", self.variance)])
            .collect()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let channels = last(x)?;
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(format!("epsilon is {}", self.epsilon));
        }
        for (part, id) in self.weights() {
            expect(part, &weights[id.0], &[channels])?;
        }
        let variance = &weights[self.variance.0];
        match variance.data.iter().find(|&&v| v + self.epsilon <= 0.0) {
            Some(v) => Err(format!(
                "its variance ({}) holds {v}: there is no square root of that plus epsilon {}",
                variance.name, self.epsilon
            )),
            None => Ok(x.to_vec()),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 2
    }

    /// `y[.., c] = (x[.., c] - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c]`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let part = |id: WeightId| floats(&weights[id.0]);
        let (mean, variance) = (part(self.mean), part(self.variance));
        let gamma = self.gamma.map_or(vec![1.0; mean.len()], part);
        let beta = self.beta.map_or(vec![0.0; mean.len()], part);
        let epsilon = f64::from(self.epsilon);
        let value = |(i, &v): (usize, &f64)| {
            let c = i % mean.len();
            (v - mean[c]) / (variance[c] + epsilon).sqrt() * gamma[c] + beta[c]
        };
        x.data.iter().enumerate().map(value).collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::BatchNorm(self))
    }
}
