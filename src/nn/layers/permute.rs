//! Transposition of the dimensions.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, first_rank, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Output dimension `i` is input dimension `order[i]` (counted from 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// Permutation of the input dimensions, without the batch.
    pub order: Vec<usize>,
}

impl LayerDefinition for Permute {
    fn class(&self) -> &'static str {
        "Permute"
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
        let (x, order) = (single(inputs)?, &self.order);
        let mut seen = vec![false; x.len()];
        let valid = order.len() == x.len()
            && order
                .iter()
                .all(|&d| d < x.len() && !std::mem::replace(&mut seen[d], true));
        if !valid {
            return Err(format!(
                "{order:?} is no permutation of the dimensions of {x:?}"
            ));
        }
        Ok(order.iter().map(|&d| x[d]).collect())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[j] = x[i]` with `j[d] = i[order[d]]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let stride = |d: usize| x.shape[d + 1..].iter().product::<usize>();
        let strides: Vec<usize> = self.order.iter().map(|&d| stride(d)).collect();
        (0..x.data.len())
            .map(|mut rest| {
                let mut source = 0;
                for (length, stride) in output.iter().zip(&strides).rev() {
                    source += rest % length * stride;
                    rest /= length;
                }
                x.data[source]
            })
            .collect()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::Permute {
            shape: node.x().to_vec(),
            order: self.order.clone(),
        })
    }
}
