//! Arithmetic cost of a graph.

use super::graph::{Graph, GraphError, Node};
use super::layer::{Activation, Layer};
use super::shape::conv_kernel;

/// Returns each node's floating-point operations per batch row; a multiply-add counts two, a
/// function such as `exp` one. Savings by sharing or skipping work are not deducted.
///
/// # Errors
/// When the shapes do not fit the graph.
pub fn flops(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Vec<u64>, GraphError> {
    let shapes = graph.infer_shapes(input_shapes)?;
    Ok(graph
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let input = &shapes[node.inputs[0].0];
            node_flops(graph, node, input, &shapes[graph.output_of(i).0])
        })
        .collect())
}

fn node_flops(graph: &Graph, node: &Node, input: &[usize], output: &[usize]) -> u64 {
    let count = |s: &[usize]| s.iter().product::<usize>() as u64;
    let (inputs, outputs) = (count(input), count(output));
    let weights = |id: super::WeightId| &graph.weights[id.0];
    let function = |a: &Activation| match a {
        Activation::Linear => 0,
        Activation::Softmax => 3,
        Activation::Relu
        | Activation::ReluWith { .. }
        | Activation::ThresholdedRelu { .. }
        | Activation::LeakyRelu { .. }
        | Activation::Elu { .. }
        | Activation::Selu
        | Activation::Sigmoid
        | Activation::HardSigmoid
        | Activation::Tanh
        | Activation::Softplus
        | Activation::Softsign
        | Activation::Exponential
        | Activation::Swish
        | Activation::Gelu
        | Activation::Mish => 1,
    };
    match &node.layer {
        Layer::Conv(conv) => {
            let kernel = conv_kernel(&weights(conv.kernel).shape).unwrap_or([0; 4]);
            let terms = (kernel[0] * kernel[1] * kernel[2]) as u64;
            outputs.saturating_mul(2 * terms + 1 + function(&conv.activation))
        }
        Layer::Dense {
            kernel, activation, ..
        } => {
            let terms = weights(*kernel).shape[0] as u64;
            outputs.saturating_mul(2 * terms + 1 + function(activation))
        }
        Layer::Lstm(r) | Layer::Gru { recurrent: r, .. } => {
            let products = weights(r.kernel).data.len() + weights(r.recurrent_kernel).data.len();
            let width = weights(r.kernel).shape[1];
            let steps = count(&input[..input.len() - 1]);
            steps.saturating_mul(2 * (products + 2 * width) as u64)
        }
        Layer::Pool(pool) => outputs.saturating_mul((pool.size[0] * pool.size[1]) as u64),
        Layer::Upsample { .. } => outputs * 6,
        Layer::BatchNorm(_) | Layer::PRelu { .. } => outputs * 2,
        Layer::Activation(a) => outputs * function(a),
        Layer::Softmax { .. } => outputs * 3,
        Layer::Merge { .. } => outputs * (node.inputs.len() as u64 - 1),
        Layer::GlobalPool { .. } | Layer::SumAxis { .. } => inputs,
        Layer::Dropout(_) | Layer::SpatialMultiply | Layer::ChannelMultiply => outputs,
        Layer::ZeroPad { .. }
        | Layer::Reverse
        | Layer::Flatten
        | Layer::Reshape { .. }
        | Layer::Permute { .. }
        | Layer::RepeatVector { .. }
        | Layer::Concat { .. } => 0,
    }
}
