//! Angle of complex numbers.

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank, single};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};

/// Angles of the complex numbers of the last dimension, which is removed.
pub(super) struct Angle;

impl LayerDefinition for Angle {
    fn class(&self) -> &'static str {
        "Angle"
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
        match single(inputs)? {
            [shape @ .., 2] if !shape.is_empty() => Ok(shape.to_vec()),
            x => Err(format!("it takes complex numbers [.., 2], not {x:?}")),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output)
    }

    /// `y[a] = atan2(x[a, 1], x[a, 0])`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let pairs = inputs[0].data.chunks_exact(2);
        pairs.map(|x| x[1].atan2(x[0])).collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::Angle))
    }
}
