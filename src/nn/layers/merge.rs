//! Element-wise operations on several inputs.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, broadcast_index};
use super::shapes::{Problem, broadcast, count};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Element-wise operation on two or more inputs; missing leading dimensions and dimensions of
/// length 1 are broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The element-wise operation.
    pub op: MergeOp,
}

/// Operation of a [`Merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeOp {
    /// Sum.
    Add,
    /// First minus second (exactly two inputs).
    Subtract,
    /// Product.
    Multiply,
    /// Sum divided by the number of inputs.
    Average,
    /// Maximum.
    Maximum,
    /// Minimum.
    Minimum,
}

impl LayerDefinition for Merge {
    fn class(&self) -> &'static str {
        match self.op {
            MergeOp::Add => "Add",
            MergeOp::Subtract => "Subtract",
            MergeOp::Multiply => "Multiply",
            MergeOp::Average => "Average",
            MergeOp::Maximum => "Maximum",
            MergeOp::Minimum => "Minimum",
        }
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        inputs.iter().copied().max().unwrap_or(0)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        if inputs.len() < 2 || (self.op == MergeOp::Subtract && inputs.len() != 2) {
            return Err(format!("it cannot take {} inputs", inputs.len()));
        }
        let mut shape = inputs[0].to_vec();
        for x in &inputs[1..] {
            shape = broadcast(&shape, x)
                .ok_or_else(|| format!("{x:?} cannot be broadcast against {shape:?}"))?;
        }
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * (inputs.len() as u64 - 1)
    }

    /// `y = x0 op x1 op x2 ...`, element by element after broadcasting; the average divides the
    /// sum by the number of inputs.
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        (0..output.iter().product())
            .map(|i| {
                let values = inputs
                    .iter()
                    .map(|x| x.data[broadcast_index(i, output, x.shape)]);
                let joined = values.reduce(|a, b| match self.op {
                    MergeOp::Add | MergeOp::Average => a + b,
                    MergeOp::Subtract => a - b,
                    MergeOp::Multiply => a * b,
                    MergeOp::Maximum => a.max(b),
                    MergeOp::Minimum => a.min(b),
                });
                let joined = joined.unwrap_or(0.0);
                match self.op {
                    MergeOp::Average => joined / inputs.len() as f64,
                    _ => joined,
                }
            })
            .collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Merge(self))
    }
}
