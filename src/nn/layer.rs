//! The closed set of layers that a graph can hold, with Keras' semantics.
//!
//! Weights are not in the layers but referred to by [`WeightId`], so that a layer used at several
//! places of a network keeps one copy. Their layouts are Keras': a convolution kernel is
//! `[kernel height, kernel width, input channels, output channels]`, a dense kernel
//! `[inputs, units]`.

use serde::{Deserialize, Serialize};

use super::graph::WeightId;

/// One operation on the values of a graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Layer {
    /// Convolution over one (`[time, channels]`) or two (`[height, width, channels]`) dimensions.
    Conv(Conv),
    /// Pooling over windows of one or two dimensions.
    Pool(Pool),
    /// Pooling over all of the one or two spatial dimensions.
    GlobalPool {
        /// What is taken of each channel.
        kind: PoolKind,
        /// Keep the pooled dimensions with length 1.
        keep_dims: bool,
    },
    /// Repeats or interpolates rows and columns of `[height, width, channels]`.
    Upsample {
        /// Repetitions of rows and of columns, at least 1.
        factor: [usize; 2],
        /// What the new rows and columns hold.
        interpolation: Interpolation,
    },
    /// Zeros around `[height, width, channels]`.
    ZeroPad {
        /// Rows before the first.
        top: usize,
        /// Rows after the last.
        bottom: usize,
        /// Columns before the first.
        left: usize,
        /// Columns after the last.
        right: usize,
    },
    /// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` per channel.
    BatchNorm(BatchNorm),
    /// Matrix product over the last dimension.
    Dense {
        /// `[inputs, units]`.
        kernel: WeightId,
        /// `[units]`; `None` is zeros.
        bias: Option<WeightId>,
        /// Applied to the sum of product and bias.
        activation: Activation,
    },
    /// Long short-term memory over `[time, channels]`, gate order input, forget, cell, output.
    Lstm(Recurrent),
    /// Gated recurrent unit over `[time, channels]`, gate order update, reset, candidate.
    Gru {
        /// Weights and options as of an LSTM, with three gates.
        recurrent: Recurrent,
        /// The reset gate is applied after the recurrent product (two biases) instead of before.
        reset_after: bool,
    },
    /// Reverses the first dimension (time).
    Reverse,
    /// All dimensions into one.
    Flatten,
    /// Other dimensions over the same numbers; at most one is `None`, which takes what is left.
    Reshape {
        /// Without the batch.
        shape: Vec<Option<usize>>,
    },
    /// Output dimension `i` is input dimension `order[i]` (counted from 0).
    Permute {
        /// Each dimension of the input once; the batch is not counted.
        order: Vec<usize>,
    },
    /// `[channels]` to `[count, channels]`.
    RepeatVector {
        /// Copies of the vector.
        count: usize,
    },
    /// Joins its inputs along dimension `axis` (counted from 0).
    Concat {
        /// The only dimension in which the inputs may differ in length; the batch is not counted.
        axis: usize,
    },
    /// Element by element over two or more inputs; missing leading dimensions and dimensions of
    /// length 1 are broadcast.
    Merge {
        /// How the elements at one place become one.
        op: MergeOp,
    },
    /// Dropout. At inference it does nothing unless `forced`.
    Dropout(Dropout),
    /// An element-wise function (or softmax over the last dimension).
    Activation(Activation),
    /// Softmax over dimension `axis` (counted from 0).
    Softmax {
        /// Along it the results sum to 1; the batch is not counted.
        axis: usize,
    },
    /// `x` where `x > 0`, else `alpha * x`; `alpha` is broadcast to the input's shape.
    PRelu {
        /// Slope of the negative part; a dimension of length 1 is shared along it.
        alpha: WeightId,
    },
    /// Sum over dimension `axis` (counted from 0), which disappears.
    SumAxis {
        /// The batch is not counted; one dimension at least must be left.
        axis: usize,
    },
    /// Maps `[height, width, channels]` times attention `[height, width, 1]`.
    SpatialMultiply,
    /// Maps `[height, width, channels]` times attention `[channels]`.
    ChannelMultiply,
}

