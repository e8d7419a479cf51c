//! Kinds of layers, and valid input shapes for each.

use maeum::nn::Layer;

use super::Choices;

/// Variant of [`Layer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Conv,
    Pool,
    GlobalPool,
    Upsample,
    ZeroPad,
    BatchNorm,
    Dense,
    Lstm,
    Gru,
    Reverse,
    Flatten,
    Reshape,
    Permute,
    RepeatVector,
    Concat,
    Merge,
    Dropout,
    Activation,
    Softmax,
    PRelu,
    SumAxis,
    SpatialMultiply,
    ChannelMultiply,
    InsertAxis,
    RemoveAxis,
    DepthwiseConv,
    ConvTranspose,
    LayerNorm,
    GroupNorm,
    Conv3d,
    ConvLstm,
    Embedding,
    Map,
    Slice,
    MeanAxis,
    MatMul,
    SimpleRnn,
    StatefulRnn,
    Stft,
    Angle,
    Resize,
}

pub const KINDS: &[Kind] = &[
    Kind::Conv,
    Kind::Pool,
    Kind::GlobalPool,
    Kind::Upsample,
    Kind::ZeroPad,
    Kind::BatchNorm,
    Kind::Dense,
    Kind::Lstm,
    Kind::Gru,
    Kind::Reverse,
    Kind::Flatten,
    Kind::Reshape,
    Kind::Permute,
    Kind::RepeatVector,
    Kind::Concat,
    Kind::Merge,
    Kind::Dropout,
    Kind::Activation,
    Kind::Softmax,
    Kind::PRelu,
    Kind::SumAxis,
    Kind::SpatialMultiply,
    Kind::ChannelMultiply,
    Kind::InsertAxis,
    Kind::RemoveAxis,
    Kind::Embedding,
    Kind::Map,
    Kind::Slice,
    Kind::MeanAxis,
    Kind::MatMul,
    Kind::DepthwiseConv,
    Kind::ConvTranspose,
    Kind::LayerNorm,
    Kind::GroupNorm,
    Kind::SimpleRnn,
    Kind::StatefulRnn,
    Kind::Stft,
    Kind::Angle,
    Kind::Conv3d,
    Kind::ConvLstm,
    Kind::Resize,
];

/// Kinds without a CUDA op; they come last in [`KINDS`].
pub const CPU_ONLY: &[Kind] = KINDS.split_at(KINDS.len() - 11).1;
/// Kinds with a CUDA op.
pub const ON_DEVICE: &[Kind] = KINDS.split_at(KINDS.len() - CPU_ONLY.len()).0;

/// Returns the kind of a layer. The exhaustive match makes every new variant part of the tests.
pub fn kind_of(layer: &Layer) -> Kind {
    match layer {
        Layer::Conv(_) => Kind::Conv,
        Layer::Pool(_) => Kind::Pool,
        Layer::GlobalPool(_) => Kind::GlobalPool,
        Layer::Upsample(_) => Kind::Upsample,
        Layer::ZeroPad(_) => Kind::ZeroPad,
        Layer::BatchNorm(_) => Kind::BatchNorm,
        Layer::Dense(_) => Kind::Dense,
        Layer::Lstm(_) => Kind::Lstm,
        Layer::Gru(_) => Kind::Gru,
        Layer::Reverse => Kind::Reverse,
        Layer::Flatten => Kind::Flatten,
        Layer::Reshape(_) => Kind::Reshape,
        Layer::Permute(_) => Kind::Permute,
        Layer::RepeatVector(_) => Kind::RepeatVector,
        Layer::Concat(_) => Kind::Concat,
        Layer::Merge(_) => Kind::Merge,
        Layer::Dropout(_) => Kind::Dropout,
        Layer::Activation(_) => Kind::Activation,
        Layer::Softmax(_) => Kind::Softmax,
        Layer::PRelu(_) => Kind::PRelu,
        Layer::SumAxis(_) => Kind::SumAxis,
        Layer::SpatialMultiply => Kind::SpatialMultiply,
        Layer::ChannelMultiply => Kind::ChannelMultiply,
        Layer::InsertAxis(_) => Kind::InsertAxis,
        Layer::RemoveAxis(_) => Kind::RemoveAxis,
        Layer::DepthwiseConv(_) => Kind::DepthwiseConv,
        Layer::ConvTranspose(_) => Kind::ConvTranspose,
        Layer::LayerNorm(_) => Kind::LayerNorm,
        Layer::GroupNorm(_) => Kind::GroupNorm,
        Layer::Embedding(_) => Kind::Embedding,
        Layer::Map(_) => Kind::Map,
        Layer::Slice(_) => Kind::Slice,
        Layer::MeanAxis(_) => Kind::MeanAxis,
        Layer::MatMul(_) => Kind::MatMul,
        Layer::SimpleRnn(_) => Kind::SimpleRnn,
        Layer::StatefulRnn(_) => Kind::StatefulRnn,
        Layer::Stft(_) => Kind::Stft,
        Layer::Angle => Kind::Angle,
        Layer::Resize(_) => Kind::Resize,
        Layer::Conv3d(_) => Kind::Conv3d,
        Layer::ConvLstm(_) => Kind::ConvLstm,
    }
}

