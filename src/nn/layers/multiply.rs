//! Maps times attention per pixel or per channel.

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank, image};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Returns the shape of maps times attention weights, whose shape must be `wanted(maps)`.
fn attention(
    inputs: &[&[usize]],
    wanted: impl Fn([usize; 3]) -> Vec<usize>,
) -> Result<Vec<usize>, Problem> {
    let &[maps, weights] = inputs else {
        return Err(format!(
            "it takes maps and attention, not {} inputs",
            inputs.len()
        ));
    };
    let wanted = wanted(image(maps)?);
    match *weights == *wanted {
        true => Ok(maps.to_vec()),
        false => Err(format!(
            "attention for maps {maps:?} is {wanted:?}, not {weights:?}"
        )),
    }
}

/// Maps `[height, width, channels]` times attention `[height, width, 1]`.
pub(super) struct SpatialMultiply;

impl LayerDefinition for SpatialMultiply {
    fn class(&self) -> &'static str {
        "SpatialMultiply"
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
        attention(inputs, |[h, w, _]| vec![h, w, 1])
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output)
    }

    /// `y[i, j, c] = x[i, j, c] * attention[i, j]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let channels = inputs[0].shape[2];
        let attention = |i: usize| inputs[1].data[i / channels];
        let value = |(i, &v): (usize, &f64)| v * attention(i);
        inputs[0].data.iter().enumerate().map(value).collect()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::SpatialMultiply {
            channels: node.last(),
        })
    }
}

/// Maps `[height, width, channels]` times attention `[channels]`.
pub(super) struct ChannelMultiply;

impl LayerDefinition for ChannelMultiply {
    fn class(&self) -> &'static str {
        "ChannelMultiply"
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
        attention(inputs, |[_, _, c]| vec![c])
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output)
    }

    /// `y[i, j, c] = x[i, j, c] * attention[c]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let attention = inputs[1].data.iter().cycle();
        inputs[0]
            .data
            .iter()
            .zip(attention)
            .map(|(v, a)| v * a)
            .collect()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::ChannelMultiply {
            item: node.elements(),
            channels: node.last(),
        })
    }
}
