//! Depthwise convolution.

use super::math;
use super::op::{OpCall, PlainOp};
use crate::nn::layers::shapes::spatial;
use crate::nn::layers::windows::{extent, window};
use crate::nn::layers::{Activation, DepthwiseConv};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Kernel, mul_add};

/// A depthwise convolution for one input shape.
///
/// Each output starts from the bias and adds one product per tap, in the order of the taps.
#[derive(Debug)]
pub(crate) struct DepthwisePlan {
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
    multiplier: usize,
    size: [usize; 2],
    strides: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    /// `[taps, channels * multiplier]`.
    kernel: Vec<f32>,
    bias: Vec<f32>,
    activation: Activation,
}

impl DepthwisePlan {
    /// Plans a layer whose kernel has spatial dimensions `size`, for input shape `x`.
    pub fn new(
        layer: &DepthwiseConv,
        size: [usize; 2],
        kernel: &[f32],
        bias: Option<&[f32]>,
        x: &[usize],
        filters: usize,
    ) -> Self {
        let (input, channels) = spatial(x).expect("validated shape");
        let windows = [0, 1].map(|axis| {
            let span = extent(size[axis], layer.dilation[axis]);
            window(input[axis], span, layer.strides[axis], layer.padding).expect("validated window")
        });
        Self {
            input,
            output: windows.map(|(length, _)| length),
            channels,
            multiplier: filters / channels,
            size,
            strides: layer.strides,
            dilation: layer.dilation,
            before: windows.map(|(_, before)| before),
            kernel: kernel.to_vec(),
            bias: bias.map_or_else(|| vec![0.0; filters], <[f32]>::to_vec),
            activation: layer.activation,
        }
    }

    /// Returns the taps of an output index that fall on samples, as (tap, sample).
    #[inline(always)]
    fn taps(&self, axis: usize, index: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
        let first = index * self.strides[axis];
        let (before, dilation, samples) =
            (self.before[axis], self.dilation[axis], self.input[axis]);
        (0..self.size[axis]).filter_map(move |k| {
            let sample = (first + k * dilation).checked_sub(before)?;
            (sample < samples).then_some((k, sample))
        })
    }
}

impl PlainOp for DepthwisePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa, input, output, ..
        } = call;
        isa.dispatch(Depthwise {
            plan: self,
            input: input(0),
            output: &mut *output,
        });
        math::activate(isa, self.activation, self.bias.len(), output);
    }
}

struct Depthwise<'a> {
    plan: &'a DepthwisePlan,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for Depthwise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let plan = self.plan;
        let filters = plan.bias.len();
        let item = plan.input[0] * plan.input[1] * plan.channels;
        let pixels = plan.output[0] * plan.output[1];
        let items = self.input.chunks_exact(item);
        for (x, y) in items.zip(self.output.chunks_exact_mut(pixels * filters)) {
            for (p, y) in y.chunks_exact_mut(filters).enumerate() {
                let rows = plan.taps(0, p / plan.output[1]);
                let columns = plan.taps(1, p % plan.output[1]);
                // Kernel row and input pixel of each tap.
                let taps = rows.flat_map(|(k, row)| {
                    columns.clone().map(move |(l, column)| {
                        (k * plan.size[1] + l, row * plan.input[1] + column)
                    })
                });
                match plan.multiplier {
                    1 => one_filter::<V>(plan, x, taps, y),
                    multiplier => {
                        y.copy_from_slice(&plan.bias);
                        for (tap, pixel) in taps {
                            let kernel = &plan.kernel[tap * filters..][..filters];
                            let x = &x[pixel * plan.channels..][..plan.channels];
                            let groups = y.chunks_exact_mut(multiplier);
                            for ((y, k), &x) in groups.zip(kernel.chunks_exact(multiplier)).zip(x) {
                                for (y, &k) in y.iter_mut().zip(k) {
                                    *y = mul_add(x, k, *y);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Computes one output pixel with one filter per channel.
#[inline(always)]
fn one_filter<V: Lanes>(
    plan: &DepthwisePlan,
    x: &[f32],
    taps: impl Iterator<Item = (usize, usize)> + Clone,
    y: &mut [f32],
) {
    let channels = plan.channels;
    let (blocks, tail) = y.as_chunks_mut::<LANES>();
    let in_blocks = blocks.len() * LANES;
    for (i, block) in blocks.iter_mut().enumerate() {
        let at = i * LANES;
        let mut sum = V::load(lanes(&plan.bias, at));
        for (tap, pixel) in taps.clone() {
            let k = V::load(lanes(&plan.kernel, tap * channels + at));
            let v = V::load(lanes(x, pixel * channels + at));
            sum = k.mul_add_lanes(v, sum);
        }
        sum.store(block);
    }
    tail.copy_from_slice(&plan.bias[in_blocks..]);
    for (tap, pixel) in taps {
        let kernel = &plan.kernel[tap * channels + in_blocks..];
        let x = &x[pixel * channels + in_blocks..];
        for ((y, &k), &x) in tail.iter_mut().zip(kernel).zip(x) {
            *y = mul_add(x, k, *y);
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> &[f32; LANES] {
    values[at..].first_chunk().expect("a whole vector")
}
