//! Activation functions.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank, last, single};
use super::{LayerDefinition, Weight, WeightId};

/// Activation functions, with Keras 2's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `max` where `x >= max`, `x` where `threshold <= x < max`, else `slope * (x - threshold)`.
    ReluWith {
        /// Upper limit of the output; `None` is no limit.
        max: Option<f32>,
        /// Slope below the threshold.
        slope: f32,
        /// Smallest input that is passed through unchanged.
        threshold: f32,
    },
    /// `x` where `x > theta`, else 0.
    ThresholdedRelu {
        /// Largest input whose output is 0.
        theta: f32,
    },
    /// `x` where `x > 0`, else `alpha * x`.
    LeakyRelu {
        /// Slope of the negative part.
        alpha: f32,
    },
    /// `x` where `x > 0`, else `alpha * (exp(x) - 1)`.
    Elu {
        /// The output tends to `-alpha` for very negative `x`.
        alpha: f32,
    },
    /// `1.0507009873554805 * elu(x, 1.6732632423543772)`
    Selu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `clip(0.2 * x + 0.5, 0, 1)`
    HardSigmoid,
    /// `min(max(x + 3, 0), 6) / 6`, the hard sigmoid of Keras 3.
    HardSigmoid6,
    /// The hyperbolic tangent.
    Tanh,
    /// `exp(x - max) / sum`, over the last dimension.
    Softmax,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `exp(x)`
    Exponential,
    /// `x * sigmoid(x)`
    Swish,
    /// `x * (1 + erf(x / sqrt(2))) / 2`
    Gelu,
    /// `x * tanh(softplus(x))`
    Mish,
}

impl Activation {
    /// Returns true if every parameter is finite.
    pub(in crate::nn) fn is_finite(self) -> bool {
        match self {
            Self::ReluWith {
                max,
                slope,
                threshold,
            } => max.is_none_or(f32::is_finite) && slope.is_finite() && threshold.is_finite(),
            Self::ThresholdedRelu { theta } => theta.is_finite(),
            Self::LeakyRelu { alpha } | Self::Elu { alpha } => alpha.is_finite(),
            Self::Linear
            | Self::Relu
            | Self::Selu
            | Self::Sigmoid
            | Self::HardSigmoid
            | Self::HardSigmoid6
            | Self::Tanh
            | Self::Softmax
            | Self::Softplus
            | Self::Softsign
            | Self::Exponential
            | Self::Swish
            | Self::Gelu
            | Self::Mish => true,
        }
    }

    /// Returns the floating-point operations per element.
    pub(super) fn flops_per_element(self) -> u64 {
        match self {
            Self::Linear => 0,
            Self::Softmax => 3,
            Self::Relu
            | Self::ReluWith { .. }
            | Self::ThresholdedRelu { .. }
            | Self::LeakyRelu { .. }
            | Self::Elu { .. }
            | Self::Selu
            | Self::Sigmoid
            | Self::HardSigmoid
            | Self::HardSigmoid6
            | Self::Tanh
            | Self::Softplus
            | Self::Softsign
            | Self::Exponential
            | Self::Swish
            | Self::Gelu
            | Self::Mish => 1,
        }
    }

    /// Applies the function in `f64` to every element of `x`, which has the given shape.
    pub(super) fn apply(self, x: &mut [f64], shape: &[usize]) {
        match self {
            Self::Softmax => x.chunks_mut(shape[shape.len() - 1]).for_each(softmax),
            _ => x.iter_mut().for_each(|v| *v = self.at(*v)),
        }
    }

    /// Returns the function of one element in `f64`, by the formula of the variant.
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Linear => x,
            Self::Relu => x.max(0.0),
            Self::ReluWith {
                max,
                slope,
                threshold,
            } => {
                let (slope, threshold) = (f64::from(slope), f64::from(threshold));
                match max.map(f64::from) {
                    Some(max) if x >= max => max,
                    _ if x >= threshold => x,
                    _ => slope * (x - threshold),
                }
            }
            Self::ThresholdedRelu { theta } => {
                if x > f64::from(theta) {
                    x
                } else {
                    0.0
                }
            }
            Self::LeakyRelu { alpha } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(alpha) * x
                }
            }
            Self::Elu { alpha } => elu(x, f64::from(alpha)),
            Self::Selu => 1.050_700_987_355_480_5 * elu(x, 1.673_263_242_354_377_2),
            Self::Sigmoid => sigmoid(x),
            Self::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
            Self::HardSigmoid6 => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Tanh => x.tanh(),
            // Softmax of a single element.
            Self::Softmax => 1.0,
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Exponential => x.exp(),
            Self::Swish => x * sigmoid(x),
            Self::Gelu => x * erfc(-x * FRAC_1_SQRT_2) / 2.0,
            Self::Mish => x * softplus(x).tanh(),
        }
    }
}

impl LayerDefinition for Activation {
    fn class(&self) -> &'static str {
        "Activation"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        vec![*self]
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        last(x)?;
        Ok(x.to_vec())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * self.flops_per_element()
    }

    /// The formula of the variant for every element.
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let mut y = inputs[0].data.to_vec();
        self.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        match self {
            Self::Linear => Lowering::Identity,
            function => Lowering::Common(Op::Activation {
                function: *function,
                last: node.last(),
            }),
        }
    }
}

/// `exp(x - max) / sum`
fn softmax(x: &mut [f64]) {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
    x.iter_mut().for_each(|v| *v = (*v - max).exp() / sum);
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn elu(x: f64, alpha: f64) -> f64 {
    if x > 0.0 { x } else { alpha * x.exp_m1() }
}

/// `ln(1 + exp(x))`, split so that a large `x` does not overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 - erf(x)`, within 1e-13 of its magnitude.
///
/// Near 0 it is the series `erf(x) = 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!`, whose
/// terms all have one sign (DLMF 7.6.2). Further out it is the continued fraction `sqrt(pi)
/// exp(x^2) erfc(x) = 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...))))` (DLMF 7.9.1).
pub(in crate::nn) fn erfc(x: f64) -> f64 {
    const SERIES_TO: f64 = 2.0;
    // Both expansions converge to 1e-17 before this many terms at the boundary.
    const TERMS: i32 = 60;
    const DEPTH: i32 = 120;
    if x.is_nan() {
        return x;
    }
    if x < -SERIES_TO {
        return 2.0 - erfc(-x);
    }
    let scale = FRAC_2_SQRT_PI * (-x * x).exp();
    if x <= SERIES_TO {
        let mut term = x;
        let mut sum = x;
        for n in 1..TERMS {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return 1.0 - scale * sum;
    }
    let mut fraction = x;
    for k in (1..=DEPTH).rev() {
        fraction = x + f64::from(k) / 2.0 / fraction;
    }
    scale / 2.0 / fraction
}
