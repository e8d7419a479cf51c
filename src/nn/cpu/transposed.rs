//! Transposed convolution.

use super::math;
use super::op::{OpCall, PlainOp};
use crate::nn::layers::shapes::spatial;
use crate::nn::layers::{Activation, ConvTranspose};
use crate::simd::mul_add;

/// A transposed convolution for one input shape.
///
/// Each output starts from the bias and adds its products in the order of the taps, then of the
/// channels.
#[derive(Debug)]
pub(crate) struct TransposedPlan {
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
    size: [usize; 2],
    strides: [usize; 2],
    dilation: [usize; 2],
    /// Outputs that are cut off before the first.
    cut: [usize; 2],
    /// `[taps, filters, channels]`.
    kernel: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl TransposedPlan {
    /// Plans a layer whose kernel has spatial dimensions `size`, for input shape `x`.
    pub fn new(
        layer: &ConvTranspose,
        size: [usize; 2],
        kernel: &[f32],
        bias: Option<&[f32]>,
        x: &[usize],
        filters: usize,
    ) -> Self {
        let (input, channels) = spatial(x).expect("validated shape");
        let lengths = [0, 1].map(|a| layer.length(a, input[a], size[a]));
        Self {
            input,
            output: lengths.map(|(length, _)| length),
            channels,
            size,
            strides: layer.strides,
            dilation: layer.dilation,
            cut: lengths.map(|(_, cut)| cut),
            kernel: kernel.to_vec(),
            bias: bias.map_or_else(|| vec![0.0; filters], <[f32]>::to_vec),
            activation: layer.activation,
        }
    }

    /// Returns the taps that reach an output index, as (tap, sample).
    fn taps(&self, axis: usize, index: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let full = index + self.cut[axis];
        let (stride, samples) = (self.strides[axis], self.input[axis]);
        (0..self.size[axis]).filter_map(move |k| {
            let place = full.checked_sub(k * self.dilation[axis])?;
            (place % stride == 0 && place / stride < samples).then_some((k, place / stride))
        })
    }
}

impl PlainOp for TransposedPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa, input, output, ..
        } = call;
        let filters = self.bias.len();
        let item = self.input[0] * self.input[1] * self.channels;
        let pixels = self.output[0] * self.output[1];
        let items = input(0).chunks_exact(item);
        for (x, y) in items.zip(output.chunks_exact_mut(pixels * filters)) {
            for (p, y) in y.chunks_exact_mut(filters).enumerate() {
                y.copy_from_slice(&self.bias);
                for (k, row) in self.taps(0, p / self.output[1]) {
                    for (l, column) in self.taps(1, p % self.output[1]) {
                        let pixel = row * self.input[1] + column;
                        let x = &x[pixel * self.channels..][..self.channels];
                        let tap = k * self.size[1] + l;
                        let kernel = &self.kernel[tap * filters * self.channels..];
                        for (y, k) in y.iter_mut().zip(kernel.chunks_exact(self.channels)) {
                            *y = k.iter().zip(x).fold(*y, |sum, (k, x)| mul_add(*k, *x, sum));
                        }
                    }
                }
            }
        }
        math::activate(isa, self.activation, filters, output);
    }
}
