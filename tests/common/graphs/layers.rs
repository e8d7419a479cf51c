//! Random options for each kind of layer.

use maeum::nn::Layer;
use maeum::nn::layers::*;

use super::kinds::{kind_of, stretchable};
use super::{Builder, Choices, Kind, weight};

/// Returns any activation; a discontinuous one only if `jumps`, when its inputs are exact.
fn activation(c: &mut Choices, jumps: bool) -> Activation {
    let slope = c.pick(&[0.0, 0.1]);
    let threshold = if jumps {
        c.pick(&[0.0, 0.3, -0.2])
    } else {
        0.0
    };
    let all = [
        Activation::Linear,
        Activation::Relu,
        Activation::ReluWith {
            max: c.pick(&[None, Some(0.5), Some(6.0)]),
            slope,
            threshold,
        },
        Activation::LeakyRelu { alpha: 0.3 },
        Activation::Elu { alpha: 0.7 },
        Activation::Selu,
        Activation::Sigmoid,
        Activation::HardSigmoid,
        Activation::HardSigmoid6,
        Activation::Tanh,
        Activation::Softmax,
        Activation::Softplus,
        Activation::Softsign,
        Activation::Exponential,
        Activation::Swish,
        Activation::Gelu,
        Activation::Mish,
        Activation::ThresholdedRelu { theta: 0.3 },
    ];
    let count = if jumps { all.len() } else { all.len() - 1 };
    c.pick(&all[..count])
}

/// Returns the magnitude that keeps a sum of `inputs` products near 1.
fn near_one(inputs: usize) -> f32 {
    1.7 / (inputs as f32).sqrt()
}

fn optional(c: &mut Choices) -> bool {
    c.within(0..=3) != 0
}

/// Returns window sizes, strides and dilations for these spatial dimensions.
fn window(c: &mut Choices, rank: usize) -> ([usize; 2], [usize; 2]) {
    let mut size = [c.within(1..=6), c.within(1..=6)];
    let mut strides = [c.within(1..=3), c.within(1..=4)];
    if c.flag() {
        strides = [1, 1];
    }
    if c.flag() {
        (size[1], strides[1]) = (size[0], strides[0]);
    }
    if rank == 2 {
        (size[1], strides[1]) = (1, 1);
    }
    (size, strides)
}

/// Returns a padding; `Valid` only if a window fits.
fn padding(c: &mut Choices, spatial: &[usize], extent: [usize; 2], causal: bool) -> Padding {
    let fits = spatial.iter().zip(extent).all(|(&n, e)| e <= n);
    let mut all = vec![Padding::Same];
    if fits {
        all.push(Padding::Valid);
    }
    if causal && spatial.len() == 1 {
        all.push(Padding::Causal);
    }
    c.pick(&all)
}

fn conv(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let (spatial, channels) = (&x[..x.len() - 1], x[x.len() - 1]);
    if !(1..=2).contains(&spatial.len()) {
        return None;
    }
    let (size, mut strides) = window(&mut b.choices, x.len());
    let mut dilation = [1, 1];
    if b.choices.within(0..=2) == 0 {
        // Keras supports either strides or dilation.
        strides = [1, 1];
        dilation = [b.choices.within(1..=3), b.choices.within(1..=3)];
        if x.len() == 2 {
            dilation[1] = 1;
        }
    }
    let extent = [0, 1].map(|i| (size[i] - 1) * dilation[i] + 1);
    let padding = padding(&mut b.choices, spatial, extent, true);
    let filters = b.choices.size(40);
    let shape = [&size[..spatial.len()], &[channels, filters]].concat();
    let scale = near_one(size[0] * size[1] * channels);
    let jumps = b.dyadic;
    Some(Layer::Conv(Conv {
        kernel: weight(b, &shape, scale, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[filters], 0.5, 0.0)),
        strides,
        dilation,
        padding,
        activation: activation(&mut b.choices, jumps),
    }))
}

