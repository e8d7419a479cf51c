//! Dropout.

use serde::{Deserialize, Serialize};

use super::ops::{self, Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank, last, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Dropout with probability `rate`; kept units are scaled by `1 / (1 - rate)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability that a unit becomes 0, in [0, 1).
    pub rate: f32,
    /// Active at inference too (the file was saved with the call argument `training=True`).
    pub forced: bool,
    /// One decision per channel (SpatialDropout) instead of one per element.
    pub per_channel: bool,
}

impl Dropout {
    /// Returns true if the dropout acts at inference.
    pub fn is_active(&self) -> bool {
        self.forced && self.rate > 0.0
    }
}

impl LayerDefinition for Dropout {
    fn class(&self) -> &'static str {
        "Dropout"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        if !(0.0..1.0).contains(&self.rate) {
            return Err(format!("rate {} is not in [0, 1)", self.rate));
        }
        last(x)?;
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output)
    }

    /// The input. The decisions of an active dropout count through all items of a run, so
    /// [`oracle::run`](crate::nn::oracle::run) applies them.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        inputs[0].data.to_vec()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        if !self.is_active() {
            return Lowering::Identity;
        }
        let (pixels, channels) = match self.per_channel {
            true => (node.elements() / node.last(), node.last()),
            false => (1, node.elements()),
        };
        Lowering::Common(Op::Dropout(ops::Dropout {
            name: node.name.into(),
            number: node.dropouts as u32,
            rate: self.rate,
            units: node.outer * channels,
            pixels,
            channels,
        }))
    }
}
