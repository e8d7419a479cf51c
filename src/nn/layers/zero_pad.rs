//! Zeros around an image.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::{Item, grid};
use super::shapes::{Problem, first_rank, image, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Zeros around `[height, width, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroPad {
    /// Rows before the first.
    pub top: usize,
    /// Rows after the last.
    pub bottom: usize,
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
}

impl LayerDefinition for ZeroPad {
    fn class(&self) -> &'static str {
        "ZeroPad"
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
        let [h, w, c] = image(single(inputs)?)?;
        let padded = |n: usize, before, after| n.checked_add(before)?.checked_add(after);
        match (
            padded(h, self.top, self.bottom),
            padded(w, self.left, self.right),
        ) {
            (Some(h), Some(w)) => Ok(vec![h, w, c]),
            _ => Err("the padding is too large".into()),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[top + i, left + j, c] = x[i, j, c]`, zero elsewhere
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let [_, width, channels] = grid(x.shape);
        let [_, out_width, _] = grid(output);
        let mut y = vec![0.0; output.iter().product()];
        for (i, row) in x.data.chunks(width * channels).enumerate() {
            let start = ((self.top + i) * out_width + self.left) * channels;
            y[start..start + row.len()].copy_from_slice(row);
        }
        y
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        let x = node.x();
        Lowering::Common(Op::ZeroPad {
            image: [x[0], x[1], x[2]],
            output: [node.output[0], node.output[1]],
            top: self.top,
            left: self.left,
        })
    }
}
