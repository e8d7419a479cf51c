//! Embedding.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, first_rank, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Rows of a table by their index: `[..]` to `[.., width]`. The fraction of an index is dropped. The
/// row of an index that the table does not have is zeros, as TensorFlow computes on a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// `[rows, width]`.
    pub table: WeightId,
}

impl LayerDefinition for Embedding {
    fn class(&self) -> &'static str {
        "Embedding"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        vec![("table", self.table)]
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs) + 1
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let table = &weights[self.table.0];
        match *table.shape {
            [_, width] => Ok([x, &[width]].concat()),
            _ => Err(format!(
                "its table ({}) has shape {:?}, not [rows, width]",
                table.name, table.shape
            )),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[.., i] = table[x[..], i]`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let table = &weights[self.table.0];
        let (rows, width) = (table.shape[0], table.shape[1]);
        let mut y = Vec::with_capacity(inputs[0].data.len() * width);
        for &x in inputs[0].data {
            let row = x.trunc();
            for i in 0..width {
                let known = row >= 0.0 && row < rows as f64;
                y.push(match known {
                    true => f64::from(table.data[row as usize * width + i]),
                    false => 0.0,
                });
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Embedding(self))
    }
}
