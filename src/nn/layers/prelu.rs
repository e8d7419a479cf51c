//! Parametric ReLU.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, broadcast_index, floats};
use super::shapes::{Problem, broadcast, count, first_rank, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// `x` where `x > 0`, else `alpha * x`; `alpha` is broadcast to the input's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PRelu {
    /// Slope for negative elements; broadcast along dimensions of length 1.
    pub alpha: WeightId,
}

impl LayerDefinition for PRelu {
    fn class(&self) -> &'static str {
        "PReLU"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        vec![("alpha", self.alpha)]
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let alpha = &weights[self.alpha.0];
        match broadcast(x, &alpha.shape) {
            Some(shape) if shape == x => Ok(shape),
            _ => Err(format!(
                "alpha ({}) has shape {:?}, which does not fit {x:?}",
                alpha.name, alpha.shape
            )),
        }
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 2
    }

    /// `y = x` where `x > 0`, else `y = alpha * x`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let alpha = &weights[self.alpha.0];
        let slopes = floats(alpha);
        let slope = |i| slopes[broadcast_index(i, x.shape, &alpha.shape)];
        let value = |(i, &v): (usize, &f64)| if v > 0.0 { v } else { slope(i) * v };
        x.data.iter().enumerate().map(value).collect()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::PRelu(self))
    }
}
