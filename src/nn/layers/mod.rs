//! The closed set of layers that a graph can hold, with Keras' semantics.
//!
//! Each file holds one layer, or a family that shares attributes: the attributes, which are also
//! the format of a bundle, and their `LayerDefinition`. `docs/adding-a-layer.md` walks through
//! one.
//!
//! Layers refer to weights by [`WeightId`], so a layer that a network uses repeatedly stores them
//! once. Weight layouts are those of Keras: a convolution kernel is `[kernel height, kernel width,
//! input channels, output channels]`, a dense kernel `[inputs, units]`.

use serde::{Deserialize, Serialize};

use super::weight::{Weight, WeightId};

mod activation;
mod angle;
mod axes;
mod batch_norm;
mod concat;
mod conv;
mod conv3d;
mod conv_lstm;
mod conv_transpose;
mod dense;
mod depthwise_conv;
mod dropout;
mod embedding;
mod flatten;
mod group_norm;
mod layer_norm;
mod map;
mod mat_mul;
mod mean;
mod merge;
mod multiply;
pub(super) mod ops;
pub(super) mod oracle;
mod permute;
mod pool;
mod prelu;
mod recurrent;
mod repeat_vector;
mod reshape;
mod resize;
mod reverse;
pub(super) mod shapes;
mod simple_rnn;
mod slice;
mod softmax;
mod stateful_rnn;
mod stft;
mod sum_axis;
mod upsample;
pub(crate) mod windows;
mod zero_pad;

pub use activation::Activation;
pub use axes::{InsertAxis, RemoveAxis};
pub use batch_norm::BatchNorm;
pub use concat::Concat;
pub use conv::Conv;
pub use conv_lstm::ConvLstm;
pub use conv_transpose::ConvTranspose;
pub use conv3d::Conv3d;
pub use dense::Dense;
pub use depthwise_conv::DepthwiseConv;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use map::{Map, MapFunction};
pub use mat_mul::MatMul;
pub use mean::MeanAxis;
pub use merge::{Merge, MergeOp};
pub use permute::Permute;
pub use pool::{GlobalPool, Pool, PoolKind};
pub use prelu::PRelu;
pub use recurrent::{Gru, Lstm, Recurrent};
pub use repeat_vector::RepeatVector;
pub use reshape::Reshape;
pub use resize::Resize;
pub use simple_rnn::SimpleRnn;
pub use slice::Slice;
pub use softmax::Softmax;
pub use stateful_rnn::{RnnCell, StatefulRnn};
pub use stft::Stft;
pub use sum_axis::SumAxis;
pub use upsample::{Interpolation, Upsample};
pub use windows::Padding;
pub use zero_pad::ZeroPad;

#[cfg(test)]
pub(super) use activation::erfc;
use angle::Angle;
pub(super) use conv::conv_kernel;
use flatten::Flatten;
use multiply::{ChannelMultiply, SpatialMultiply};
use ops::{Lowering, NodeShapes};
use oracle::Item;
use reverse::Reverse;
use shapes::Problem;

