//! Ops with one thread per output element that are launched as they are.

use super::{KernelLaunch, PlainOp, StepValues, size_arg};
use crate::nn::cuda::driver::{Arg, DeviceError};
use crate::nn::cuda::plan::Constant;
use crate::nn::cuda::sources::names;
use crate::nn::layers::MapFunction;

/// A function of each element.
#[derive(Debug)]
pub(in crate::nn::cuda) struct Map(pub MapFunction);

impl Map {
    /// Returns the function's number in `kernels/elementwise.cu` and its constant.
    fn code(&self) -> (usize, f32) {
        match self.0 {
            MapFunction::Abs => (0, 0.0),
            MapFunction::Negate => (1, 0.0),
            MapFunction::Square => (2, 0.0),
            MapFunction::Sqrt => (3, 0.0),
            MapFunction::Log => (4, 0.0),
            MapFunction::Exp => (5, 0.0),
            MapFunction::Add(c) => (6, c),
            MapFunction::SubtractFrom(c) => (7, c),
            MapFunction::Multiply(c) => (8, c),
            MapFunction::Divide(c) => (9, c),
            MapFunction::DivideInto(c) => (10, c),
            MapFunction::Maximum(c) => (11, c),
            MapFunction::Minimum(c) => (12, c),
            MapFunction::NotEqual(c) => (13, c),
        }
    }
}

impl PlainOp for Map {
    fn name(&self) -> &'static str {
        "map"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let (function, constant) = self.code();
        let args = vec![
            step.input(0)?,
            step.output()?,
            size_arg(function),
            Arg::F32(constant),
        ];
        Ok(KernelLaunch::each(names::MAP, step.count(), args))
    }
}

/// Part of the middle dimension of `[.., n, after]`.
#[derive(Debug)]
pub(in crate::nn::cuda) struct Slice {
    pub n: usize,
    pub after: usize,
    pub start: usize,
    pub step: usize,
    pub count: usize,
}

impl PlainOp for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let mut args = vec![step.input(0)?, step.output()?];
        let sizes = [self.n, self.after, self.start, self.step, self.count];
        args.extend(sizes.map(size_arg));
        Ok(KernelLaunch::each(names::SLICE, step.count(), args))
    }
}

/// Mean over the middle dimension of `[.., n, after]`.
#[derive(Debug)]
pub(in crate::nn::cuda) struct Mean {
    pub n: usize,
    pub after: usize,
}

impl PlainOp for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let mut args = vec![step.input(0)?, step.output()?];
        args.extend([self.n, self.after].map(size_arg));
        Ok(KernelLaunch::each(names::MEAN_AXIS, step.count(), args))
    }
}

/// Rows of a table `[rows, width]` by index.
#[derive(Debug)]
pub(in crate::nn::cuda) struct Embedding {
    pub table: Constant,
    pub rows: usize,
    pub width: usize,
}

impl PlainOp for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let args = vec![
            step.input(0)?,
            step.constant(self.table)?,
            step.output()?,
            size_arg(self.rows),
            size_arg(self.width),
        ];
        Ok(KernelLaunch::each(names::EMBEDDING, step.count(), args))
    }
}

/// Products of matrices `[m, k]` and `[k, n]`.
#[derive(Debug)]
pub(in crate::nn::cuda) struct MatMul {
    pub sizes: [usize; 3],
    pub transpose_a: bool,
    pub transpose_b: bool,
}

impl PlainOp for MatMul {
    fn name(&self) -> &'static str {
        "matrix product"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let [m, k, n] = self.sizes;
        // Distances of neighbours along the rows and along the terms.
        let (a_row, a_term) = if self.transpose_a { (1, m) } else { (k, 1) };
        let (b_term, b_column) = if self.transpose_b { (1, k) } else { (n, 1) };
        let mut args = vec![step.input(0)?, step.input(1)?, step.output()?];
        args.extend([m, k, n, a_row, a_term, b_term, b_column].map(size_arg));
        Ok(KernelLaunch::each(names::MAT_MUL, step.count(), args))
    }
}
