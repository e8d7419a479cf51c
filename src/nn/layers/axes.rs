//! Dimensions of length 1.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, axis_of, first_rank, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// A new dimension of length 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InsertAxis {
    /// Its position in the output; the batch is not counted.
    pub axis: usize,
}

impl LayerDefinition for InsertAxis {
    fn class(&self) -> &'static str {
        "InsertAxis"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs) + 1
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        if self.axis > x.len() {
            return Err(format!("axis {} does not follow those of {x:?}", self.axis));
        }
        let mut shape = x.to_vec();
        shape.insert(self.axis, 1);
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// The elements of the input in their order.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        inputs[0].data.to_vec()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Identity
    }
}

/// Removal of a dimension of length 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveAxis {
    /// Its position in the input; the batch is not counted.
    pub axis: usize,
}

impl LayerDefinition for RemoveAxis {
    fn class(&self) -> &'static str {
        "RemoveAxis"
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
        let n = axis_of(self.axis, x)?;
        if n != 1 || x.len() < 2 {
            return Err(format!("axis {} of {x:?} cannot be removed", self.axis));
        }
        let mut shape = x.to_vec();
        shape.remove(self.axis);
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// The elements of the input in their order.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        inputs[0].data.to_vec()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Identity
    }
}
