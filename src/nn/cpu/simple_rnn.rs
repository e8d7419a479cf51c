//! Simple recurrent layer.

use super::math;
use super::op::{OpCall, PlainOp};
use crate::nn::layers::Activation;
use crate::simd::{Isa, mul_add};

/// A simple recurrent layer.
///
/// Each sum starts from the bias and adds the products of the inputs, then of the fed-back outputs.
#[derive(Debug)]
pub(crate) struct SimpleRnnPlan {
    pub time: usize,
    pub channels: usize,
    /// `[channels, units]`.
    pub kernel: Vec<f32>,
    /// `[units, units]`.
    pub recurrent: Vec<f32>,
    pub bias: Vec<f32>,
    pub activation: Activation,
    pub return_sequences: bool,
    pub go_backwards: bool,
}

impl SimpleRnnPlan {
    /// Computes the state after a step into `next`.
    pub(super) fn step(&self, isa: Isa, x: &[f32], state: &[f32], next: &mut [f32]) {
        next.copy_from_slice(&self.bias);
        add_product(x, &self.kernel, next);
        add_product(state, &self.recurrent, next);
        math::activate(isa, self.activation, self.bias.len(), next);
    }
}

impl PlainOp for SimpleRnnPlan {
    fn scratch(&self, _: usize) -> usize {
        2 * self.bias.len()
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa,
            input,
            output,
            scratch,
            ..
        } = call;
        let units = self.bias.len();
        let rows = if self.return_sequences { self.time } else { 1 };
        let (mut state, mut next) = scratch[..2 * units].split_at_mut(units);
        let items = input(0).chunks_exact(self.time * self.channels);
        for (x, y) in items.zip(output.chunks_exact_mut(rows * units)) {
            state.fill(0.0);
            for t in 0..self.time {
                let at = if self.go_backwards {
                    self.time - 1 - t
                } else {
                    t
                };
                self.step(isa, &x[at * self.channels..][..self.channels], state, next);
                std::mem::swap(&mut state, &mut next);
                if self.return_sequences {
                    y[t * units..][..units].copy_from_slice(state);
                }
            }
            if !self.return_sequences {
                y.copy_from_slice(state);
            }
        }
    }
}

/// Adds the product of a row and a matrix.
fn add_product(row: &[f32], matrix: &[f32], sums: &mut [f32]) {
    for (&x, weights) in row.iter().zip(matrix.chunks_exact(sums.len())) {
        for (sum, &w) in sums.iter_mut().zip(weights) {
            *sum = mul_add(x, w, *sum);
        }
    }
}
