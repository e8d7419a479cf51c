//! Concatenation.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, axis_of, first_rank};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Joins the inputs along dimension `axis` (counted from 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The only dimension in which the input lengths may differ; the batch is not counted.
    pub axis: usize,
}

impl LayerDefinition for Concat {
    fn class(&self) -> &'static str {
        "Concat"
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
        let axis = self.axis;
        let mut shape = inputs[0].to_vec();
        axis_of(axis, &shape)?;
        for x in &inputs[1..] {
            let fits =
                x.len() == shape.len() && (0..shape.len()).all(|d| d == axis || x[d] == shape[d]);
            if !fits {
                return Err(format!(
                    "{x:?} cannot be joined to {shape:?} along axis {axis}"
                ));
            }
            shape[axis] = shape[axis]
                .checked_add(x[axis])
                .ok_or("the joined dimension is too large")?;
        }
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// The blocks behind dimension `axis` of each input, one after the other.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let block = |x: &Item| x.shape[self.axis..].iter().product::<usize>();
        let blocks: usize = inputs[0].shape[..self.axis].iter().product();
        let mut y = Vec::new();
        for b in 0..blocks {
            for x in inputs {
                y.extend(&x.data[b * block(x)..][..block(x)]);
            }
        }
        y
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        let width = |s: &[usize]| s[self.axis..].iter().product();
        Lowering::Common(Op::Concat {
            widths: node.items.iter().map(|s| width(s)).collect(),
            total: width(node.output),
        })
    }
}
