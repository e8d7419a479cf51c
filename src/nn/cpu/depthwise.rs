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

    /// Returns the taps of an output index that fall on samples.
    #[inline(always)]
    fn taps(&self, axis: usize, index: usize) -> Taps {
        let (dilation, samples) = (self.dilation[axis], self.input[axis]);
        let first = index * self.strides[axis];
        // The first tap at or after a sample, which lies `before` taps of padding further.
        let tap_at = |sample: usize| {
            (sample + self.before[axis])
                .saturating_sub(first)
                .div_ceil(dilation)
        };
        let end = tap_at(samples).min(self.size[axis]);
        let start = tap_at(0).min(end);
        let sample = (first + start * dilation).saturating_sub(self.before[axis]);
        Taps {
            first: start,
            count: end - start,
            sample,
        }
    }
}

/// Consecutive taps of a kernel along an axis.
#[derive(Clone, Copy)]
struct Taps {
    first: usize,
    count: usize,
    /// Sample of the first tap.
    sample: usize,
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
                let pixel = Pixel {
                    rows: plan.taps(0, p / plan.output[1]),
                    columns: plan.taps(1, p % plan.output[1]),
                };
                match plan.multiplier {
                    1 => one_filter::<V>(plan, x, pixel, y),
                    _ => several_filters(plan, x, pixel, y),
                }
            }
        }
    }
}

/// Taps of an output pixel.
#[derive(Clone, Copy)]
struct Pixel {
    rows: Taps,
    columns: Taps,
}

impl Pixel {
    /// Returns the kernel row and the input pixel of a tap, counted within the taps of both axes.
    #[inline(always)]
    fn tap(self, plan: &DepthwisePlan, row: usize, column: usize) -> [usize; 2] {
        let Self { rows, columns } = self;
        let sample = rows.sample + row * plan.dilation[0];
        [
            (rows.first + row) * plan.size[1] + columns.first + column,
            sample * plan.input[1] + columns.sample + column * plan.dilation[1],
        ]
    }
}

/// Computes one output pixel with several filters per channel.
#[inline(always)]
fn several_filters(plan: &DepthwisePlan, x: &[f32], pixel: Pixel, y: &mut [f32]) {
    let (filters, multiplier) = (plan.bias.len(), plan.multiplier);
    y.copy_from_slice(&plan.bias);
    for row in 0..pixel.rows.count {
        for column in 0..pixel.columns.count {
            let [tap, at] = pixel.tap(plan, row, column);
            let kernel = &plan.kernel[tap * filters..][..filters];
            let x = &x[at * plan.channels..][..plan.channels];
            let groups = y.chunks_exact_mut(multiplier);
            for ((y, k), &x) in groups.zip(kernel.chunks_exact(multiplier)).zip(x) {
                for (y, &k) in y.iter_mut().zip(k) {
                    *y = mul_add(x, k, *y);
                }
            }
        }
    }
}

/// Computes one output pixel with one filter per channel.
#[inline(always)]
fn one_filter<V: Lanes>(plan: &DepthwisePlan, x: &[f32], pixel: Pixel, y: &mut [f32]) {
    let channels = plan.channels;
    let (blocks, tail) = y.as_chunks_mut::<LANES>();
    let in_blocks = blocks.len() * LANES;
    for (i, block) in blocks.iter_mut().enumerate() {
        let first = i * LANES;
        let mut sum = V::load(lanes(&plan.bias, first));
        for row in 0..pixel.rows.count {
            for column in 0..pixel.columns.count {
                let [tap, at] = pixel.tap(plan, row, column);
                let k = V::load(lanes(&plan.kernel, tap * channels + first));
                let v = V::load(lanes(x, at * channels + first));
                sum = k.mul_add_lanes(v, sum);
            }
        }
        sum.store(block);
    }
    if tail.is_empty() {
        return;
    }
    tail.copy_from_slice(&plan.bias[in_blocks..]);
    for row in 0..pixel.rows.count {
        for column in 0..pixel.columns.count {
            let [tap, at] = pixel.tap(plan, row, column);
            let kernel = &plan.kernel[tap * channels + in_blocks..];
            let x = &x[at * channels + in_blocks..];
            for ((y, &k), &x) in tail.iter_mut().zip(kernel).zip(x) {
                *y = mul_add(x, k, *y);
            }
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> &[f32; LANES] {
    values[at..].first_chunk().expect("a whole vector")
}