/// One operation on the values of a graph.
///
/// A layer without attributes is a unit variant, which a bundle stores as a plain string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Layer {
    /// Convolution over one (`[time, channels]`) or two (`[height, width, channels]`) dimensions.
    Conv(Conv),
    /// Pooling over windows of one or two dimensions.
    Pool(Pool),
    /// Pooling over all of the one or two spatial dimensions.
    GlobalPool(GlobalPool),
    /// Repeats or interpolates rows and columns of `[height, width, channels]`.
    Upsample(Upsample),
    /// Interpolates `[height, width, channels]` to a given size.
    Resize(Resize),
    /// Zeros around `[height, width, channels]`.
    ZeroPad(ZeroPad),
    /// `(x - mean) / sqrt(variance + epsilon) * gamma + beta` per channel.
    BatchNorm(BatchNorm),
    /// Matrix product over the last dimension.
    Dense(Dense),
    /// Long short-term memory over `[time, channels]`, gate order input, forget, cell, output.
    Lstm(Lstm),
    /// Gated recurrent unit over `[time, channels]`, gate order update, reset, candidate.
    Gru(Gru),
    /// Reverse the first dimension (time).
    Reverse,
    /// All dimensions into one.
    Flatten,
    /// The same elements in another shape.
    Reshape(Reshape),
    /// Transposition of the dimensions.
    Permute(Permute),
    /// `[channels]` to `[count, channels]`.
    RepeatVector(RepeatVector),
    /// Joins the inputs along a dimension.
    Concat(Concat),
    /// Element-wise operation on two or more inputs.
    Merge(Merge),
    /// Dropout. At inference it does nothing unless `forced`.
    Dropout(Dropout),
    /// An element-wise function (or softmax over the last dimension).
    Activation(Activation),
    /// Softmax over any dimension.
    Softmax(Softmax),
    /// `x` where `x > 0`, else `alpha * x`.
    PRelu(PRelu),
    /// Sum over a dimension, which is removed.
    SumAxis(SumAxis),
    /// Convolution of each channel by itself.
    DepthwiseConv(DepthwiseConv),
    /// Transposed convolution.
    ConvTranspose(ConvTranspose),
    /// Convolution over `[depth, height, width, channels]`.
    Conv3d(Conv3d),
    /// Normalisation of each row by its own mean and variance.
    LayerNorm(LayerNorm),
    /// Normalisation of groups of channels by their own mean and variance.
    GroupNorm(GroupNorm),
    /// Rows of a table by index.
    Embedding(Embedding),
    /// An element-wise function outside of activations.
    Map(Map),
    /// Part of a dimension.
    Slice(Slice),
    /// Mean over a dimension, which is removed.
    MeanAxis(MeanAxis),
    /// A new dimension of length 1.
    InsertAxis(InsertAxis),
    /// Removal of a dimension of length 1.
    RemoveAxis(RemoveAxis),
    /// Matrix product of two values.
    MatMul(MatMul),
    /// Fully connected recurrent layer over `[time, channels]`.
    SimpleRnn(SimpleRnn),
    /// Long short-term memory over images or sequences, whose products are convolutions.
    ConvLstm(ConvLstm),
    /// Recurrent layer with a mask or with states as values.
    StatefulRnn(StatefulRnn),
    /// Short-time Fourier transform of `[samples, channels]`.
    Stft(Stft),
    /// Angles in radians, from -pi to pi, of complex numbers `[.., 2]`, real part before imaginary part.
    Angle,
    /// Maps `[height, width, channels]` times attention `[height, width, 1]`.
    SpatialMultiply,
    /// Maps `[height, width, channels]` times attention `[channels]`.
    ChannelMultiply,
}

