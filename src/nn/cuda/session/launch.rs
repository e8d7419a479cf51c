//! Kernel launches of one step of a plan.

use super::lane::launch;
use super::{CudaRunError, InPlaceBuffers, Lane, Mode, held};
use crate::nn::cuda::driver::{Arg, DeviceError};
use crate::nn::cuda::ops::{
    Conv, CudaOp, Dense, KernelLaunch, Op, PostOp, StepValues, THREADS, activation_args,
    padded_dims, size_arg,
};
use crate::nn::cuda::plan::{Constant, CudaPlan, Step};
use crate::nn::cuda::sources::{KernelName, names};
use crate::nn::dropout::DropoutMode;
use crate::nn::layers::{Activation, Interpolation, MergeOp, PoolKind};
use crate::nn::lowering::Dropout;

/// Buffers and sizes of one step.
struct Call<'a> {
    lane: &'a Lane,
    in_place: &'a InPlaceBuffers,
    plan: &'a CudaPlan,
    step: &'a Step,
    mode: Mode<'a>,
    /// Rows of the output times the step's outer dimensions.
    items: usize,
    /// Elements of the output.
    count: usize,
}

impl Lane {
    pub(super) fn step(
        &self,
        plan: &CudaPlan,
        step: &Step,
        in_place: &InPlaceBuffers,
        rows: usize,
        mode: Mode,
    ) -> Result<(), CudaRunError> {
        let value = &plan.lowered.values[step.output];
        let rows = rows * if value.per_draw { mode.draws } else { 1 };
        let call = Call {
            lane: self,
            in_place,
            plan,
            step,
            mode,
            items: rows * step.outer,
            count: rows * value.elements,
        };
        call.compute()?;
        Ok(())
    }
}

impl StepValues for Call<'_> {
    fn items(&self) -> usize {
        self.items
    }

    fn count(&self) -> usize {
        self.count
    }

    fn input(&self, number: usize) -> Result<Arg, DeviceError> {
        self.slot(self.step.inputs[number])
    }

    fn output(&self) -> Result<Arg, DeviceError> {
        self.slot(self.step.output)
    }

    fn second(&self) -> Result<Option<Arg>, DeviceError> {
        self.step.second.map(|value| self.slot(value)).transpose()
    }

    fn constant(&self, constant: Constant) -> Result<Arg, DeviceError> {
        let offset = constant.0 * size_of::<f32>();
        self.plan.constants.range(offset, 0).map(Arg::Pointer)
    }
}

