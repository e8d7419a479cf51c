//! Mean over a dimension.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, axis_of, count, first_rank, single};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};

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
        let x = single(inputs)?;
        axis_of(self.axis, x)?;
        if x.len() < 2 {
            return Err(format!("nothing of {x:?} would be left"));
        }
        let mut shape = x.to_vec();
        shape.remove(self.axis);
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        count(inputs[0])
    }

    /// `y[a, b] = sum over k of x[a, k, b] / n`, `k` being dimension `axis`, of length `n`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let inner = x.shape[self.axis + 1..].iter().product::<usize>();
        let length = x.shape[self.axis];
        let mut y = vec![0.0; x.data.len() / length];
        for (i, v) in x.data.iter().enumerate() {
            y[i / inner / length * inner + i % inner] += v / length as f64;
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::MeanAxis(self)))
    }
}
