//! Keras' layer classes: their options, their weights, and the equivalent [`Layer`].

mod attention;
mod graph_operation;
mod kapre;
mod kapre_0_1;
pub mod lambda;
mod operation;
mod plain;
mod recurrent;
mod spatial;
mod spectrogram;
mod volume;

use serde_json::{Map, Value};

pub use operation::{Argument, Operation, keras3 as operation};
pub use recurrent::{Bidirectional, MergeMode};

use super::activation;
use super::options::{Options, Problems};
use crate::nn::graph::{Weight, WeightId};
use crate::nn::layers::{Activation, Layer, MapFunction, Merge, MergeOp, Permute, PoolKind};

/// A layer that becomes nodes: usually one, none if it does nothing.
pub struct Leaf {
    /// Weights, in the order of the class.
    pub slots: Vec<Slot>,
    /// Set if the layer takes a list of inputs.
    takes_list: bool,
    lower: Box<Lower>,
    pub masking: Masking,
    pub domain: Domain,
    /// Converts the stored weights to those that [`Leaf::lower`] refers to.
    pub prepare: Option<Box<Prepare>>,
}

type Prepare = dyn Fn(Vec<Weight>) -> Result<Vec<Weight>, String> + Send + Sync;

type Lower = dyn Fn(&Call) -> Result<Lowered, String> + Send + Sync;

/// The nodes of one use of a layer.
#[derive(Default)]
pub struct Lowered {
    pub parts: Vec<Part>,
    /// Values of the outputs; if there are none, the last part or, without parts, the input is the
    /// only output.
    pub outputs: Vec<Operand>,
    /// Mask of the first output, if the layer creates one.
    pub mask: Option<Operand>,
}

impl From<Vec<Part>> for Lowered {
    fn from(parts: Vec<Part>) -> Self {
        Self {
            parts,
            ..Self::default()
        }
    }
}

/// Effect of a layer on the masks of its inputs: the values `[time]` with 0 for the steps that
/// recurrent layers skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    /// The layer ignores masks, and its output has none.
    Stops,
    /// The output has the mask of the first input, which the layer may read.
    Passes,
    /// The layer reads masks, and its output has none but one that it creates.
    Reads,
    /// The output's mask combines those of the inputs.
    Merges,
    /// The output's mask combines those of the inputs or, along the time, joins them.
    Concatenates { axis: i64 },
    /// A mask is not supported, for this reason.
    Refuses(&'static str),
}

/// Kinds of numbers, real or complex, of a layer's input and output. A complex value has one more dimension, the
/// last, with the real and the imaginary part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Input and output are real.
    Real,
    /// The input is real, the output complex.
    RealToComplex,
    /// The input is complex, the output real.
    ComplexToReal,
}

/// One of the nodes that a layer becomes. The one of the first output has the name of the layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub layer: Layer,
    pub inputs: Vec<Operand>,
    /// Number of leading dimensions that this part treats like the batch.
    pub outer: usize,
}

impl Part {
    fn new(layer: Layer, inputs: &[Operand]) -> Self {
        Self {
            layer,
            inputs: inputs.to_vec(),
            outer: 0,
        }
    }
}

/// Value that a [`Part`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Input of the layer.
    Input(usize),
    /// Output of an earlier part.
    Part(usize),
    /// Mask of an input of the layer, which must have one.
    Mask(usize),
}

/// Parts under construction.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn add(&mut self, layer: Layer, inputs: &[Operand]) -> Operand {
        self.0.push(Part::new(layer, inputs));
        Operand::Part(self.0.len() - 1)
    }

    /// Adds a part that treats the first dimension of its input like the batch.
    fn add_to_each(&mut self, layer: Layer, input: Operand) -> Operand {
        self.0.push(Part {
            outer: 1,
            ..Part::new(layer, &[input])
        });
        Operand::Part(self.0.len() - 1)
    }

    /// Adds layers that read each other in order; returns the last.
    fn add_chain(&mut self, first: Operand, layers: impl IntoIterator<Item = Layer>) -> Operand {
        layers
            .into_iter()
            .fold(first, |input, layer| self.add(layer, &[input]))
    }
}