impl Call<'_> {
    fn slot(&self, value: usize) -> Result<Arg, DeviceError> {
        self.lane.address(self.plan, self.in_place, value)
    }

    fn optional(&self, constant: Option<Constant>) -> Result<Arg, DeviceError> {
        constant.map_or(Ok(Arg::Pointer(0)), |c| self.constant(c))
    }

    fn run_launch(&self, call: KernelLaunch) -> Result<(), DeviceError> {
        // SAFETY: the arguments match the kernels' parameters in order. Sizes follow from the
        // validated shapes for which the buffers were allocated.
        unsafe { launch(&*self.plan.driver, self.lane.stream, call) }
    }

    fn each(&self, kernel: KernelName, count: usize, args: Vec<Arg>) -> Result<(), DeviceError> {
        self.run_launch(KernelLaunch::each(kernel, count, args))
    }

    fn compute(&self) -> Result<(), DeviceError> {
        let count = self.count;
        let (x, y) = (self.input(0)?, self.output()?);
        match &self.step.op {
            Op::Backend(op) => self.backend_op(op),
            Op::Dropout(d) => self.dropout(d),
            Op::GlobalPool {
                kind,
                pixels,
                channels,
            } => {
                let mean = flag_arg(*kind == PoolKind::Average);
                let args = vec![x, y, mean, size_arg(*pixels), size_arg(*channels)];
                self.each(names::GLOBAL_POOL, count, args)
            }
            Op::ZeroPad {
                image,
                output,
                top,
                left,
            } => {
                let sizes = image.iter().chain(output).map(|&n| n as u32).collect();
                let args = vec![x, y, Arg::Words(sizes), size_arg(*top), size_arg(*left)];
                self.each(names::ZERO_PAD, count, args)
            }
            Op::Reverse { rows, width } => self.each(
                names::REVERSE,
                count,
                vec![x, y, size_arg(*rows), size_arg(*width)],
            ),
            Op::Permute { shape, order } => {
                let along = |&d: &usize| shape[d + 1..].iter().product();
                let strides: Vec<usize> = order.iter().map(along).collect();
                let permuted: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
                let words = [shape.len(), shape.iter().product()].into_iter();
                let words = words
                    .chain(padded_dims(&permuted))
                    .chain(padded_dims(&strides));
                let words = words.map(|n| n as u32).collect();
                self.each(names::PERMUTE, count, vec![x, y, Arg::Words(words)])
            }
            Op::Repeat { count: n, width } => self.each(
                names::REPEAT,
                count,
                vec![x, y, size_arg(*n), size_arg(*width)],
            ),
            Op::BroadcastDraws => {
                let width = self.plan.lowered.values[self.step.output].elements;
                let args = vec![x, y, size_arg(self.mode.draws), size_arg(width)];
                self.each(names::REPEAT, count, args)
            }
            Op::Concat { widths, total } => {
                let mut at = 0;
                for (i, &width) in widths.iter().enumerate() {
                    let part = count / total * width;
                    let x = self.input(i)?;
                    let args = vec![
                        x,
                        y.clone(),
                        size_arg(width),
                        size_arg(*total),
                        size_arg(at),
                    ];
                    self.each(names::PLACE, part, args)?;
                    at += width;
                }
                Ok(())
            }
            Op::Activation {
                function: Activation::Softmax,
                last: n,
            }
            | Op::Softmax { n, after: 1 } => self.softmax_rows(x, *n),
            Op::Softmax { n, after } => self.each(
                names::SOFTMAX_AXIS,
                count / n,
                vec![x, y, size_arg(*n), size_arg(*after)],
            ),
            Op::Activation { function, .. } => self.activate(x, *function),
            Op::SumAxis { n, after } => self.each(
                names::SUM_AXIS,
                count,
                vec![x, y, size_arg(*n), size_arg(*after)],
            ),
            Op::SpatialMultiply { channels } => {
                let args = vec![x, self.input(1)?, y, size_arg(*channels)];
                self.each(names::SPATIAL_MULTIPLY, count, args)
            }
            Op::ChannelMultiply { item, channels } => {
                let args = vec![x, self.input(1)?, y, size_arg(*item), size_arg(*channels)];
                self.each(names::CHANNEL_MULTIPLY, count, args)
            }
        }
    }

    fn backend_op(&self, op: &CudaOp) -> Result<(), DeviceError> {
        let count = self.count;
        let (x, y) = (self.input(0)?, self.output()?);
        match op {
            CudaOp::Conv(conv) => {
                self.conv(conv)?;
                self.run_post_op(conv.post_op)
            }
            CudaOp::Dense(dense) => {
                self.dense(dense)?;
                self.run_post_op(dense.post_op)
            }
            CudaOp::Pool(pool) => {
                let args = vec![x, y, Arg::Words(pool.to_kernel_args()), flag_arg(pool.mean)];
                self.each(names::POOL, count, args)
            }
            CudaOp::Upsample {
                image,
                factor,
                interpolation,
                maps,
            } => {
                let how = match interpolation {
                    Interpolation::Nearest => 0u32,
                    Interpolation::BilinearLegacy => 1,
                    Interpolation::BilinearHalfPixel => 2,
                };
                let [rows, columns] = factor.map(size_arg);
                let sizes = [
                    Arg::Words(image.to_kernel_args()),
                    rows,
                    columns,
                    how.into(),
                ];
                let Some(channels) = *maps else {
                    let args = [x, y].into_iter().chain(sizes).collect();
                    return self.each(names::UPSAMPLE, count, args);
                };
                let args = [x, self.input(1)?, y].into_iter().chain(sizes);
                let args = args.chain([size_arg(channels)]).collect();
                // Each thread computes four channels (layout.cu).
                let groups = count / channels * channels.div_ceil(4);
                self.each(names::UPSAMPLE_MULTIPLY, groups, args)
            }
            CudaOp::ScaleShift {
                scale,
                shift,
                channels,
            } => {
                let (scale, shift) = (self.constant(*scale)?, self.constant(*shift)?);
                let args = vec![x, scale, shift, y, size_arg(*channels)];
                self.each(names::SCALE_SHIFT, count, args)
            }
            CudaOp::Merge { op, joins } => {
                let number = match op {
                    MergeOp::Add | MergeOp::Average => 0u32,
                    MergeOp::Subtract => 1,
                    MergeOp::Multiply => 2,
                    MergeOp::Maximum => 3,
                    MergeOp::Minimum => 4,
                };
                for (i, how) in joins.iter().enumerate() {
                    let a = if i == 0 { x.clone() } else { y.clone() };
                    let b = self.input(i + 1)?;
                    let divisor = match op {
                        MergeOp::Average if i + 1 == joins.len() => (joins.len() + 1) as f32,
                        _ => 1.0,
                    };
                    let how = Arg::Words(how.to_kernel_args());
                    let args = vec![a, b, y.clone(), how, number.into(), divisor.into()];
                    self.each(names::MERGE, count, args)?;
                }
                Ok(())
            }
            CudaOp::Plain(op) => self.run_launch(op.launch(self)?),
        }
    }

    /// Applies an operation to the output in place.
    fn run_post_op(&self, post_op: Option<PostOp>) -> Result<(), DeviceError> {
        match post_op {
            Some(PostOp::Softmax(n)) => self.softmax_rows(self.output()?, n),
            Some(PostOp::Activation(function)) => self.activate(self.output()?, function),
            None => Ok(()),
        }
    }

    /// Applies `function` from `x` to the output; `x` may be the output.
    fn activate(&self, x: Arg, function: Activation) -> Result<(), DeviceError> {
        let args = vec![x, self.output()?, function_arg(function)];
        self.each(names::ACTIVATE, self.count, args)
    }

    /// Applies softmax to rows of `n` elements, from `x` to the output; `x` may be the output.
    fn softmax_rows(&self, x: Arg, n: usize) -> Result<(), DeviceError> {
        let rows = self.count / n;
        let blocks = rows.div_ceil(THREADS / 32);
        let args = vec![x, self.output()?, size_arg(n), size_arg(rows)];
        self.run_launch(KernelLaunch {
            kernel: names::SOFTMAX_ROWS,
            blocks,
            threads: THREADS,
            shared: 0,
            args,
        })
    }

    fn conv(&self, conv: &Conv) -> Result<(), DeviceError> {
        let factors = match conv.scaled {
            true => self.input(1)?,
            false => Arg::Pointer(0),
        };
        let (scale, shift) = conv.affine.unzip();
        // Struct `Arguments` in conv.cuh.
        let given = Arg::structure(&[
            self.input(0)?,
            factors,
            self.constant(conv.kernel)?,
            self.constant(conv.bias)?,
            self.optional(scale)?,
            self.optional(shift)?,
            self.output()?,
            Arg::Words(conv.to_kernel_args(self.items as u32)),
            Arg::Words(conv.epilogue_args()),
            size_arg(1),
        ]);
        let Some(tiling) = conv.tiling else {
            return self.each(names::CONV, self.count, vec![given]);
        };
        self.run_launch(KernelLaunch {
            kernel: tiling.kernel(),
            blocks: tiling.blocks(self.items),
            threads: tiling.threads(),
            shared: tiling.shared(),
            args: vec![given, Arg::Words(tiling.to_kernel_args())],
        })
    }

    fn dense(&self, dense: &Dense) -> Result<(), DeviceError> {
        let rows = self.count / dense.units;
        // Rows and units per block, and its threads (dense.cu).
        let (kernel, [height, width], threads) = match dense.units {
            ..=16 => (names::DENSE_NARROW, [64, 16], 128),
            _ => (names::DENSE_WIDE, [128, 64], 256),
        };
        // Struct `Arguments` in dense.cu.
        let given = Arg::structure(&[
            self.input(0)?,
            self.constant(dense.kernel)?,
            self.optional(dense.bias)?,
            self.output()?,
            flag_arg(dense.relu),
            size_arg(rows),
            size_arg(dense.inputs),
            size_arg(dense.units),
        ]);
        self.run_launch(KernelLaunch {
            kernel,
            blocks: rows.div_ceil(height) * dense.units.div_ceil(width),
            threads,
            shared: 0,
            args: vec![given],
        })
    }

    fn dropout(&self, d: &Dropout) -> Result<(), DeviceError> {
        let (x, y) = (self.input(0)?, self.output()?);
        let row = d.units * d.pixels;
        // A draw-invariant input has one row for several rows of the output.
        let copies = match self.plan.lowered.values[self.step.inputs[0]].per_draw {
            true => 1,
            false => self.mode.draws,
        };
        let units = [row, d.units, d.pixels, d.channels];
        let units = Arg::Words(units.map(|n| n as u32).to_vec());
        let kept = 1.0 / (1.0 - d.rate);
        match self.mode.dropout {
            DropoutMode::Off => self.each(
                names::REPEAT,
                self.count,
                vec![x, y, size_arg(1), size_arg(row)],
            ),
            DropoutMode::Draws { n, seed } => {
                let words = vec![
                    *seed as u32,
                    (seed >> 32) as u32,
                    d.number,
                    self.mode.first_draw,
                    n.get(),
                    d.rate.to_bits(),
                    kept.to_bits(),
                ];
                let args = vec![x, y, units, Arg::Words(words), size_arg(copies)];
                self.each(names::DROPOUT, self.count, args)
            }
            DropoutMode::Masks(_) => {
                let factors = Arg::from(held(&self.lane.masks[d.number as usize]));
                let args = vec![x, factors, y, units, size_arg(copies)];
                self.each(names::MASK, self.count, args)
            }
        }
    }
}

fn flag_arg(on: bool) -> Arg {
    Arg::U32(u32::from(on))
}

fn function_arg(function: Activation) -> Arg {
    Arg::Words(activation_args(function).to_vec())
}
