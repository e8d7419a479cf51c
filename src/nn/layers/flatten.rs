//! All dimensions into one.

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Joins all dimensions into one.
pub(super) struct Flatten;

impl LayerDefinition for Flatten {
    fn class(&self) -> &'static str {
        "Flatten"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, _: &[usize]) -> usize {
        1
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        Ok(vec![single(inputs)?.iter().product()])
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