/// Makes parts that read each other in order; the first reads all `inputs` of the layer.
pub fn chain(inputs: usize, layers: impl IntoIterator<Item = Layer>) -> Vec<Part> {
    let layers = layers.into_iter().enumerate();
    let operands = |i: usize| match i.checked_sub(1) {
        None => (0..inputs).map(Operand::Input).collect(),
        Some(before) => vec![Operand::Part(before)],
    };
    layers
        .map(|(i, layer)| Part::new(layer, &operands(i)))
        .collect()
}

fn permute(order: &[usize]) -> Layer {
    Layer::Permute(Permute {
        order: order.to_vec(),
    })
}

fn map(function: MapFunction) -> Layer {
    Layer::Map(crate::nn::layers::Map { function })
}

fn merge(op: MergeOp) -> Layer {
    Layer::Merge(Merge { op })
}

/// Weight of a layer.
pub struct Slot {
    /// Last part of the variable's name.
    pub part: &'static str,
    /// Set if the weight is trainable; a layer's trainable weights are saved first.
    pub trainable: bool,
    pub shape: SlotShape,
}

/// Shape of a weight, from the options of its layer.
pub enum SlotShape {
    /// Dimensions; `None` for one that depends on the input.
    Dims(Vec<Option<usize>>),
    /// Any shape; it depends on the input.
    Any,
    /// A value that inference does not use, of any shape and type.
    Unused,
}

impl SlotShape {
    pub fn fits(&self, shape: &[usize]) -> bool {
        match self {
            Self::Any | Self::Unused => true,
            Self::Dims(dims) => {
                dims.len() == shape.len()
                    && dims
                        .iter()
                        .zip(shape)
                        .all(|(d, &n)| d.is_none_or(|d| d == n))
            }
        }
    }
}

impl std::fmt::Display for SlotShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Dims(dims) = self else {
            return f.write_str("[...]");
        };
        let dims: Vec<String> = dims
            .iter()
            .map(|d| d.map_or("?".into(), |d| d.to_string()))
            .collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// One use of a layer.
pub struct Call<'a> {
    /// Number of dimensions of each input, without the batch and without the time steps of an
    /// enclosing TimeDistributed.
    pub ranks: &'a [usize],
    /// Weights, one per [`Leaf::slots`].
    pub weights: &'a [WeightId],
    /// Set for each input that has a mask.
    pub masks: &'a [bool],
    /// Call argument `training`.
    pub training: Option<bool>,
}

impl Call<'_> {
    /// Checks that a layer with a different training behaviour is not called with `training=True`.
    fn no_training(&self) -> Result<(), String> {
        match self.training {
            Some(true) => Err("it is called with training=True, which is supported for Dropout and SpatialDropout only".into()),
            _ => Ok(()),
        }
    }

    fn rank_is(&self, wanted: usize, what: &str) -> Result<(), String> {
        match *self.ranks {
            [rank] if rank == wanted => Ok(()),
            [rank] => Err(format!(
                "it takes {what}, but its input has {rank} dimensions without the batch"
            )),
            _ => Err(format!("it takes one input, not {}", self.ranks.len())),
        }
    }
}

impl Leaf {
    /// Creates a layer without weights.
    pub fn plain(
        lower: impl Fn(&Call) -> Result<Option<Layer>, String> + Send + Sync + 'static,
    ) -> Self {
        Self::weighted(Vec::new(), lower)
    }

    fn weighted(
        slots: Vec<Slot>,
        lower: impl Fn(&Call) -> Result<Option<Layer>, String> + Send + Sync + 'static,
    ) -> Self {
        Self::composed(slots, move |call| Ok(chain(call.ranks.len(), lower(call)?)))
    }

    /// Creates a layer that becomes several nodes.
    pub fn composed(
        slots: Vec<Slot>,
        lower: impl Fn(&Call) -> Result<Vec<Part>, String> + Send + Sync + 'static,
    ) -> Self {
        Self::with_outputs(slots, move |call| lower(call).map(Lowered::from))
    }

