//! The closed set of layers that a graph can hold, with Keras' semantics.
//!
//! Layers refer to weights by [`WeightId`], so a layer that a network uses repeatedly stores them
//! once. Weight layouts are those of Keras: a convolution kernel is `[kernel height, kernel width,
//! input channels, output channels]`, a dense kernel `[inputs, units]`.

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
        /// Reduction over the pixels of a channel.
        kind: PoolKind,
        /// Keep the pooled dimensions with length 1.
        keep_dims: bool,
    },
    /// Repeats or interpolates rows and columns of `[height, width, channels]`.
    Upsample {
        /// Repetitions of rows and of columns, at least 1.
        factor: [usize; 2],
        /// Values of the inserted rows and columns.
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
    /// Reverse the first dimension (time).
    Reverse,
    /// All dimensions into one.
    Flatten,
    /// The same elements in another shape. At most one dimension is `None`, inferred from the
    /// element count.
    Reshape {
        /// Target shape, without the batch.
        shape: Vec<Option<usize>>,
    },
    /// Output dimension `i` is input dimension `order[i]` (counted from 0).
    Permute {
        /// Permutation of the input dimensions, without the batch.
        order: Vec<usize>,
    },
    /// `[channels]` to `[count, channels]`.
    RepeatVector {
        /// Copies of the vector.
        count: usize,
    },
    /// Joins the inputs along dimension `axis` (counted from 0).
    Concat {
        /// The only dimension in which the input lengths may differ; the batch is not counted.
        axis: usize,
    },
    /// Element-wise operation on two or more inputs; missing leading dimensions and dimensions of
    /// length 1 are broadcast.
    Merge {
        /// The element-wise operation.
        op: MergeOp,
    },
    /// Dropout. At inference it does nothing unless `forced`.
    Dropout(Dropout),
    /// An element-wise function (or softmax over the last dimension).
    Activation(Activation),
    /// Softmax over dimension `axis` (counted from 0).
    Softmax {
        /// Dimension along which the results sum to 1; the batch is not counted.
        axis: usize,
    },
    /// `x` where `x > 0`, else `alpha * x`; `alpha` is broadcast to the input's shape.
    PRelu {
        /// Slope for negative elements; broadcast along dimensions of length 1.
        alpha: WeightId,
    },
    /// Sum over dimension `axis` (counted from 0), which is removed.
    SumAxis {
        /// The batch is not counted; at least one other dimension is needed.
        axis: usize,
    },
    /// Maps `[height, width, channels]` times attention `[height, width, 1]`.
    SpatialMultiply,
    /// Maps `[height, width, channels]` times attention `[channels]`.
    ChannelMultiply,
}

impl Layer {
    /// Returns the layer's class name for messages and listings.
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

    /// Returns the layer's weights, each with its parameter name.
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

/// Convolution. The rank of the kernel is the number of spatial dimensions plus two: `[height,
/// width, in, out]`, or `[length, in, out]` over time. A one-dimensional convolution uses the first
/// entry of `strides` and `dilation`; the second is 1.
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
    /// `Causal` is valid in one dimension only.
    pub padding: Padding,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
}

/// Padding at the borders of a windowed layer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// No padding: `floor((n - extent) / stride) + 1` outputs.
    Valid,
    /// `ceil(n / stride)` outputs; the padding is split evenly, an odd sample goes to the end.
    /// Convolutions pad with zeros; pooling excludes the padding from the maximum and from the
    /// mean's count.
    Same,
    /// `extent - 1` zeros at the start (one-dimensional convolutions only).
    Causal,
}

/// Pooling. A one-dimensional input `[time, channels]` uses the first entry of `size` and
/// `strides`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Reduction over each window, per channel.
    pub kind: PoolKind,
    /// Samples of a window, as `[height, width]`.
    pub size: [usize; 2],
    /// Samples from one window to the next, at least 1.
    pub strides: [usize; 2],
    /// `Valid` or `Same`.
    pub padding: Padding,
}

/// Reduction of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// Maximum.
    Max,
    /// Mean.
    Average,
}

/// Interpolation of upsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Nearest neighbour: source = floor(destination / factor).
    Nearest,
    /// TensorFlow 1's bilinear: source = destination / factor, edges clamped.
    BilinearLegacy,
    /// TensorFlow 2's bilinear: source = (destination + 0.5) / factor - 0.5, edges clamped.
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

/// Weights and options common to LSTM (four gates) and GRU (three gates).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurrent {
    /// `[inputs, gates * units]`.
    pub kernel: WeightId,
    /// `[units, gates * units]`.
    pub recurrent_kernel: WeightId,
    /// `[gates * units]`; for a GRU with `reset_after` `[2, 3 * units]`, input bias first. `None`
    /// is zeros.
    pub bias: Option<WeightId>,
    /// Activation of the LSTM's cell input and cell state, or of the GRU's candidate; usually tanh.
    pub activation: Activation,
    /// Activation of the other gates; often the hard sigmoid in Keras 2 files.
    pub recurrent_activation: Activation,
    /// Output `[time, units]` (in the order of processing) instead of the last `[units]`.
    pub return_sequences: bool,
    /// Process from the last time step to the first.
    pub go_backwards: bool,
}

/// Operation of [`Layer::Merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeOp {
    /// Sum.
    Add,
    /// First minus second (exactly two inputs).
    Subtract,
    /// Product.
    Multiply,
    /// Sum divided by the number of inputs.
    Average,
    /// Maximum.
    Maximum,
    /// Minimum.
    Minimum,
}

/// Dropout with probability `rate`; kept units are scaled by `1 / (1 - rate)`.
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
        /// Smallest input that is passed through unchanged.
        threshold: f32,
    },
    /// `x` where `x > theta`, else 0.
    ThresholdedRelu {
        /// Largest input whose output is 0.
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
