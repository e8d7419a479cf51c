//! Activation functions of the oracle.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::super::layer::Activation;

/// Applies the function to every element of `x`, which has the given shape. [`Activation`] states
/// the formulas.
pub(super) fn apply(activation: Activation, x: &mut [f64], shape: &[usize]) {
    if activation == Activation::Softmax {
        x.chunks_mut(shape[shape.len() - 1]).for_each(softmax);
    } else {
        x.iter_mut().for_each(|v| *v = scalar(activation, *v));
    }
}

/// `exp(x - max) / sum`
pub(super) fn softmax(x: &mut [f64]) {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
    x.iter_mut().for_each(|v| *v = (*v - max).exp() / sum);
}

fn scalar(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Linear => x,
        Activation::Relu => x.max(0.0),
        Activation::ReluWith {
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
        Activation::ThresholdedRelu { theta } => {
            if x > f64::from(theta) {
                x
            } else {
                0.0
            }
        }
        Activation::LeakyRelu { alpha } => {
            if x > 0.0 {
                x
            } else {
                f64::from(alpha) * x
            }
        }
        Activation::Elu { alpha } => elu(x, f64::from(alpha)),
        Activation::Selu => 1.050_700_987_355_480_5 * elu(x, 1.673_263_242_354_377_2),
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        Activation::Tanh => x.tanh(),
        // Softmax of a single element.
        Activation::Softmax => 1.0,
        Activation::Softplus => softplus(x),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Exponential => x.exp(),
        Activation::Swish => x * sigmoid(x),
        Activation::Gelu => x * erfc(-x * FRAC_1_SQRT_2) / 2.0,
        Activation::Mish => x * softplus(x).tanh(),
    }
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
pub(super) fn erfc(x: f64) -> f64 {
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
