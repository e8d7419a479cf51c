//! Element-wise layers and sums over one dimension.

use super::op::{OpCall, PlainOp};
use crate::nn::layers::MergeOp;
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel, mul_add};

/// Strides with which an input is read for each element of a broadcast output; 0 along stretched
/// dimensions.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    /// Output shape and input strides, or `None` when the shapes are equal.
    strided: Option<(Vec<usize>, Vec<usize>)>,
    input_item: usize,
    output_item: usize,
}

impl Broadcast {
    pub fn new(input: &[usize], output: &[usize]) -> Self {
        let strided = (input != output).then(|| {
            let missing = output.len() - input.len();
            let mut strides = vec![0; output.len()];
            let mut step = 1;
            for (d, &n) in input.iter().enumerate().rev() {
                strides[missing + d] = if n == 1 { 0 } else { step };
                step *= n;
            }
            (output.to_vec(), strides)
        });
        Self {
            strided,
            input_item: input.iter().product(),
            output_item: output.iter().product(),
        }
    }

    /// Calls `f(output, input)` for every output element.
    pub fn zip(&self, input: &[f32], output: &mut [f32], f: impl Fn(&mut f32, f32) + Copy) {
        let Some((shape, strides)) = &self.strided else {
            for (o, &x) in output.iter_mut().zip(input) {
                f(o, x);
            }
            return;
        };
        let items = output.chunks_exact_mut(self.output_item);
        for (source, target) in input.chunks_exact(self.input_item).zip(items) {
            zip_dimension(shape, strides, source, target, f);
        }
    }
}

fn zip_dimension(
    shape: &[usize],
    strides: &[usize],
    input: &[f32],
    output: &mut [f32],
    f: impl Fn(&mut f32, f32) + Copy,
) {
    let (&stride, rest_strides) = strides.split_first().expect("at least one dimension");
    let (&n, rest) = shape.split_first().expect("at least one dimension");
    if rest.is_empty() {
        for (i, o) in output.iter_mut().enumerate() {
            f(o, input[i * stride]);
        }
        return;
    }
    let part = output.len() / n;
    for (i, out) in output.chunks_exact_mut(part).enumerate() {
        zip_dimension(rest, rest_strides, &input[i * stride..], out, f);
    }
}

/// An element-wise merge.
#[derive(Debug)]
pub(crate) struct MergePlan {
    pub op: MergeOp,
    pub inputs: Vec<Broadcast>,
}

impl PlainOp for MergePlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let OpCall { input, output, .. } = call;
        self.inputs[0].zip(input(0), output, |o, x| *o = x);
        for (i, how) in self.inputs.iter().enumerate().skip(1) {
            merge(self.op, how, input(i), output);
        }
        if self.op == MergeOp::Average {
            let n = self.inputs.len() as f32;
            output.iter_mut().for_each(|o| *o /= n);
        }
    }
}

/// Accumulates one more input into the output of a merge.
fn merge(op: MergeOp, how: &Broadcast, input: &[f32], output: &mut [f32]) {
    match op {
        MergeOp::Add | MergeOp::Average => how.zip(input, output, |o, x| *o += x),
        MergeOp::Subtract => how.zip(input, output, |o, x| *o -= x),
        MergeOp::Multiply => how.zip(input, output, |o, x| *o *= x),
        MergeOp::Maximum => how.zip(input, output, |o, x| *o = if x > *o { x } else { *o }),
        MergeOp::Minimum => how.zip(input, output, |o, x| *o = if x < *o { x } else { *o }),
    }
}

/// Computes `output = input * scale + shift` per channel.
pub(crate) fn scale_shift(
    isa: Isa,
    scale: &[f32],
    shift: &[f32],
    input: &[f32],
    output: &mut [f32],
) {
    isa.dispatch(ScaleShift {
        scale,
        shift,
        input,
        output,
    });
}

struct ScaleShift<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Kernel for ScaleShift<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let channels = self.scale.len();
        let shift = &self.shift[..channels];
        let rows = self.input.chunks_exact(channels);
        for (x, y) in rows.zip(self.output.chunks_exact_mut(channels)) {
            for c in 0..channels {
                y[c] = mul_add(x[c], self.scale[c], shift[c]);
            }
        }
    }
}

/// Parametric ReLU: `x` where `x > 0`, else `alpha * x`.
#[derive(Debug)]
pub(crate) struct PReluPlan {
    /// Slopes of the size of an item.
    pub alpha: Vec<f32>,
}

impl PlainOp for PReluPlan {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn run(&self, call: OpCall) {
        let item = self.alpha.len();
        let items = (call.input)(0).chunks_exact(item);
        for (x, y) in items.zip(call.output.chunks_exact_mut(item)) {
            for ((y, &x), &a) in y.iter_mut().zip(x).zip(&self.alpha) {
                *y = if x > 0.0 { x } else { a * x };
            }
        }
    }
}

/// Sums `[before, n, after]` over the middle dimension.
pub(crate) fn sum_axis(n: usize, after: usize, input: &[f32], output: &mut [f32]) {
    let blocks = input.chunks_exact(n * after);
    for (block, out) in blocks.zip(output.chunks_exact_mut(after)) {
        out.fill(0.0);
        for row in block.chunks_exact(after) {
            for (o, &x) in out.iter_mut().zip(row) {
                *o += x;
            }
        }
    }
}

/// Multiplies maps by one factor per pixel.
pub(crate) fn spatial_multiply(channels: usize, maps: &[f32], by: &[f32], output: &mut [f32]) {
    let pixels = maps.chunks_exact(channels).zip(by);
    for ((x, &w), y) in pixels.zip(output.chunks_exact_mut(channels)) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * w;
        }
    }
}

/// Multiplies maps of `item` elements by one factor per channel.
pub(crate) fn channel_multiply(
    item: usize,
    channels: usize,
    maps: &[f32],
    by: &[f32],
    output: &mut [f32],
) {
    let items = maps.chunks_exact(item).zip(by.chunks_exact(channels));
    for ((x, w), y) in items.zip(output.chunks_exact_mut(item)) {
        for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
            for c in 0..channels {
                y[c] = x[c] * w[c];
            }
        }
    }
}
