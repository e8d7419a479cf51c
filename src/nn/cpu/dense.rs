//! Dense layer.

use std::sync::Arc;

use super::gemm::{Init, Packed, matmul};
use super::math;
use super::op::{OpCall, PlainOp};
use super::quantised::QuantisedMatrix;
use crate::nn::layers::Activation;

/// A dense layer with packed weights.
#[derive(Debug)]
pub(crate) struct DensePlan {
    pub weights: DenseWeights,
    pub activation: Activation,
}

/// Weights of a dense layer; those that 8 bits represent exactly have 8 bits.
#[derive(Debug)]
pub(crate) enum DenseWeights {
    Single(Arc<Packed>),
    Quantised(Arc<QuantisedMatrix>),
}

impl PlainOp for DensePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let (isa, x, y) = (call.isa, (call.input)(0), call.output);
        let relu = self.activation == Activation::Relu;
        let channels = match &self.weights {
            DenseWeights::Single(packed) => {
                matmul(isa, x, x.len() / packed.k, packed, Init::Bias, y, relu);
                packed.n
            }
            DenseWeights::Quantised(matrix) => {
                matrix.multiply(isa, x, y, relu);
                matrix.n
            }
        };
        if !relu {
            math::activate(isa, self.activation, channels, y);
        }
    }
}
