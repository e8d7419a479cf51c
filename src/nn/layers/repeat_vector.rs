//! Repetition of a vector.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// `[channels]` to `[count, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatVector {
    /// Copies of the vector.
    pub count: usize,
}

impl LayerDefinition for RepeatVector {
    fn class(&self) -> &'static str {
        "RepeatVector"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, _: &[usize]) -> usize {
        2
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        match single(inputs)? {
            [channels] => Ok(vec![self.count, *channels]),
            x => Err(format!("it takes a vector, not {x:?}")),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[i, c] = x[c]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        inputs[0].data.repeat(self.count)
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::Repeat {
            count: self.count,
            width: node.last(),
        })
    }
}
