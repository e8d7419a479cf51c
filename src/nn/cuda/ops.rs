//! Ops of the CUDA back end, with everything that does not depend on the data.

use std::fmt::Debug;

use super::driver::{Arg, DeviceError};
use super::plan::Constant;
use super::sources::KernelName;
use super::tile::Tiling;
use crate::nn::layers::{Activation, Interpolation, MergeOp};
use crate::nn::lowering;

pub(super) type Op = lowering::Op<CudaOp>;

mod attention_pool;
mod plain;
mod prelu;
mod recurrent;

pub(super) use attention_pool::{AttentionPool, Scores};
pub(super) use plain::{Embedding, Map, MatMul, Mean, Slice};
pub(super) use prelu::PRelu;
pub(super) use recurrent::{Cell, Recurrent};

/// Threads per block of kernels with one element per thread.
pub(super) const THREADS: usize = 256;

/// Ops of the CUDA back end. Those with a variant of their own are fused or are several kernels.
#[derive(Debug)]
pub(super) enum CudaOp {
    /// Convolution; with `scaled`, a second input scales the channels of the first.
    Conv(Box<Conv>),
    Dense(Dense),
    Pool(Pool),
    Upsample {
        image: Image,
        factor: [usize; 2],
        interpolation: Interpolation,
        /// Channels of a second input: maps that are multiplied by the single-channel result.
        maps: Option<usize>,
    },
    ScaleShift {
        scale: Constant,
        shift: Constant,
        channels: usize,
    },
    /// Element-wise merge: the first two inputs, then the result with each further input.
    Merge {
        op: MergeOp,
        joins: Vec<Broadcast>,
    },
    /// An op that planning does not inspect.
    Plain(Box<dyn PlainOp>),
}

impl Op {
    /// Returns the op's name for listings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Backend(op) => op.name(),
            Self::GlobalPool { .. } => "global pool",
            Self::ZeroPad { .. } => "zero pad",
            Self::Reverse { .. } => "reverse",
            Self::Permute { .. } => "permute",
            Self::Repeat { .. } => "repeat",
            Self::Concat { .. } => "concat",
            Self::Dropout(_) => "dropout",
            Self::Activation {
                function: Activation::Softmax,
                ..
            }
            | Self::Softmax { .. } => "softmax",
            Self::Activation { .. } => "activation",
            Self::SumAxis { .. } => "sum",
            Self::SpatialMultiply { .. } => "spatial multiply",
            Self::ChannelMultiply { .. } => "channel multiply",
            Self::BroadcastDraws => "spread",
        }
    }
}

impl CudaOp {
    fn name(&self) -> &'static str {
        match self {
            Self::Conv(conv) if conv.tiling.is_some() => "tiled convolution",
            Self::Conv(_) => "convolution",
            Self::Dense(_) => "dense",
            Self::Pool(_) => "pool",
            Self::Upsample { maps: Some(_), .. } => "upsample and multiply",
            Self::Upsample { .. } => "upsample",
            Self::ScaleShift { .. } => "scale and shift",
            Self::Merge { .. } => "merge",
            Self::Plain(op) => op.name(),
        }
    }
}

/// An op with its attributes and weights that is one kernel and is neither fused nor part of a
/// pattern.
pub(super) trait PlainOp: Debug + Send + Sync {
    /// Returns the op's name for listings.
    fn name(&self) -> &'static str;

    /// Returns the launch that computes a step's output.
    ///
    /// # Errors
    /// If a value has no address.
    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError>;
}

/// Addresses and sizes of a step's values.
pub(super) trait StepValues {
    /// Rows of the output times the step's outer dimensions.
    fn items(&self) -> usize;
    /// Elements of the output.
    fn count(&self) -> usize;
    fn input(&self, number: usize) -> Result<Arg, DeviceError>;
    fn output(&self) -> Result<Arg, DeviceError>;
    /// The second output, if the step has one.
    fn second(&self) -> Result<Option<Arg>, DeviceError>;
    fn constant(&self, constant: Constant) -> Result<Arg, DeviceError>;
}

/// A kernel with its arguments, in the order of its parameters.
pub(super) struct KernelLaunch {
    pub kernel: KernelName,
    pub blocks: usize,
    pub threads: usize,
    /// Bytes of shared memory per block.
    pub shared: usize,
    pub args: Vec<Arg>,
}

impl KernelLaunch {
    /// Launches a kernel with one thread per element; its last argument is `count`.
    pub fn each(kernel: KernelName, count: usize, mut args: Vec<Arg>) -> Self {
        args.push(size_arg(count));
        Self {
            kernel,
            blocks: count.div_ceil(THREADS),
            threads: THREADS,
            shared: 0,
            args,
        }
    }
}

/// Converts a size to an argument. The checks of a run keep sizes below 2^31.
pub(super) fn size_arg(n: usize) -> Arg {
    Arg::U32(n as u32)
}

/// Operation on the result of a dense layer or convolution, in place and in a kernel of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PostOp {
    /// Softmax over rows of this length.
    Softmax(usize),
    Activation(Activation),
}

/// Dimensions of an image op: `[height, width, channels]` in, rows and columns out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    pub input: [usize; 3],
    pub output: [usize; 2],
}