fn conv3d(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let &[depth, height, width, channels] = x else {
        return None;
    };
    let size = [(); 3].map(|()| b.choices.within(1..=3));
    let strides = [(); 3].map(|()| b.choices.pick(&[1, 1, 2, 3]));
    let dilation = match strides {
        [1, 1, 1] => [(); 3].map(|()| b.choices.within(1..=2)),
        _ => [1; 3],
    };
    let samples = [depth, height, width];
    let fits = (0..3).all(|axis| (size[axis] - 1) * dilation[axis] < samples[axis]);
    let paddings = [Padding::Same, Padding::Valid];
    let padding = b.choices.pick(&paddings[..1 + usize::from(fits)]);
    let filters = b.choices.size(20);
    let shape = [&size[..], &[channels, filters]].concat();
    let scale = near_one(size.iter().product::<usize>() * channels);
    let jumps = b.dyadic;
    Some(Layer::Conv3d(Conv3d {
        kernel: weight(b, &shape, scale, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[filters], 0.5, 0.0)),
        strides,
        dilation,
        padding,
        activation: activation(&mut b.choices, jumps),
    }))
}

fn conv_lstm(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let [_, image @ .., channels] = x else {
        return None;
    };
    if !(1..=2).contains(&image.len()) {
        return None;
    }
    let channels = *channels;
    b.dyadic = false;
    let (size, strides) = window(&mut b.choices, image.len() + 1);
    let padding = padding(&mut b.choices, image, size, false);
    let filters = b.choices.size(9);
    let kernel = &size[..image.len()];
    let taps = size[0] * size[1];
    let shape = |inputs: usize| [kernel, &[inputs, 4 * filters]].concat();
    Some(Layer::ConvLstm(ConvLstm {
        kernel: weight(b, &shape(channels), near_one(taps * channels), 0.0),
        recurrent_kernel: weight(b, &shape(filters), near_one(taps * filters) / 3.0, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[4 * filters], 0.5, 0.0)),
        strides,
        dilation: [1, 1],
        padding,
        activation: b.choices.pick(&[Activation::Tanh, Activation::Softsign]),
        recurrent_activation: b.choices.pick(&[
            Activation::Sigmoid,
            Activation::HardSigmoid,
            Activation::Softmax,
        ]),
        return_sequences: b.choices.flag(),
        go_backwards: b.choices.flag(),
    }))
}

fn depthwise(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let (spatial, channels) = (&x[..x.len() - 1], x[x.len() - 1]);
    if !(1..=2).contains(&spatial.len()) {
        return None;
    }
    let (size, mut strides) = window(&mut b.choices, x.len());
    let mut dilation = [1, 1];
    if b.choices.within(0..=2) == 0 {
        strides = [1, 1];
        dilation = [b.choices.within(1..=3), 1];
    }
    let extent = [0, 1].map(|i| (size[i] - 1) * dilation[i] + 1);
    let padding = padding(&mut b.choices, spatial, extent, true);
    let multiplier = b.choices.pick(&[1, 1, 2, 3]);
    let shape = [&size[..spatial.len()], &[channels, multiplier]].concat();
    let scale = near_one(size[0] * size[1]);
    let jumps = b.dyadic;
    Some(Layer::DepthwiseConv(DepthwiseConv {
        kernel: weight(b, &shape, scale, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[channels * multiplier], 0.5, 0.0)),
        strides,
        dilation,
        padding,
        activation: activation(&mut b.choices, jumps),
    }))
}

fn transposed(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let (spatial, channels) = (&x[..x.len() - 1], x[x.len() - 1]);
    if !(1..=2).contains(&spatial.len()) {
        return None;
    }
    let (size, strides) = window(&mut b.choices, x.len());
    let filters = b.choices.size(9);
    let shape = [&size[..spatial.len()], &[filters, channels]].concat();
    let jumps = b.dyadic;
    let mut dilation = [1; 2];
    let mut added = [0; 2];
    for (axis, &n) in spatial.iter().enumerate() {
        dilation[axis] = b.choices.within(1..=2);
        // A single sample alone may leave nothing.
        added[axis] = b
            .choices
            .within(0..=strides[axis] - 1)
            .max(usize::from(n == 1));
    }
    let output_padding = b.choices.flag().then_some(added);
    Some(Layer::ConvTranspose(ConvTranspose {
        kernel: weight(b, &shape, near_one(size[0] * size[1] * channels), 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[filters], 0.5, 0.0)),
        strides,
        dilation,
        padding: b.choices.pick(&[Padding::Valid, Padding::Same]),
        output_padding,
        activation: activation(&mut b.choices, jumps),
    }))
}