    /// Creates a layer that becomes several nodes and has several outputs or creates a mask.
    pub fn with_outputs(
        slots: Vec<Slot>,
        lower: impl Fn(&Call) -> Result<Lowered, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            slots,
            takes_list: false,
            lower: Box::new(lower),
            masking: Masking::Stops,
            domain: Domain::Real,
            prepare: None,
        }
    }

    /// Sets the effect on masks.
    fn masking(self, masking: Masking) -> Self {
        Self { masking, ..self }
    }

    /// Sets whether input and output are real or complex.
    fn in_domain(self, domain: Domain) -> Self {
        Self { domain, ..self }
    }

    /// Marks the layer as taking a list of inputs.
    pub fn with_input_list(self) -> Self {
        Self {
            takes_list: true,
            ..self
        }
    }

    /// Adds a check of every use.
    fn with_check(
        self,
        check: impl Fn(&Call) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let Self { lower, .. } = self;
        Self {
            lower: Box::new(move |call| {
                check(call)?;
                lower(call)
            }),
            ..self
        }
    }

    /// Sets the conversion of the stored weights.
    fn prepared(
        self,
        prepare: impl Fn(Vec<Weight>) -> Result<Vec<Weight>, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            prepare: Some(Box::new(prepare)),
            ..self
        }
    }

    /// Puts a layer of one input between transpositions, if its channels come first. Without `back`
    /// its output has no spatial dimensions.
    fn in_layout(self, channels_first: bool, rank: usize, back: bool) -> Self {
        if !channels_first {
            return self;
        }
        let last: Vec<usize> = (1..rank).chain([0]).collect();
        let first: Vec<usize> = std::iter::once(rank - 1).chain(0..rank - 1).collect();
        self.transposed(last, back.then_some(first))
    }

    /// Transposes the input, and the output back if there is an order for it.
    fn transposed(self, before: Vec<usize>, after: Option<Vec<usize>>) -> Self {
        let Self { lower, .. } = self;
        Self {
            lower: Box::new(move |call| {
                let inner = lower(call)?.parts;
                if inner.is_empty() {
                    return Ok(inner.into());
                }
                let mut parts = chain(1, [permute(&before)]);
                parts.extend(inner.into_iter().map(|part| {
                    Part {
                        inputs: part
                            .inputs
                            .iter()
                            .map(|operand| match *operand {
                                Operand::Input(n) => Operand::Part(n),
                                Operand::Part(n) => Operand::Part(n + 1),
                                Operand::Mask(n) => Operand::Mask(n),
                            })
                            .collect(),
                        ..part
                    }
                }));
                if let Some(after) = &after {
                    let last = Operand::Part(parts.len() - 1);
                    parts.push(Part::new(permute(after), &[last]));
                }
                Ok(parts.into())
            }),
            ..self
        }
    }

    /// Returns the nodes for one use; none if the Keras layer does nothing.
    pub fn lower(&self, call: &Call) -> Result<Lowered, String> {
        if !self.takes_list && call.ranks.len() != 1 {
            return Err(format!("it takes one input, not {}", call.ranks.len()));
        }
        if let Masking::Refuses(reason) = self.masking
            && call.masks.contains(&true)
        {
            return Err(format!(
                "its input has a mask, which is not supported for it: {reason}"
            ));
        }
        (self.lower)(call)
    }
}

/// Creates a trainable weight.
fn slot(part: &'static str, dims: &[Option<usize>]) -> Slot {
    Slot {
        part,
        trainable: true,
        shape: SlotShape::Dims(dims.to_vec()),
    }
}

/// Creates a bias weight if option `use_bias` is set.
fn bias_slot(o: &mut Options, dims: &[Option<usize>]) -> Option<Slot> {
    o.bool("use_bias", true).then(|| slot("bias", dims))
}

/// Properties of the Keras version that change the meaning of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Set if bilinear upsampling follows TensorFlow 1; `None` if the version is unknown.
    pub legacy_bilinear: Option<bool>,
    /// Minor version of Keras 3 (the largest number if it is unknown); `None` for Keras 2.
    pub keras3: Option<u32>,
    /// Set for versions whose recurrent layers treat the outputs of skipped steps in other ways: Keras
    /// before 2.4, and if the version is unknown.
    pub old_skipped_outputs: bool,
    /// True if MultiHeadAttention reads and passes masks (Keras 2.10 and later), false if it ignores them; `None` if
    /// that is unknown, and in Keras 3.
    pub masked_heads: Option<bool>,
    /// Set for the backend Theano, whose convolutions read their kernels from the end.
    pub mirrored_kernels: bool,
}

impl Dialect {
    /// Returns whether Softmax gives 0 for values that are all masked (Keras 3.10 and later); otherwise it
    /// is uniform.
    fn zeroes_masked(self) -> bool {
        self.keras3.is_some_and(|minor| minor >= 10)
    }
}