impl Layer {
    /// The layer's class, as messages and listings show it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Conv(_) => "Conv",
            Self::Pool(Pool {
                kind: PoolKind::Max,
                ..
            }) => "MaxPool",
            Self::Pool(Pool {
                kind: PoolKind::Average,
                ..
            }) => "AveragePool",
            Self::GlobalPool {
                kind: PoolKind::Max,
                ..
            } => "GlobalMaxPool",
            Self::GlobalPool {
                kind: PoolKind::Average,
                ..
            } => "GlobalAveragePool",
            Self::Upsample { .. } => "Upsample",
            Self::ZeroPad { .. } => "ZeroPad",
            Self::BatchNorm(_) => "BatchNorm",
            Self::Dense { .. } => "Dense",
            Self::Lstm(_) => "LSTM",
            Self::Gru { .. } => "GRU",
            Self::Reverse => "Reverse",
            Self::Flatten => "Flatten",
            Self::Reshape { .. } => "Reshape",
            Self::Permute { .. } => "Permute",
            Self::RepeatVector { .. } => "RepeatVector",
            Self::Concat { .. } => "Concat",
            Self::Merge { op } => match op {
                MergeOp::Add => "Add",
                MergeOp::Subtract => "Subtract",
                MergeOp::Multiply => "Multiply",
                MergeOp::Average => "Average",
                MergeOp::Maximum => "Maximum",
                MergeOp::Minimum => "Minimum",
            },
            Self::Dropout(_) => "Dropout",
            Self::Activation(_) => "Activation",
            Self::Softmax { .. } => "Softmax",
            Self::PRelu { .. } => "PReLU",
            Self::SumAxis { .. } => "SumAxis",
            Self::SpatialMultiply => "SpatialMultiply",
            Self::ChannelMultiply => "ChannelMultiply",
        }
    }

    /// The weights that the layer reads, each with the name of its part.
    pub fn weights(&self) -> Vec<(&'static str, WeightId)> {
        let optional = |name, id: Option<WeightId>| id.map(|id| (name, id));
        match self {
            Self::Conv(Conv { kernel, bias, .. }) | Self::Dense { kernel, bias, .. } => {
                std::iter::once(("kernel", *kernel))
                    .chain(optional("bias", *bias))
                    .collect()
            }
            Self::BatchNorm(b) => optional("gamma", b.gamma)
                .into_iter()
                .chain(optional("beta", b.beta))
                .chain([("mean", b.mean), ("variance", b.variance)])
                .collect(),
            Self::Lstm(r) | Self::Gru { recurrent: r, .. } => [
                ("kernel", r.kernel),
                ("recurrent_kernel", r.recurrent_kernel),
            ]
            .into_iter()
            .chain(optional("bias", r.bias))
            .collect(),
            Self::PRelu { alpha } => vec![("alpha", *alpha)],
            Self::Pool(_)
            | Self::GlobalPool { .. }
            | Self::Upsample { .. }
            | Self::ZeroPad { .. }
            | Self::Reverse
            | Self::Flatten
            | Self::Reshape { .. }
            | Self::Permute { .. }
            | Self::RepeatVector { .. }
            | Self::Concat { .. }
            | Self::Merge { .. }
            | Self::Dropout(_)
            | Self::Activation(_)
            | Self::Softmax { .. }
            | Self::SumAxis { .. }
            | Self::SpatialMultiply
            | Self::ChannelMultiply => Vec::new(),
        }
    }
}

/// Convolution. The kernel's rank tells the number of spatial dimensions:
/// `[height, width, in, out]` or, over time alone, `[length, in, out]`. A one-dimensional
/// convolution uses the first entry of `strides` and `dilation`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// `[height, width, in, out]` or `[length, in, out]`.
    pub kernel: WeightId,
    /// `[out]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Samples from one window to the next, at least 1, as `[height, width]`.
    pub strides: [usize; 2],
    /// Samples from one tap of the kernel to the next, at least 1 (1 is a dense kernel).
    pub dilation: [usize; 2],
    /// `Causal` in one dimension only.
    pub padding: Padding,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
}

/// How a window behaves at the borders of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Only windows that lie inside: `floor((n - extent) / stride) + 1` outputs.
    Valid,
    /// `ceil(n / stride)` outputs; the missing samples are split evenly, the odd one at the end.
    /// Zeros for convolutions; pooling leaves them out of the maximum and of the mean's count.
    Same,
    /// `extent - 1` zeros at the start (one-dimensional convolutions only).
    Causal,
}