/// Returns a function that does not amplify rounding errors, or with exact inputs any that is
/// defined for all of them.
fn map(b: &mut Builder) -> MapFunction {
    let c = b.choices.pick(&[0.5, -0.3, 1.5]);
    let all = [
        MapFunction::Abs,
        MapFunction::Negate,
        MapFunction::Square,
        MapFunction::Exp,
        MapFunction::Add(c),
        MapFunction::SubtractFrom(c),
        MapFunction::Multiply(c),
        MapFunction::Divide(c),
        MapFunction::Maximum(c),
        MapFunction::Minimum(c),
        MapFunction::NotEqual(c),
        MapFunction::Sqrt,
    ];
    let usable = if b.dyadic { all.len() } else { all.len() - 1 };
    b.choices.pick(&all[..usable])
}

fn slice(c: &mut Choices, x: &[usize]) -> Slice {
    let axis = c.within(0..=x.len() - 1);
    let n = x[axis];
    let first = c.within(0..=n - 1);
    let end = c.within(first + 1..=n);
    // Each position from the start or from the end.
    let position = |c: &mut Choices, at: usize| match c.flag() {
        true => at as i64,
        false => at as i64 - n as i64,
    };
    let stop = match end == n {
        true => c.pick(&[None, Some(n as i64), Some(n as i64 + 3)]),
        false => Some(position(c, end)),
    };
    Slice {
        axis,
        start: position(c, first),
        stop,
        step: c.within(1..=3),
    }
}

/// Returns the matrix product for these shapes, if they have one.
fn mat_mul(inputs: &[Vec<usize>]) -> Option<MatMul> {
    let [a, b] = inputs else { return None };
    let (&[.., a0, a1], &[.., b0, b1]) = (&a[..], &b[..]) else {
        return None;
    };
    let inner = [(false, false), (true, false), (false, true), (true, true)];
    let fits = |&(ta, tb): &(bool, bool)| {
        let k = if ta { a0 } else { a1 };
        k == if tb { b1 } else { b0 }
    };
    let (transpose_a, transpose_b) = inner.into_iter().find(fits)?;
    Some(MatMul {
        transpose_a,
        transpose_b,
    })
}

fn simple_rnn(b: &mut Builder, x: &[usize], units: Option<usize>) -> Option<SimpleRnn> {
    let &[_, channels] = x else { return None };
    b.dyadic = false;
    let units = units.unwrap_or_else(|| b.choices.size(20));
    Some(SimpleRnn {
        kernel: weight(b, &[channels, units], near_one(channels), 0.0),
        recurrent_kernel: weight(b, &[units, units], near_one(units) / 3.0, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &[units], 0.5, 0.0)),
        activation: b.choices.pick(&[
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Softsign,
            Activation::Softmax,
        ]),
        return_sequences: b.choices.flag(),
        go_backwards: b.choices.flag(),
        stateful: false,
    })
}

/// Returns a recurrent layer that reads a mask, if the second input can be one, and otherwise states.
fn stateful_rnn(b: &mut Builder, inputs: &[Vec<usize>]) -> Option<Layer> {
    let x = &inputs[0];
    let masked = inputs.get(1).is_some_and(|mask| **mask == x[..1]);
    let states = &inputs[1 + usize::from(masked)..];
    let units = match states {
        [] => None,
        [first, ..] => match **first {
            [units] if states.iter().all(|state| state == first) => Some(units),
            _ => return None,
        },
    };
    let cell = match (states.len(), b.choices.within(0..=2)) {
        (2, _) | (0, 0) => RnnCell::Lstm(Lstm {
            recurrent: recurrent(b, x, 4, false, units)?,
        }),
        (0 | 1, 0 | 1) => {
            let reset_after = b.choices.flag();
            RnnCell::Gru(Gru {
                recurrent: recurrent(b, x, 3, reset_after, units)?,
                reset_after,
            })
        }
        (0 | 1, _) => RnnCell::SimpleRnn(simple_rnn(b, x, units)?),
        _ => return None,
    };
    Some(Layer::StatefulRnn(StatefulRnn {
        cell,
        masked,
        zero_skipped_output: b.choices.flag(),
        initial_state: !states.is_empty(),
        return_state: b.choices.flag(),
    }))
}

