//! Part of a dimension.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, axis_of, first_rank, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};
use crate::nn::limits::MAX_ELEMENTS;

/// Every `step`-th index of a dimension from `start` to before `stop`. Negative positions count from
/// the end; positions beyond the dimension are moved to its ends, as in Python.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The sliced dimension; the batch is not counted.
    pub axis: usize,
    /// First index.
    pub start: i64,
    /// End, exclusive; `None` is the end of the dimension.
    pub stop: Option<i64>,
    /// At least 1.
    pub step: usize,
}

impl Slice {
    /// Returns the first index and the number of indices in a dimension of length `n`.
    pub(in crate::nn) fn range(&self, n: usize) -> (usize, usize) {
        let clamp = |position: i64| {
            let n = n as i64;
            let from_start = match position < 0 {
                true => position.saturating_add(n),
                false => position,
            };
            from_start.clamp(0, n) as usize
        };
        let start = clamp(self.start);
        let stop = self.stop.map_or(n, clamp);
        (start, stop.saturating_sub(start).div_ceil(self.step))
    }
}

impl LayerDefinition for Slice {
    fn class(&self) -> &'static str {
        "Slice"
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
        let n = axis_of(self.axis, x)?;
        if !(1..=MAX_ELEMENTS).contains(&self.step) {
            return Err(format!("its step is {}", self.step));
        }
        let (_, count) = self.range(n);
        if count == 0 {
            return Err(format!(
                "nothing is left of dimension {} of {x:?}",
                self.axis
            ));
        }
        let mut shape = x.to_vec();
        shape[self.axis] = count;
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// `y[a, k, b] = x[a, start + k * step, b]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let n = x.shape[self.axis] as i64;
        // The indices as a loop of Python would give them.
        let start = if self.start < 0 {
            self.start + n
        } else {
            self.start
        };
        let mut indices = Vec::new();
        let mut at = start.max(0);
        while indices.len() < output[self.axis] {
            indices.push(at as usize);
            at += self.step as i64;
        }
        let inner: usize = x.shape[self.axis + 1..].iter().product();
        let mut y = Vec::new();
        for block in x.data.chunks_exact(x.shape[self.axis] * inner) {
            for &i in &indices {
                y.extend_from_slice(&block[i * inner..][..inner]);
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Slice(self))
    }
}