/// Pooling. A one-dimensional input `[time, channels]` uses the first entry of `size` and
/// `strides`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// What is taken of each window, channel by channel.
    pub kind: PoolKind,
    /// Samples of a window, as `[height, width]`.
    pub size: [usize; 2],
    /// Samples from one window to the next, at least 1.
    pub strides: [usize; 2],
    /// `Valid` or `Same`.
    pub padding: Padding,
}

/// What pooling takes of the numbers of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// The largest.
    Max,
    /// Their mean.
    Average,
}

/// What upsampling puts between the rows and columns that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Copies: source = floor(destination / factor).
    Nearest,
    /// TensorFlow 1's: source = destination / factor, edges clamped.
    BilinearLegacy,
    /// TensorFlow 2's: source = (destination + 0.5) / factor - 0.5, edges clamped.
    BilinearHalfPixel,
}

/// Batch normalisation with its moving statistics, over the last dimension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Scale, `[channels]`; `None` is ones.
    pub gamma: Option<WeightId>,
    /// Shift, `[channels]`; `None` is zeros.
    pub beta: Option<WeightId>,
    /// Moving mean, `[channels]`.
    pub mean: WeightId,
    /// Moving variance, `[channels]`; with `epsilon` added it must be positive.
    pub variance: WeightId,
    /// Added to the variance before the square root; at least 0.
    pub epsilon: f32,
}

/// What LSTM (four gates) and GRU (three gates) share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// `[inputs, gates * units]`.
    pub kernel: WeightId,
    /// `[units, gates * units]`.
    pub recurrent_kernel: WeightId,
    /// `[gates * units]` (a GRU with `reset_after`: `[2, 3 * units]`, input bias first); `None` is
    /// zeros.
    pub bias: Option<WeightId>,
    /// Of the LSTM's cell input and cell state, of the GRU's candidate; usually tanh.
    pub activation: Activation,
    /// Of the other gates; Keras 2 files often have the hard sigmoid.
    pub recurrent_activation: Activation,
    /// Output `[time, units]` (in the order of processing) instead of the last `[units]`.
    pub return_sequences: bool,
    /// Process from the last time step to the first.
    pub go_backwards: bool,
}

/// How [`Layer::Merge`] joins the elements of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeOp {
    /// Their sum.
    Add,
    /// First minus second (exactly two inputs).
    Subtract,
    /// Their product.
    Multiply,
    /// Their sum divided by the number of inputs.
    Average,
    /// The largest.
    Maximum,
    /// The smallest.
    Minimum,
}

/// Dropout with probability `rate`; what is kept is scaled by `1 / (1 - rate)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability that a unit becomes 0, in [0, 1).
    pub rate: f32,
    /// Active at inference too (the file was saved with the call argument `training=True`).
    pub forced: bool,
    /// One decision per channel (SpatialDropout) instead of one per element.
    pub per_channel: bool,
}

/// Activation functions, with Keras 2's definitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// `x`
    Linear,
    /// `max(x, 0)`
    Relu,
    /// `max` where `x >= max`, `x` where `threshold <= x < max`, else `slope * (x - threshold)`.
    ReluWith {
        /// Upper limit of the output; `None` is no limit.
        max: Option<f32>,
        /// Slope below the threshold.
        slope: f32,
        /// Where the output begins to be `x`.
        threshold: f32,
    },
    /// `x` where `x > theta`, else 0.
    ThresholdedRelu {
        /// Where the output begins to be `x`.
        theta: f32,
    },
    /// `x` where `x > 0`, else `alpha * x`.
    LeakyRelu {
        /// Slope of the negative part.
        alpha: f32,
    },
    /// `x` where `x > 0`, else `alpha * (exp(x) - 1)`.
    Elu {
        /// The output tends to `-alpha` for very negative `x`.
        alpha: f32,
    },
    /// `1.0507009873554805 * elu(x, 1.6732632423543772)`
    Selu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `clip(0.2 * x + 0.5, 0, 1)`
    HardSigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `exp(x - max) / sum`, over the last dimension.
    Softmax,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `exp(x)`
    Exponential,
    /// `x * sigmoid(x)`
    Swish,
    /// `x * (1 + erf(x / sqrt(2))) / 2`
    Gelu,
    /// `x * tanh(softplus(x))`
    Mish,
}
