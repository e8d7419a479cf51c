//! Mean over a dimension.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, sum_over};
use super::shapes::{Problem, count, first_rank, single, without_axis};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Mean over dimension `axis` (counted from 0), which is removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeanAxis {
    /// The batch is not counted; at least one other dimension is needed.
    pub axis: usize,
}

impl LayerDefinition for MeanAxis {
    fn class(&self) -> &'static str {
        "MeanAxis"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs).saturating_sub(1)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        without_axis(self.axis, single(inputs)?)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        count(inputs[0])
    }

    /// `y[a, b] = sum over k of x[a, k, b] / n`, `k` being dimension `axis`, of length `n`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let length = inputs[0].shape[self.axis] as f64;
        let sums = sum_over(self.axis, inputs[0]);
        sums.into_iter().map(|sum| sum / length).collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::MeanAxis(self))
    }
}
