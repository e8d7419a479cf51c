//! Execution of one step of a plan.

use crate::nn::cpu::op::OpCall;
use crate::nn::cpu::{elementwise, layout, math, pool};
use crate::nn::dropout::{DropoutMode, draw_factors};
use crate::nn::lowering::Dropout;
use crate::nn::plan::{CpuOp, Op};
use crate::simd::Isa;

/// Sizes common to every op of a step.
pub(super) struct OpContext {
    pub isa: Isa,
    pub items: usize,
    pub draws: usize,
    pub elements: usize,
}

impl OpContext {
    pub fn compute<'a>(
        &self,
        op: &Op,
        input: impl Fn(usize) -> &'a [f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let isa = self.isa;
        let x = input(0);
        match op {
            Op::Backend(op) => self.backend_op(op, input, output, scratch),
            Op::GlobalPool {
                kind,
                pixels,
                channels,
            } => pool::global_pool(*kind, *pixels, *channels, x, output),
            Op::ZeroPad {
                image,
                output: size,
                top,
                left,
            } => layout::zero_pad(*image, *size, [*top, *left], x, output),
            Op::Reverse { rows, width } => layout::reverse(*rows, *width, x, output),
            Op::Permute { shape, order } => layout::permute(shape, order, x, output),
            Op::Repeat { count, width } => layout::repeat(*count, *width, x, output),
            Op::Concat { widths, total } => {
                let mut at = 0;
                for (i, &width) in widths.iter().enumerate() {
                    layout::scatter(width, *total, at, input(i), output);
                    at += width;
                }
            }
            Op::Activation { function, last } => {
                output.copy_from_slice(x);
                math::activate(isa, *function, *last, output);
            }
            Op::Softmax { n, after } => {
                output.copy_from_slice(x);
                softmax_axis(*n, *after, output, scratch);
            }
            Op::SumAxis { n, after } => elementwise::sum_axis(*n, *after, x, output),
            Op::SpatialMultiply { channels } => {
                elementwise::spatial_multiply(*channels, x, input(1), output);
            }
            Op::ChannelMultiply { item, channels } => {
                elementwise::channel_multiply(*item, *channels, x, input(1), output);
            }
            Op::BroadcastDraws => layout::repeat(self.draws, self.elements, x, output),
            Op::Dropout(_) => unreachable!("computed by drop_units"),
        }
    }

    fn backend_op<'a>(
        &self,
        op: &CpuOp,
        input: impl Fn(usize) -> &'a [f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let isa = self.isa;
        let x = input(0);
        match op {
            CpuOp::Conv {
                plan,
                packed,
                epilogue,
                activation,
                channels,
            } => {
                plan.run(isa, x, packed, epilogue, output, scratch);
                math::activate(isa, *activation, *channels, output);
            }
            CpuOp::ChannelScaledConv(conv) => conv.run(isa, x, input(1), output, scratch),
            CpuOp::Pool(plan) => plan.run(isa, x, output),
            CpuOp::Slice(plan) => plan.run(x, output),
            CpuOp::ScaleShift { scale, shift } => {
                elementwise::scale_shift(isa, scale, shift, x, output);
            }
            CpuOp::Plain(op) => op.run(OpCall {
                isa,
                items: self.items,
                input: &input,
                output,
                scratch,
            }),
        }
    }
}

/// Returns the scratch elements that `op` needs for `items` items.
pub(super) fn scratch_len(op: &Op, items: usize) -> usize {
    match op {
        Op::Backend(op) => match op {
            CpuOp::Conv {
                plan,
                epilogue,
                channels,
                ..
            } => plan.scratch(*channels, epilogue),
            CpuOp::ChannelScaledConv(conv) => conv.scratch(),
            CpuOp::Plain(op) => op.scratch(items),
            CpuOp::Pool(_) | CpuOp::Slice(_) | CpuOp::ScaleShift { .. } => 0,
        },
        Op::Dropout(dropout) => dropout.units,
        Op::Softmax { n, .. } => *n,
        Op::GlobalPool { .. }
        | Op::ZeroPad { .. }
        | Op::Reverse { .. }
        | Op::Permute { .. }
        | Op::Repeat { .. }
        | Op::Concat { .. }
        | Op::Activation { .. }
        | Op::SumAxis { .. }
        | Op::SpatialMultiply { .. }
        | Op::ChannelMultiply { .. }
        | Op::BroadcastDraws => 0,
    }
}

/// Computes softmax over the middle dimension of `[.., n, after]`.
fn softmax_axis(n: usize, after: usize, values: &mut [f32], scratch: &mut [f32]) {
    for block in values.chunks_exact_mut(n * after) {
        for lane in 0..after {
            for (s, v) in scratch.iter_mut().zip(block[lane..].iter().step_by(after)) {
                *s = *v;
            }
            math::softmax_row(scratch);
            for (v, s) in block[lane..].iter_mut().step_by(after).zip(&*scratch) {
                *v = *s;
            }
        }
    }
}

/// Multiplies each row by the factors of its draw or mask; copies the rows if dropout is off.
pub(super) fn drop_units(
    dropout: &Dropout,
    mode: &DropoutMode,
    first_draw: u32,
    input: &[f32],
    output: &mut [f32],
    factors: &mut [f32],
) {
    let Dropout {
        name,
        number,
        rate,
        units,
        pixels,
        channels,
    } = dropout;
    let row = units * pixels;
    // A draw-invariant input has one row for several rows of the output.
    let copies = output.len() / input.len().max(1);
    for (r, y) in output.chunks_exact_mut(row).enumerate() {
        let x = &input[r / copies * row..][..row];
        match mode {
            DropoutMode::Off => {
                y.copy_from_slice(x);
                continue;
            }
            DropoutMode::Draws { n, seed } => {
                let draw = first_draw.wrapping_add((r % n.get() as usize) as u32);
                draw_factors(*seed, draw, *number, *rate, factors);
            }
            DropoutMode::Masks(masks) => {
                let kept = 1.0 / (1.0 - rate);
                let decisions = &masks.0[name][r * units..][..*units];
                for (f, &keep) in factors.iter_mut().zip(decisions) {
                    *f = if keep != 0 { kept } else { 0.0 };
                }
            }
        }
        let groups = x
            .chunks_exact(pixels * channels)
            .zip(y.chunks_exact_mut(pixels * channels));
        for ((x, y), factors) in groups.zip(factors.chunks_exact(*channels)) {
            for (x, y) in x.chunks_exact(*channels).zip(y.chunks_exact_mut(*channels)) {
                for c in 0..*channels {
                    y[c] = x[c] * factors[c];
                }
            }
        }
    }
}
