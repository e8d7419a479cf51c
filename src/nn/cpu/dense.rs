//! Dense layer.

use std::sync::Arc;

use super::gemm::{Init, Packed, matmul};
use super::math;
use super::op::{OpCall, PlainOp};
use crate::nn::layers::Activation;

/// A dense layer with packed weights.
#[derive(Debug)]
pub(crate) struct DensePlan {
    pub packed: Arc<Packed>,
    pub activation: Activation,
}

impl PlainOp for DensePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let (isa, packed, x) = (call.isa, &self.packed, (call.input)(0));
        let relu = self.activation == Activation::Relu;
        let rows = x.len() / packed.k;
        matmul(isa, x, rows, packed, Init::Bias, call.output, relu);
        if !relu {
            math::activate(isa, self.activation, packed.n, call.output);
        }
    }
}