/// A layer whose op the back end prepares: it has weights, or its kernel depends on the back end.
pub(super) enum BackendLayer<'n> {
    Conv(&'n Conv),
    Dense(&'n Dense),
    Lstm(&'n Lstm),
    Gru(&'n Gru),
    Pool(&'n Pool),
    Upsample(&'n Upsample),
    BatchNorm(&'n BatchNorm),
    Merge(&'n Merge),
    PRelu(&'n PRelu),
    Embedding(&'n Embedding),
    Map(&'n Map),
    Slice(&'n Slice),
    MeanAxis(&'n MeanAxis),
    MatMul(&'n MatMul),
    CpuOnly(CpuOnly<'n>),
}

/// A layer without a CUDA op: a plan for a device refuses it by name.
pub(super) enum CpuOnly<'n> {
    DepthwiseConv(&'n DepthwiseConv),
    ConvTranspose(&'n ConvTranspose),
    Conv3d(&'n Conv3d),
    Resize(&'n Resize),
    LayerNorm(&'n LayerNorm),
    GroupNorm(&'n GroupNorm),
    SimpleRnn(&'n SimpleRnn),
    ConvLstm(&'n ConvLstm),
    StatefulRnn(&'n StatefulRnn),
    Stft(&'n Stft),
    Angle,
}

/// Evaluates an expression with the attributes of any layer, a `LayerDefinition`.
macro_rules! dispatch {
    ($self:expr, $layer:ident => $result:expr) => {
        match $self {
            Layer::Conv($layer) => $result,
            Layer::Pool($layer) => $result,
            Layer::GlobalPool($layer) => $result,
            Layer::Upsample($layer) => $result,
            Layer::Resize($layer) => $result,
            Layer::ZeroPad($layer) => $result,
            Layer::BatchNorm($layer) => $result,
            Layer::Dense($layer) => $result,
            Layer::Lstm($layer) => $result,
            Layer::Gru($layer) => $result,
            Layer::Reverse => dispatch!(Reverse, $layer, $result),
            Layer::Flatten => dispatch!(Flatten, $layer, $result),
            Layer::Reshape($layer) => $result,
            Layer::Permute($layer) => $result,
            Layer::RepeatVector($layer) => $result,
            Layer::Concat($layer) => $result,
            Layer::Merge($layer) => $result,
            Layer::Dropout($layer) => $result,
            Layer::Activation($layer) => $result,
            Layer::Softmax($layer) => $result,
            Layer::PRelu($layer) => $result,
            Layer::SumAxis($layer) => $result,
            Layer::DepthwiseConv($layer) => $result,
            Layer::ConvTranspose($layer) => $result,
            Layer::Conv3d($layer) => $result,
            Layer::LayerNorm($layer) => $result,
            Layer::GroupNorm($layer) => $result,
            Layer::Embedding($layer) => $result,
            Layer::Map($layer) => $result,
            Layer::Slice($layer) => $result,
            Layer::MeanAxis($layer) => $result,
            Layer::InsertAxis($layer) => $result,
            Layer::RemoveAxis($layer) => $result,
            Layer::MatMul($layer) => $result,
            Layer::SimpleRnn($layer) => $result,
            Layer::ConvLstm($layer) => $result,
            Layer::StatefulRnn($layer) => $result,
            Layer::Stft($layer) => $result,
            Layer::Angle => dispatch!(Angle, $layer, $result),
            Layer::SpatialMultiply => dispatch!(SpatialMultiply, $layer, $result),
            Layer::ChannelMultiply => dispatch!(ChannelMultiply, $layer, $result),
        }
    };
    ($unit:ident, $layer:ident, $result:expr) => {{
        let $layer = &$unit;
        $result
    }};
}

/// Properties of a kind of layer that graphs, the converter and the back ends need.
///
/// No method has a default, so that none is forgotten. Shapes exclude the batch and, except in
/// `flops`, the dimensions that count as batch (see [`Node::outer`](super::graph::Node::outer)).
/// Every method but `shape` is given a layer whose weights exist; those that take shapes, only
/// shapes that `shape` accepts.
trait LayerDefinition {
    /// Returns the class name for messages and listings.
    fn class(&self) -> &'static str;

    /// Returns the weights, each with its parameter name.
    fn weights(&self) -> Vec<(&'static str, WeightId)>;

    /// Returns the activation functions among the attributes; their parameters must be finite.
    fn activations(&self) -> Vec<Activation>;

    /// Returns the number of output dimensions for inputs of the given numbers of dimensions. The
    /// converter uses it before weights and shapes are known.
    fn rank(&self, inputs: &[usize]) -> usize;

    /// Returns the output shape, or the reason that inputs, attributes or weights do not fit.
    ///
    /// Kernels index without further checks and rely on it: it rejects every attribute that a
    /// hostile file could contain, before any product can overflow.
    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem>;

    /// Returns an upper bound of the scratch elements per item, besides the output.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize;

    /// Returns the floating-point operations per batch row; a multiply-add counts two, a function
    /// such as `exp` one.
    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64;

    /// Computes one item in `f64` by plain loops over the definition; `output` is its shape.
    ///
    /// The engine is tested against it, so it shares no code with the kernels.
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64>;

    /// Returns the op that executes the layer.
    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W>;
}

impl Layer {
    /// Returns the layer's class name for messages and listings.
    pub fn class(&self) -> &'static str {
        dispatch!(self, layer => layer.class())
    }

    /// Returns the layer's weights, each with its parameter name.
    pub fn weights(&self) -> Vec<(&'static str, WeightId)> {
        dispatch!(self, layer => layer.weights())
    }

    /// See [`LayerDefinition::activations`].
    pub(super) fn activations(&self) -> Vec<Activation> {
        dispatch!(self, layer => layer.activations())
    }

    /// Returns the number of output dimensions for inputs of the given numbers of dimensions.
    pub fn rank(&self, inputs: &[usize]) -> usize {
        dispatch!(self, layer => layer.rank(inputs))
    }

    /// See [`LayerDefinition::shape`].
    pub(super) fn shape(
        &self,
        weights: &[Weight],
        inputs: &[&[usize]],
    ) -> Result<Vec<usize>, Problem> {
        dispatch!(self, layer => layer.shape(weights, inputs))
    }

    /// See [`LayerDefinition::scratch`].
    pub(super) fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        dispatch!(self, layer => layer.scratch(weights, input))
    }

    /// See [`LayerDefinition::flops`].
    pub(super) fn flops(&self, weights: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        dispatch!(self, layer => layer.flops(weights, inputs, output))
    }

    /// See [`LayerDefinition::oracle`].
    pub(super) fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        dispatch!(self, layer => layer.oracle(weights, inputs, output))
    }

    /// See [`LayerDefinition::lower`].
    pub(super) fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        dispatch!(self, layer => layer.lower(node))
    }
}