fn dims(c: &mut Choices, rank: usize, most: usize) -> Vec<usize> {
    (0..rank).map(|_| c.size(most)).collect()
}

fn image(c: &mut Choices, channels: usize) -> Vec<usize> {
    vec![c.size(12), c.size(30), c.size(channels)]
}

fn sequence(c: &mut Choices) -> Vec<usize> {
    vec![c.size(30), c.size(40)]
}

/// Returns valid input shapes for this kind of layer.
pub fn items(kind: Kind, c: &mut Choices) -> Vec<Vec<usize>> {
    let one = match kind {
        Kind::Conv | Kind::Pool | Kind::GlobalPool | Kind::DepthwiseConv => match c.flag() {
            true => image(c, 40),
            false => sequence(c),
        },
        Kind::Upsample | Kind::Resize | Kind::ZeroPad => image(c, 40),
        Kind::ConvTranspose => match c.flag() {
            true => vec![c.size(6), c.size(6), c.size(12)],
            false => vec![c.size(9), c.size(12)],
        },
        Kind::Conv3d => vec![c.size(4), c.size(6), c.size(8), c.size(9)],
        Kind::ConvLstm => match c.flag() {
            true => vec![c.size(4), c.size(6), c.size(8), c.size(9)],
            false => vec![c.size(5), c.size(9), c.size(9)],
        },
        Kind::Lstm | Kind::Gru | Kind::SimpleRnn => sequence(c),
        Kind::RepeatVector => dims(c, 1, 40),
        Kind::Stft => vec![c.size(60), c.size(3)],
        Kind::Angle => {
            let rank = c.within(1..=3);
            [dims(c, rank, 9), vec![2]].concat()
        }
        Kind::SumAxis | Kind::MeanAxis => {
            let rank = c.within(2..=4);
            dims(c, rank, 9)
        }
        Kind::BatchNorm
        | Kind::Dense
        | Kind::Reverse
        | Kind::Flatten
        | Kind::Reshape
        | Kind::Permute
        | Kind::Dropout
        | Kind::Activation
        | Kind::Softmax
        | Kind::PRelu
        | Kind::LayerNorm
        | Kind::GroupNorm
        | Kind::Embedding
        | Kind::Map
        | Kind::Slice
        | Kind::InsertAxis => match c.flag() {
            true => {
                let rank = c.within(1..=4);
                dims(c, rank, 9)
            }
            false => sequence(c),
        },
        Kind::RemoveAxis => {
            let rank = c.within(2..=4);
            let mut shape = dims(c, rank, 9);
            let axis = c.within(0..=rank - 1);
            shape[axis] = 1;
            shape
        }
        Kind::MatMul => {
            let rank = c.within(0..=2);
            let groups = dims(c, rank, 4);
            let [m, k, n] = [(); 3].map(|()| c.size(12));
            // The attributes follow from the shapes, which a square matrix leaves open.
            let a = if c.flag() { [m, k] } else { [k, m] };
            let b = if c.flag() { [k, n] } else { [n, k] };
            return [a, b].map(|s| [&groups[..], &s].concat()).to_vec();
        }
        Kind::Concat => {
            let rank = c.within(1..=4);
            let first = dims(c, rank, 9);
            let axis = c.within(0..=rank - 1);
            return (0..c.within(1..=4))
                .map(|_| {
                    let mut shape = first.clone();
                    shape[axis] = c.size(9);
                    shape
                })
                .collect();
        }
        Kind::Merge => {
            let rank = c.within(1..=4);
            let full = dims(c, rank, 9);
            return (0..c.within(2..=4))
                .map(|_| stretchable(c, &full))
                .collect();
        }
        // With mask, states or both, whose units are the last dimension of a state.
        Kind::StatefulRnn => {
            let x = sequence(c);
            let mut shapes = vec![x.clone()];
            if c.flag() {
                shapes.push(vec![x[0]]);
            }
            if c.flag() {
                let units = c.size(20);
                shapes.extend((0..c.within(1..=2)).map(|_| vec![units]));
            }
            return shapes;
        }
        Kind::SpatialMultiply => {
            let maps = image(c, 40);
            let attention = vec![maps[0], maps[1], 1];
            return vec![maps, attention];
        }
        Kind::ChannelMultiply => {
            let maps = image(c, 40);
            let attention = vec![maps[2]];
            return vec![maps, attention];
        }
    };
    vec![one]
}

/// Returns a shape that can be broadcast to `full`.
pub fn stretchable(c: &mut Choices, full: &[usize]) -> Vec<usize> {
    let dropped = match c.within(0..=3) {
        0 => c.within(0..=full.len() - 1),
        _ => 0,
    };
    full[dropped..]
        .iter()
        .map(|&d| if c.within(0..=3) == 0 { 1 } else { d })
        .collect()
}
