//! Reversal of time.

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, first_rank, last, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Reverses the first dimension.
pub(super) struct Reverse;

impl LayerDefinition for Reverse {
    fn class(&self) -> &'static str {
        "Reverse"
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
        last(x)?;
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[t, ..] = x[time - 1 - t, ..]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let step: usize = x.shape[1..].iter().product();
        x.data.chunks(step).rev().flatten().copied().collect()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        let rows = node.x()[0];
        Lowering::Common(Op::Reverse {
            rows,
            width: node.elements() / rows,
        })
    }
}