/// Parses a layer that is neither a model nor a wrapper.
///
/// # Errors
/// If the class, an option or the value of an option is unsupported.
pub fn parse(class: &str, config: &Map<String, Value>, dialect: Dialect) -> Result<Leaf, Problems> {
    if let Some(activation) = activation::layer(class, config, dialect) {
        let activation = activation?;
        return Ok(Leaf::plain(move |_| {
            Ok((activation != Activation::Linear).then_some(Layer::Activation(activation)))
        })
        .masking(Masking::Passes));
    }
    let mut options = Options::new(config, dialect);
    let leaf = supported(class, &mut options).ok_or_else(|| unsupported_reason(class))?;
    let leaf = leaf.map(|leaf| match masking(class, dialect) {
        Some(masking) => leaf.masking(masking),
        None => leaf,
    });
    options.finish(leaf.map_err(Problems::from))
}

/// Returns the effect of a class on masks, unless it depends on the options: `supports_masking` and
/// `compute_mask` of the classes of Keras 2.15, 3.0 and 3.13.
fn masking(class: &str, dialect: Dialect) -> Option<Masking> {
    Some(match class {
        "Dense"
        | "PReLU"
        | "Dropout"
        | "SpatialDropout1D"
        | "SpatialDropout2D"
        | "SpatialDropout3D"
        | "GaussianNoise"
        | "GaussianDropout"
        | "AlphaDropout"
        | "ActivityRegularization"
        | "BatchNormalization"
        | "BatchNormalizationV1"
        | "BatchNormalizationV2"
        | "LayerNormalization"
        | "UnitNormalization" => Masking::Passes,
        "Softmax" => Masking::Passes,
        "Rescaling" | "Normalization" | "GroupNormalization" if dialect.keras3.is_some() => {
            Masking::Passes
        }
        "MultiHeadAttention" => match dialect.masked_heads {
            Some(true) => Masking::Passes,
            Some(false) => Masking::Stops,
            None if dialect.keras3.is_some() => Masking::Refuses(
                "Keras 3 removes the masks from its inputs, so results depend on the order of the layers",
            ),
            None => Masking::Refuses(
                "its effect changed with Keras 2.10, and the file does not say which version wrote it",
            ),
        },
        "Add" | "Subtract" | "Multiply" | "Average" | "Maximum" | "Minimum" => Masking::Merges,
        "Identity" => Masking::Passes,
        "GlobalAveragePooling1D" | "GlobalAvgPool1D" => Masking::Reads,
        "GroupNormalization" => {
            Masking::Refuses("Keras 2 applies it to the channels instead of the steps")
        }
        _ => return None,
    })
}

