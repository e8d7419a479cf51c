//! Memory bounds of a graph beyond its values, so that a hostile graph cannot request all memory.

use super::graph::{Graph, Node};
use super::layer::{Activation, Conv, Layer, Padding};
use super::shape::{Problem, conv_kernel, extent, spatial, window};
use crate::simd::lanes::LANES;

/// Returns the number of elements of a weight packed for the engine.
pub(super) fn packed_size(shape: &[usize]) -> usize {
    let (channels, rows) = shape.split_last().unwrap_or((&1, &[]));
    rows.iter()
        .product::<usize>()
        .saturating_mul(channels.next_multiple_of(LANES))
}

/// Returns an upper bound of the scratch elements of a valid node: a convolution's zero-padded
/// input, or a recurrent layer's gates at all time steps.
pub(super) fn scratch(graph: &Graph, node: &Node, input: &[usize]) -> usize {
    let (outer, item) = input.split_at(node.outer);
    let size = match &node.layer {
        Layer::Conv(conv) => {
            let kernel = conv_kernel(&graph.weights[conv.kernel.0].shape).unwrap_or([1; 4]);
            let Ok((pixels, channels)) = spatial(item) else {
                return 0;
            };
            let padded = |axis: usize| -> usize {
                let n = pixels[axis];
                let span = extent(kernel[axis], conv.dilation[axis]);
                match window(n, span, conv.strides[axis], conv.padding) {
                    Some((length, before)) if conv.padding != Padding::Valid => {
                        ((length - 1) * conv.strides[axis] + span).max(before + n)
                    }
                    _ => n,
                }
            };
            padded(0).saturating_mul(padded(1)).saturating_mul(channels)
        }
        Layer::Lstm(r) | Layer::Gru { recurrent: r, .. } => {
            let width = graph.weights[r.kernel.0].shape.last().copied();
            item[0].saturating_mul(width.unwrap_or(0))
        }
        Layer::Dense { .. }
        | Layer::Activation(_)
        | Layer::Pool(_)
        | Layer::GlobalPool { .. }
        | Layer::Upsample { .. }
        | Layer::ZeroPad { .. }
        | Layer::BatchNorm(_)
        | Layer::Reverse
        | Layer::Flatten
        | Layer::Reshape { .. }
        | Layer::Permute { .. }
        | Layer::RepeatVector { .. }
        | Layer::Concat { .. }
        | Layer::Merge { .. }
        | Layer::Dropout(_)
        | Layer::Softmax { .. }
        | Layer::PRelu { .. }
        | Layer::SumAxis { .. }
        | Layer::SpatialMultiply
        | Layer::ChannelMultiply => 0,
    };
    outer.iter().fold(size, |n, &d| n.saturating_mul(d))
}

/// Checks that every parameter of the activation functions is finite.
pub(super) fn check_activations(layer: &Layer) -> Result<(), Problem> {
    let used: &[&Activation] = match layer {
        Layer::Conv(Conv { activation, .. })
        | Layer::Dense { activation, .. }
        | Layer::Activation(activation) => &[activation],
        Layer::Lstm(r) | Layer::Gru { recurrent: r, .. } => {
            &[&r.activation, &r.recurrent_activation]
        }
        Layer::Pool(_)
        | Layer::GlobalPool { .. }
        | Layer::Upsample { .. }
        | Layer::ZeroPad { .. }
        | Layer::BatchNorm(_)
        | Layer::Reverse
        | Layer::Flatten
        | Layer::Reshape { .. }
        | Layer::Permute { .. }
        | Layer::RepeatVector { .. }
        | Layer::Concat { .. }
        | Layer::Merge { .. }
        | Layer::Dropout(_)
        | Layer::Softmax { .. }
        | Layer::PRelu { .. }
        | Layer::SumAxis { .. }
        | Layer::SpatialMultiply
        | Layer::ChannelMultiply => &[],
    };
    let finite = |a: &Activation| match *a {
        Activation::ReluWith {
            max,
            slope,
            threshold,
        } => max.is_none_or(f32::is_finite) && slope.is_finite() && threshold.is_finite(),
        Activation::ThresholdedRelu { theta } => theta.is_finite(),
        Activation::LeakyRelu { alpha } | Activation::Elu { alpha } => alpha.is_finite(),
        Activation::Linear
        | Activation::Relu
        | Activation::Selu
        | Activation::Sigmoid
        | Activation::HardSigmoid
        | Activation::Tanh
        | Activation::Softmax
        | Activation::Softplus
        | Activation::Softsign
        | Activation::Exponential
        | Activation::Swish
        | Activation::Gelu
        | Activation::Mish => true,
    };
    match used.iter().find(|a| !finite(a)) {
        Some(a) => Err(format!(
            "its activation {a:?} has a number that is not finite"
        )),
        None => Ok(()),
    }
}
