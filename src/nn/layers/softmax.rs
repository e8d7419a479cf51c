//! Softmax over any dimension.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, axis_of, count, first_rank, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// Softmax over dimension `axis` (counted from 0).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// Dimension along which the results sum to 1; the batch is not counted.
    pub axis: usize,
}

impl LayerDefinition for Softmax {
    fn class(&self) -> &'static str {
        "Softmax"
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
        axis_of(self.axis, x)?;
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 3
    }

    /// `y = exp(x - max) / sum of exp(x - max)`, maximum and sum over dimension `axis`
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let inner = x.shape[self.axis + 1..].iter().product::<usize>();
        let length = x.shape[self.axis];
        let mut y = x.data.to_vec();
        for start in (0..y.len()).filter(|i| i / inner % length == 0) {
            let along: Vec<usize> = (0..length).map(|k| start + k * inner).collect();
            let mut line: Vec<f64> = along.iter().map(|&i| y[i]).collect();
            Activation::Softmax.apply(&mut line, &[length]);
            for (&i, v) in along.iter().zip(line) {
                y[i] = v;
            }
        }
        y
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::Softmax {
            n: node.x()[self.axis],
            after: node.after(self.axis),
        })
    }
}