/// Parses a layer of a supported class; `None` for other classes.
fn supported(class: &str, o: &mut Options) -> Option<Result<Leaf, String>> {
    Some(Ok(match class {
        "Conv1D" | "Convolution1D" => spatial::conv::<1>(o),
        "Conv2D" | "Convolution2D" => spatial::conv::<2>(o),
        "MaxPooling1D" | "MaxPool1D" => spatial::pool::<1>(o, PoolKind::Max),
        "MaxPooling2D" | "MaxPool2D" => spatial::pool::<2>(o, PoolKind::Max),
        "AveragePooling1D" | "AvgPool1D" => spatial::pool::<1>(o, PoolKind::Average),
        "AveragePooling2D" | "AvgPool2D" => spatial::pool::<2>(o, PoolKind::Average),
        "GlobalMaxPooling1D" | "GlobalMaxPool1D" => spatial::global_pool(o, PoolKind::Max, 2),
        "GlobalMaxPooling2D" | "GlobalMaxPool2D" => spatial::global_pool(o, PoolKind::Max, 3),
        "GlobalAveragePooling1D" | "GlobalAvgPool1D" => {
            spatial::global_pool(o, PoolKind::Average, 2)
        }
        "GlobalAveragePooling2D" | "GlobalAvgPool2D" => {
            spatial::global_pool(o, PoolKind::Average, 3)
        }
        "Conv3D" | "Convolution3D" => volume::conv(o),
        "MaxPooling3D" | "MaxPool3D" => volume::pool(o, PoolKind::Max),
        "AveragePooling3D" | "AvgPool3D" => volume::pool(o, PoolKind::Average),
        "GlobalMaxPooling3D" | "GlobalMaxPool3D" => volume::global_pool(o, PoolKind::Max),
        "GlobalAveragePooling3D" | "GlobalAvgPool3D" => volume::global_pool(o, PoolKind::Average),
        "UpSampling3D" => volume::upsample(o),
        "ZeroPadding3D" => volume::zero_pad(o),
        "UpSampling2D" => spatial::upsample(o),
        "Resizing" => spatial::resize(o),
        "MelSpectrogram" => spectrogram::mel_spectrogram(o),
        "STFTSpectrogram" => spectrogram::stft_spectrogram(o),
        "ZeroPadding2D" => spatial::zero_pad(o),
        "BatchNormalization" | "BatchNormalizationV1" | "BatchNormalizationV2" => {
            plain::batch_norm(o)
        }
        "SeparableConv1D" | "SeparableConvolution1D" => spatial::separable_conv::<1>(o),
        "SeparableConv2D" | "SeparableConvolution2D" => spatial::separable_conv::<2>(o),
        "DepthwiseConv1D" => spatial::depthwise_conv::<1>(o),
        "DepthwiseConv2D" => spatial::depthwise_conv::<2>(o),
        "Conv1DTranspose" | "Convolution1DTranspose" => spatial::conv_transpose::<1>(o),
        "Conv2DTranspose" | "Convolution2DTranspose" => spatial::conv_transpose::<2>(o),
        "Cropping1D" => spatial::crop::<1>(o),
        "Cropping2D" => spatial::crop::<2>(o),
        "Cropping3D" => spatial::crop::<3>(o),
        "ZeroPadding1D" => spatial::zero_pad_1d(o),
        "UpSampling1D" => spatial::upsample_1d(o),
        "LayerNormalization" => plain::layer_norm(o),
        "GroupNormalization" => plain::group_norm(o),
        "UnitNormalization" => plain::unit_norm(o),
        "Normalization" => plain::normalization(o),
        "Rescaling" => plain::rescaling(o),
        "Embedding" => plain::embedding(o),
        "Masking" => plain::masking(o),
        "SimpleRNN" => recurrent::simple_rnn(o),
        "ConvLSTM1D" => recurrent::conv_lstm::<1>(o),
        "ConvLSTM2D" => recurrent::conv_lstm::<2>(o),
        "Dot" => attention::dot(o),
        "Attention" => attention::attention(o),
        "AdditiveAttention" => attention::additive(o),
        "MultiHeadAttention" => attention::multi_head(o),
        "Dense" => plain::dense(o),
        "PReLU" => plain::prelu(o),
        "Softmax" => plain::softmax(o),
        "LSTM" => recurrent::lstm(o),
        "GRU" => recurrent::gru(o),
        "Flatten" => plain::flatten(o),
        "Permute" => plain::permute(o),
        "Reshape" => plain::reshape(o),
        "RepeatVector" => plain::repeat_vector(o),
        "Concatenate" => plain::concatenate(o),
        "Add" => plain::merge(MergeOp::Add),
        "Subtract" => plain::merge(MergeOp::Subtract),
        "Multiply" => plain::merge(MergeOp::Multiply),
        "Average" => plain::merge(MergeOp::Average),
        "Maximum" => plain::merge(MergeOp::Maximum),
        "Minimum" => plain::merge(MergeOp::Minimum),
        "Dropout" => plain::dropout(o, None),
        "SpatialDropout1D" => plain::dropout(o, Some(2)),
        "SpatialDropout2D" => plain::dropout(o, Some(3)),
        "SpatialDropout3D" => plain::dropout(o, Some(4)),
        "GaussianNoise" | "GaussianDropout" | "AlphaDropout" | "ActivityRegularization" => {
            plain::training_only(o)
        }
        "Identity" => Leaf::plain(|_| Ok(None)),
        "RandomFlip" | "RandomRotation" | "RandomZoom" | "RandomTranslation" | "RandomContrast" => {
            plain::augmentation(o)
        }
        "Lambda" => return Some(lambda::layer(o)),
        "TensorFlowOpLayer" => return Some(graph_operation::layer(o)),
        _ => kapre::layer(class, o).or_else(|| kapre_0_1::layer(class, o))?,
    }))
}

/// Returns the reason that a class is unsupported, with advice if there is any.
fn unsupported_reason(class: &str) -> &'static str {
    match class {
        "CuDNNLSTM" | "CuDNNGRU" => {
            "its weights are laid out for cuDNN; build the model with the plain LSTM or GRU in Keras, load these weights into it and save that"
        }
        _ => "this class of layer is not supported",
    }
}
