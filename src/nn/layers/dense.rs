//! Dense layer.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{Problem, count, expect, first_rank, kernel_and_bias, last, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Matrix product over the last dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// `[inputs, units]`.
    pub kernel: WeightId,
    /// `[units]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
}

impl LayerDefinition for Dense {
    fn class(&self) -> &'static str {
        "Dense"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        kernel_and_bias(self.kernel, self.bias)
    }

    fn activations(&self) -> Vec<Activation> {
        vec![self.activation]
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let kernel = &weights[self.kernel.0];
        let inputs = last(x)?;
        let units = kernel.shape.last().copied().unwrap_or(0);
        expect("kernel", kernel, &[inputs, units])?;
        if let Some(bias) = self.bias {
            expect("bias", &weights[bias.0], &[units])?;
        }
        Ok([&x[..x.len() - 1], &[units]].concat())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, weights: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let terms = weights[self.kernel.0].shape[0] as u64;
        count(output).saturating_mul(2 * terms + 1 + self.activation.flops_per_element())
    }

    /// `y[.., o] = activation(bias[o] + sum over i of x[.., i] * kernel[i, o])`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let kernel = floats(&weights[self.kernel.0]);
        let bias = self.bias.map(|b| floats(&weights[b.0]));
        let mut y = product(&kernel, bias.as_deref(), inputs[0]);
        self.activation.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Dense(self))
    }
}

/// `y[.., o] = bias[o] + sum over i of x[.., i] * kernel[i, o]`, in `f64`
pub(super) fn product(kernel: &[f64], bias: Option<&[f64]>, x: Item) -> Vec<f64> {
    let inputs = x.shape[x.shape.len() - 1];
    let units = kernel.len() / inputs;
    let mut y = Vec::with_capacity(x.data.len() / inputs * units);
    for vector in x.data.chunks(inputs) {
        for o in 0..units {
            let product = |(i, &v): (usize, &f64)| v * kernel[i * units + o];
            let sum: f64 = vector.iter().enumerate().map(product).sum();
            y.push(bias.map_or(0.0, |b| b[o]) + sum);
        }
    }
    y
}