/// Returns a convolution with one filter, as in spatial attention.
pub fn one_filter(b: &mut Builder, x: &[usize]) -> Option<Layer> {
    let &[_, _, channels] = x else { return None };
    Some(Layer::Conv(Conv {
        kernel: weight(b, &[1, 1, channels, 1], near_one(channels), 0.0),
        bias: None,
        strides: [1, 1],
        dilation: [1, 1],
        padding: Padding::Same,
        activation: activation(&mut b.choices, false),
    }))
}

fn is_bounded(activation: Activation) -> bool {
    use Activation::{HardSigmoid, Sigmoid, Softmax, Softsign, Tanh};
    matches!(
        activation,
        HardSigmoid | Sigmoid | Softmax | Softsign | Tanh
    )
}

/// Returns the weights and options of an LSTM or GRU with `units`, or with any number of them.
fn recurrent(
    b: &mut Builder,
    x: &[usize],
    gates: usize,
    reset_after: bool,
    units: Option<usize>,
) -> Option<Recurrent> {
    let &[time, channels] = x else { return None };
    // Weights of that size would amplify the state and its rounding error with every step.
    b.dyadic = false;
    // Gates above 1 multiply the state and its rounding error with every step, which is tolerable
    // over few steps. An exponential that is fed back, or applied twice as in an LSTM, amplifies
    // the error without bound and tests nothing.
    const FEW: usize = 2;
    let cell = match activation(&mut b.choices, false) {
        Activation::Exponential if time > 1 || gates == 4 => Activation::Tanh,
        cell => cell,
    };
    let gate = match activation(&mut b.choices, false) {
        Activation::Exponential if time > 1 => Activation::Sigmoid,
        gate if time <= FEW || is_bounded(gate) => gate,
        _ => b
            .choices
            .pick(&[Activation::Sigmoid, Activation::HardSigmoid]),
    };
    let units = units.unwrap_or_else(|| b.choices.size(20));
    let width = gates * units;
    let bias_shape = match reset_after {
        true => vec![2, width],
        false => vec![width],
    };
    Some(Recurrent {
        kernel: weight(b, &[channels, width], near_one(channels), 0.0),
        recurrent_kernel: weight(b, &[units, width], near_one(units) / 3.0, 0.0),
        bias: optional(&mut b.choices).then(|| weight(b, &bias_shape, 0.5, 0.0)),
        activation: cell,
        recurrent_activation: gate,
        return_sequences: b.choices.flag(),
        go_backwards: b.choices.flag(),
        stateful: false,
    })
}

fn reshape(c: &mut Choices, x: &[usize]) -> Vec<Option<usize>> {
    let total: usize = x.iter().product();
    let mut shape = match c.within(0..=2) {
        0 => vec![total],
        1 => {
            let mut shape = x.to_vec();
            shape.reverse();
            shape
        }
        _ => {
            let divisors: Vec<usize> = (1..=total).filter(|d| total.is_multiple_of(*d)).collect();
            let d = c.pick(&divisors);
            vec![d, 1, total / d]
        }
    }
    .into_iter()
    .map(Some)
    .collect::<Vec<_>>();
    if c.flag() {
        let open = c.within(0..=shape.len() - 1);
        shape[open] = None;
    }
    shape
}

fn permutation(c: &mut Choices, rank: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..rank).collect();
    (0..rank)
        .map(|_| {
            let i = c.within(0..=left.len() - 1);
            left.remove(i)
        })
        .collect()
}