impl Image {
    pub fn to_kernel_args(self) -> Vec<u32> {
        self.input
            .iter()
            .chain(&self.output)
            .map(|&n| n as u32)
            .collect()
    }
}

/// Encodes the function and its parameters for the kernels (`activate` in maeum.cuh).
pub(super) fn activation_args(function: Activation) -> [u32; 4] {
    let (kind, numbers) = match function {
        Activation::Linear => (0, [0.0; 3]),
        Activation::Relu => (1, [0.0; 3]),
        Activation::ReluWith {
            max,
            slope,
            threshold,
        } => (2, [max.unwrap_or(f32::INFINITY), slope, threshold]),
        Activation::ThresholdedRelu { theta } => (3, [theta, 0.0, 0.0]),
        Activation::LeakyRelu { alpha } => (4, [alpha, 0.0, 0.0]),
        Activation::Elu { alpha } => (5, [alpha, 0.0, 0.0]),
        Activation::Selu => (6, [0.0; 3]),
        Activation::Sigmoid => (7, [0.0; 3]),
        Activation::HardSigmoid => (8, [0.0; 3]),
        Activation::Tanh => (9, [0.0; 3]),
        Activation::Softplus => (10, [0.0; 3]),
        Activation::Softsign => (11, [0.0; 3]),
        Activation::Exponential => (12, [0.0; 3]),
        Activation::Swish => (13, [0.0; 3]),
        Activation::Gelu => (14, [0.0; 3]),
        Activation::Mish => (15, [0.0; 3]),
        Activation::Softmax => (16, [0.0; 3]),
        Activation::HardSigmoid6 => (17, [0.0; 3]),
    };
    let [a, b, c] = numbers.map(f32::to_bits);
    [kind, a, b, c]
}

/// A convolution with its fused epilogue.
#[derive(Debug, Clone)]
pub(super) struct Conv {
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub dilation: [usize; 2],
    pub before: [usize; 2],
    /// `[rows, columns, in, out]`; for the tiled kernels each row is padded with zeros.
    pub kernel: Constant,
    pub bias: Constant,
    pub tiling: Option<Tiling>,
    /// ReLU after the bias.
    pub relu: bool,
    pub affine: Option<(Constant, Constant)>,
    pub relu_last: bool,
    pub pool: bool,
    /// True if a second input, `[channels]`, scales the input's channels.
    pub scaled: bool,
    pub post_op: Option<PostOp>,
}

impl Conv {
    /// Arguments as the struct `Convolution` in conv.cuh.
    pub fn to_kernel_args(&self, items: u32) -> Vec<u32> {
        let numbers = [
            &self.input[..],
            &self.output,
            &self.size,
            &self.strides,
            &self.dilation,
            &self.before,
        ];
        let numbers = numbers.into_iter().flatten().map(|&n| n as u32);
        std::iter::once(items).chain(numbers).collect()
    }

    /// Arguments as the struct `Epilogue` in conv.cuh.
    pub fn epilogue_args(&self) -> Vec<u32> {
        let affine = self.affine.is_some();
        [self.relu, affine, self.relu_last, self.pool]
            .map(u32::from)
            .to_vec()
    }
}

#[derive(Debug)]
pub(super) struct Dense {
    pub inputs: usize,
    pub units: usize,
    pub kernel: Constant,
    pub bias: Option<Constant>,
    pub relu: bool,
    pub post_op: Option<PostOp>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub mean: bool,
    pub image: Image,
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub before: [usize; 2],
}

impl Pool {
    /// Arguments as the struct `Windows` in pool.cu.
    pub fn to_kernel_args(&self) -> Vec<u32> {
        let mut words = self.image.to_kernel_args();
        let rest = [self.size, self.strides, self.before];
        words.extend(rest.iter().flatten().map(|&n| n as u32));
        words
    }

    /// Returns true for 2 x 2 max pooling whose windows neither overlap nor reach padding.
    pub fn is_non_overlapping_max(&self) -> bool {
        let Image { input, output } = self.image;
        let fits = |axis: usize| self.before[axis] == 0 && output[axis] * 2 <= input[axis];
        !self.mean && self.size == [2, 2] && self.strides == [2, 2] && fits(0) && fits(1)
    }
}

/// Broadcast of two values: shape of the result, and for each value its element count and its
/// strides, 0 along stretched dimensions.
#[derive(Debug, Clone)]
pub(super) struct Broadcast {
    pub shape: Vec<usize>,
    pub items: [usize; 2],
    pub strides: [Vec<usize>; 2],
}

impl Broadcast {
    /// Arguments as the struct `Broadcast` in elementwise.cu.
    pub fn to_kernel_args(&self) -> Vec<u32> {
        let item = self.shape.iter().product::<usize>();
        let mut words = vec![self.shape.len(), item, self.items[0], self.items[1]];
        for list in [&self.shape, &self.strides[0], &self.strides[1]] {
            words.extend(padded_dims(list));
        }
        words.into_iter().map(|n| n as u32).collect()
    }
}

/// Pads dimensions with zeros to the eight that the kernels' structs hold.
pub(super) fn padded_dims(list: &[usize]) -> impl Iterator<Item = usize> {
    list.iter().copied().chain(std::iter::repeat(0)).take(8)
}
