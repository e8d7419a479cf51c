//! Group normalisation.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{
    Problem, count, expect, first_rank, last, positive_epsilon, scale_and_shift, single,
};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};

/// `(x - mean) / sqrt(variance + epsilon) * gamma + beta`, with mean and variance over the channels
/// of a group and all other dimensions. A group is a range of `channels / groups` channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Number of groups, a divisor of the number of channels, which are the last dimension. `None` is a
    /// group for every channel.
    pub groups: Option<usize>,
    /// Scale, `[channels]`; `None` is a scale of 1.
    pub gamma: Option<WeightId>,
    /// Shift, `[channels]`; `None` is a shift of 0.
    pub beta: Option<WeightId>,
    /// Added to the variance before the square root; positive.
    pub epsilon: f32,
}

impl GroupNorm {
    /// Returns the number of groups of this many channels.
    pub(in crate::nn) fn groups_of(&self, channels: usize) -> usize {
        self.groups.unwrap_or(channels)
    }
}

impl LayerDefinition for GroupNorm {
    fn class(&self) -> &'static str {
        "GroupNorm"
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
        let channels = last(x)?;
        positive_epsilon(self.epsilon)?;
        let groups = self.groups_of(channels);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!(
                "{channels} channels cannot be split into {groups} groups"
            ));
        }
        for (part, id) in self.weights() {
            expect(part, &weights[id.0], &[channels])?;
        }
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 7
    }

    /// `y[.., c] = (x[.., c] - mean[g]) / sqrt(variance[g] + epsilon) * gamma[c] + beta[c]`, `g` being
    /// the group of channel `c`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let channels = output[output.len() - 1];
        let groups = self.groups_of(channels);
        let width = channels / groups;
        let gamma = self.gamma.map(|id| floats(&weights[id.0]));
        let beta = self.beta.map(|id| floats(&weights[id.0]));
        let mut y = inputs[0].data.to_vec();
        for group in 0..groups {
            let is_in_group = |i: &usize| i % channels / width == group;
            let places: Vec<usize> = (0..y.len()).filter(is_in_group).collect();
            let n = places.len() as f64;
            let mean = places.iter().map(|&i| y[i]).sum::<f64>() / n;
            let squares = places.iter().map(|&i| (y[i] - mean) * (y[i] - mean));
            let deviation = (squares.sum::<f64>() / n + f64::from(self.epsilon)).sqrt();
            for i in places {
                let scale = gamma.as_ref().map_or(1.0, |g| g[i % channels]);
                let shift = beta.as_ref().map_or(0.0, |b| b[i % channels]);
                y[i] = (y[i] - mean) / deviation * scale + shift;
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::GroupNorm(self)))
    }
}