/// Returns a layer of this kind with random options and weights for inputs of these shapes, or
/// `None` if the kind does not accept them.
pub fn layer(kind: Kind, b: &mut Builder, inputs: &[Vec<usize>]) -> Option<Layer> {
    let x = &inputs[0][..];
    let spatial = x.len().checked_sub(1)?;
    let windowed = (1..=2).contains(&spatial);
    let channels = x[spatial];
    let layer = match kind {
        Kind::Conv => return conv(b, x),
        Kind::Pool if windowed => {
            let (size, strides) = window(&mut b.choices, x.len());
            Layer::Pool(Pool {
                kind: b.choices.pick(&[PoolKind::Max, PoolKind::Average]),
                size,
                strides,
                padding: padding(&mut b.choices, &x[..spatial], size, false),
            })
        }
        Kind::GlobalPool if windowed => Layer::GlobalPool(GlobalPool {
            kind: b.choices.pick(&[PoolKind::Max, PoolKind::Average]),
            keep_dims: b.choices.flag(),
        }),
        Kind::Upsample if spatial == 2 => Layer::Upsample(Upsample {
            factor: [b.choices.within(1..=5), b.choices.within(1..=5)],
            interpolation: b.choices.pick(&[
                Interpolation::Nearest,
                Interpolation::BilinearLegacy,
                Interpolation::BilinearHalfPixel,
            ]),
        }),
        Kind::ZeroPad if spatial == 2 => {
            let [top, bottom, left, right] = [(); 4].map(|()| b.choices.within(0..=3));
            Layer::ZeroPad(ZeroPad {
                top,
                bottom,
                left,
                right,
            })
        }
        Kind::BatchNorm => Layer::BatchNorm(BatchNorm {
            gamma: b.choices.flag().then(|| weight(b, &[channels], 0.5, 1.0)),
            beta: b.choices.flag().then(|| weight(b, &[channels], 0.5, 0.0)),
            mean: weight(b, &[channels], 0.5, 0.0),
            variance: weight(b, &[channels], 0.8, 1.125),
            epsilon: b.choices.pick(&[1e-3, 1e-5, 0.1]),
        }),
        Kind::Dense => {
            let units = b.choices.size(40);
            let jumps = b.dyadic;
            Layer::Dense(Dense {
                kernel: weight(b, &[channels, units], near_one(channels), 0.0),
                bias: optional(&mut b.choices).then(|| weight(b, &[units], 0.5, 0.0)),
                activation: activation(&mut b.choices, jumps),
            })
        }
        Kind::Lstm => Layer::Lstm(Lstm {
            recurrent: recurrent(b, x, 4, false, None)?,
        }),
        Kind::Gru => {
            let reset_after = b.choices.flag();
            Layer::Gru(Gru {
                recurrent: recurrent(b, x, 3, reset_after, None)?,
                reset_after,
            })
        }
        Kind::Reverse => Layer::Reverse,
        Kind::Flatten => Layer::Flatten,
        Kind::Reshape => Layer::Reshape(Reshape {
            shape: reshape(&mut b.choices, x),
        }),
        Kind::Permute => Layer::Permute(Permute {
            order: permutation(&mut b.choices, x.len()),
        }),
        Kind::RepeatVector if x.len() == 1 => Layer::RepeatVector(RepeatVector {
            count: b.choices.size(9),
        }),
        Kind::Concat => {
            let differs = |&d: &usize| inputs.iter().any(|s| s[d] != x[d]);
            let axis = (0..x.len()).find(differs);
            Layer::Concat(Concat {
                axis: axis.unwrap_or_else(|| b.choices.within(0..=x.len() - 1)),
            })
        }
        Kind::Merge => {
            let ops = [
                MergeOp::Add,
                MergeOp::Multiply,
                MergeOp::Average,
                MergeOp::Maximum,
                MergeOp::Minimum,
                MergeOp::Subtract,
            ];
            let usable = if inputs.len() == 2 { 6 } else { 5 };
            Layer::Merge(Merge {
                op: b.choices.pick(&ops[..usable]),
            })
        }
        Kind::Resize if x.len() == 3 => Layer::Resize(Resize {
            size: [b.choices.size(20), b.choices.size(20)],
            bilinear: b.choices.flag(),
        }),
        Kind::Dropout => Layer::Dropout(Dropout {
            rate: b.choices.pick(&[0.5, 0.3, 0.1, 0.0]),
            forced: optional(&mut b.choices),
            per_channel: b.choices.flag(),
        }),
        // A discontinuity is harmless here: the inputs are exact.
        Kind::Activation => Layer::Activation(activation(&mut b.choices, true)),
        Kind::Softmax => Layer::Softmax(Softmax {
            axis: b.choices.within(0..=x.len() - 1),
        }),
        Kind::PRelu => {
            let shape = stretchable(&mut b.choices, x);
            Layer::PRelu(PRelu {
                alpha: weight(b, &shape, 1.0, 0.0),
            })
        }
        Kind::SumAxis if x.len() > 1 => Layer::SumAxis(SumAxis {
            axis: b.choices.within(0..=x.len() - 1),
        }),
        Kind::DepthwiseConv => return depthwise(b, x),
        Kind::ConvTranspose => return transposed(b, x),
        Kind::Conv3d => return conv3d(b, x),
        Kind::ConvLstm => return conv_lstm(b, x),
        Kind::LayerNorm => {
            let dims = b.choices.within(1..=x.len());
            let shape = &x[x.len() - dims..];
            Layer::LayerNorm(LayerNorm {
                gamma: b.choices.flag().then(|| weight(b, shape, 0.5, 1.0)),
                beta: b.choices.flag().then(|| weight(b, shape, 0.5, 0.0)),
                // Rows that are nearly constant are amplified by up to its root.
                epsilon: b.choices.pick(&[0.01, 0.1]),
                dims,
            })
        }
        Kind::Stft if x.len() == 2 => {
            let fft_length = b.choices.pick(&[2, 3, 4, 7, 8, 12, 16, 25, 32, 64]);
            let pad_begin = b.choices.pick(&[0, 0, 1, 5]);
            let pad_end = b.choices.flag();
            let longest = match pad_end {
                true => fft_length,
                false => fft_length.min(x[0] + pad_begin),
            };
            let length = b.choices.within(1..=longest);
            Layer::Stft(Stft {
                window: weight(b, &[length], near_one(length), 0.0),
                hop: b.choices.within(1..=9),
                fft_length,
                pad_begin,
                pad_end,
            })
        }
        // Angles jump by a whole turn, so the inputs must be exact.
        Kind::Angle if b.dyadic && x.len() > 1 && x[x.len() - 1] == 2 => Layer::Angle,
        Kind::GroupNorm => {
            let channels = x[x.len() - 1];
            let divisors: Vec<usize> = (1..=channels)
                .filter(|&g| channels.is_multiple_of(g))
                .collect();
            let parameter = |b: &mut Builder, centre| {
                optional(&mut b.choices).then(|| weight(b, &[channels], 0.5, centre))
            };
            Layer::GroupNorm(GroupNorm {
                groups: match b.choices.within(0..=4) {
                    0 => None,
                    _ => Some(b.choices.pick(&divisors)),
                },
                gamma: parameter(b, 1.0),
                beta: parameter(b, 0.0),
                // As for a layer normalisation.
                epsilon: b.choices.pick(&[0.01, 0.1]),
            })
        }
        Kind::Embedding => {
            let (rows, width) = (b.choices.size(12), b.choices.size(9));
            Layer::Embedding(Embedding {
                table: weight(b, &[rows, width], 1.0, 0.0),
            })
        }
        Kind::Map => Layer::Map(Map { function: map(b) }),
        Kind::Slice => Layer::Slice(slice(&mut b.choices, x)),
        Kind::MeanAxis if x.len() > 1 => Layer::MeanAxis(MeanAxis {
            axis: b.choices.within(0..=x.len() - 1),
        }),
        Kind::InsertAxis => Layer::InsertAxis(InsertAxis {
            axis: b.choices.within(0..=x.len()),
        }),
        Kind::RemoveAxis if x.len() > 1 && x.contains(&1) => {
            let ones: Vec<usize> = (0..x.len()).filter(|&d| x[d] == 1).collect();
            Layer::RemoveAxis(RemoveAxis {
                axis: b.choices.pick(&ones),
            })
        }
        Kind::MatMul => Layer::MatMul(mat_mul(inputs)?),
        Kind::SimpleRnn => Layer::SimpleRnn(simple_rnn(b, x, None)?),
        Kind::StatefulRnn => return stateful_rnn(b, inputs),
        Kind::SpatialMultiply if inputs.len() == 2 => Layer::SpatialMultiply,
        Kind::ChannelMultiply if inputs.len() == 2 => Layer::ChannelMultiply,
        Kind::Pool
        | Kind::GlobalPool
        | Kind::Upsample
        | Kind::Resize
        | Kind::ZeroPad
        | Kind::RepeatVector
        | Kind::SumAxis
        | Kind::MeanAxis
        | Kind::Stft
        | Kind::Angle
        | Kind::RemoveAxis
        | Kind::SpatialMultiply
        | Kind::ChannelMultiply => return None,
    };
    debug_assert_eq!(kind_of(&layer), kind);
    Some(layer)
}
