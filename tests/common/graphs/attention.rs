//! Attention pooling of sequences, and maps multiplied by upsampled attention.

use maeum::nn::ValueId;
use maeum::nn::layers::{
    Activation, Dense, Dropout, GlobalPool, Interpolation, Layer, Merge, MergeOp, Permute,
    PoolKind, RepeatVector, Reshape, Softmax, SumAxis, Upsample,
};
use proptest::prelude::*;

use super::{Builder, Case, weight};

/// Source of the weights of a sequence's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weighing {
    /// Dense layer over the time axis of each column, like the networks of 2020, with a built-in or
    /// separate softmax.
    Columns { own: bool },
    /// One score per row, whose softmax is repeated over the columns.
    Repeated,
    /// Second input with the sequence's shape or with one column.
    Given { narrow: bool },
    /// Dense layer from the scores of all rows to their softmax.
    DenseRows,
}

/// Returns a sequence pooled by attention: the sum or mean of its rows, weighted by a softmax over
/// the rows. The flag is true if the layers can be fused, because only the attention weights are
/// read elsewhere.
pub fn pooled() -> impl Strategy<Value = (Case, bool)> {
    let numbers = prop::collection::vec(any::<u32>(), 80);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let (n, width) = (b.choices.size(80), b.choices.size(80));
        let outer: Vec<usize> = (0..b.choices.within(0..=4) / 4)
            .map(|_| b.choices.within(1..=3))
            .collect();
        let weighing = b.choices.pick(&[
            Weighing::Columns { own: false },
            Weighing::Columns { own: true },
            Weighing::Repeated,
            Weighing::Given { narrow: false },
            Weighing::Given { narrow: true },
            Weighing::DenseRows,
        ]);
        let mut shapes = vec![[&outer[..], &[n, width]].concat()];
        let mut x = b.input(&shapes[0]);
        let given = match weighing {
            Weighing::Given { narrow } => {
                let columns = if narrow { 1 } else { width };
                shapes.push([&outer[..], &[n, columns]].concat());
                Some(b.input(&shapes[1]))
            }
            _ => None,
        };
        let outer = outer.len();
        if given.is_none() && b.choices.within(0..=3) == 0 {
            let dropout = Layer::Dropout(Dropout {
                rate: 0.3,
                forced: true,
                per_channel: false,
            });
            x = b.node(dropout, vec![x], outer);
        }
        let first = b.graph.nodes.len();
        let weights = weigh(&mut b, weighing, given.unwrap_or(x), [n, width], outer);
        let inner = b.graph.inputs.len() + b.graph.nodes.len() - 2;
        let multiply = Layer::Merge(Merge {
            op: MergeOp::Multiply,
        });
        let operands = match b.choices.flag() {
            true => vec![x, weights],
            false => vec![weights, x],
        };
        let product = b.node(multiply, operands, outer);
        let pool = match b.choices.flag() {
            true => Layer::SumAxis(SumAxis { axis: 0 }),
            false => Layer::GlobalPool(GlobalPool {
                kind: PoolKind::Average,
                keep_dims: b.choices.flag(),
            }),
        };
        let sum = b.node(pool, vec![product], outer);
        b.output(sum);
        if b.choices.flag() {
            b.output(weights);
        }
        let spoiled = match b.choices.within(0..=7) {
            0 => {
                b.output(product);
                true
            }
            1 => {
                let read = b.node(Layer::Activation(Activation::Tanh), vec![weights], outer);
                b.output(read);
                true
            }
            // The preceding softmax is permuted or repeated.
            2 if inner >= b.graph.inputs.len() + first && given.is_none() => {
                b.output(ValueId(inner));
                weighing != Weighing::DenseRows
            }
            _ => false,
        };
        let scale = b.choices.pick(&[1.0, 10.0]);
        let batch = b.choices.size(5);
        (b.finish(shapes, scale, batch), !spoiled)
    })
}

/// Returns maps multiplied by attention that is upsampled to their size. The flag is true if the
/// layers can be fused, because the upsampled attention is not read elsewhere.
pub fn multiplied() -> impl Strategy<Value = (Case, bool)> {
    let numbers = prop::collection::vec(any::<u32>(), 40);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let size = [b.choices.size(6), b.choices.size(6)];
        let factor = [b.choices.within(1..=5), b.choices.within(1..=5)];
        let channels = match b.choices.flag() {
            true => b.choices.size(20),
            false => 4 * b.choices.size(5),
        };
        let outer: Vec<usize> = (0..b.choices.within(0..=4) / 4)
            .map(|_| b.choices.within(1..=3))
            .collect();
        let maps = [size[0] * factor[0], size[1] * factor[1], channels];
        let shapes = [[size[0], size[1], 1], maps].map(|item| [&outer[..], &item].concat());
        let outer = outer.len();
        let small = b.input(&shapes[0]);
        let mut maps = b.input(&shapes[1]);
        let upsample = Layer::Upsample(Upsample {
            factor,
            interpolation: b.choices.pick(&[
                Interpolation::Nearest,
                Interpolation::BilinearLegacy,
                Interpolation::BilinearHalfPixel,
            ]),
        });
        let attention = b.node(upsample, vec![small], outer);
        if b.choices.flag() {
            // Computes the maps after the attention.
            maps = b.node(Layer::Activation(Activation::Relu), vec![maps], outer);
        }
        let product = b.node(Layer::SpatialMultiply, vec![maps, attention], outer);
        b.output(product);
        let spoiled = b.choices.within(0..=4) == 0;
        if spoiled {
            b.output(attention);
        }
        let batch = b.choices.size(5);
        (b.finish(shapes.to_vec(), 1.0, batch), !spoiled)
    })
}

/// Returns the weights of the rows of `x`.
fn weigh(
    b: &mut Builder,
    weighing: Weighing,
    x: ValueId,
    [n, width]: [usize; 2],
    outer: usize,
) -> ValueId {
    let scale = |inputs: usize| 1.0 / (inputs as f32).sqrt();
    let dense = |b: &mut Builder, x, [inputs, units]: [usize; 2], softmax| {
        let dense = Layer::Dense(Dense {
            kernel: weight(b, &[inputs, units], scale(inputs), 0.0),
            bias: Some(weight(b, &[units], 0.5, 0.0)),
            activation: match softmax {
                true => Activation::Softmax,
                false => Activation::Linear,
            },
        });
        b.node(dense, vec![x], outer)
    };
    let reshape = |b: &mut Builder, x, shape: &[usize]| {
        let shape = shape.iter().map(|&n| Some(n)).collect();
        b.node(Layer::Reshape(Reshape { shape }), vec![x], outer)
    };
    let transpose = || Layer::Permute(Permute { order: vec![1, 0] });
    match weighing {
        Weighing::Columns { own } => {
            let turned = b.node(transpose(), vec![x], outer);
            let mut scores = dense(b, turned, [n, n], !own);
            if own {
                scores = match b.choices.flag() {
                    true => b.node(Layer::Softmax(Softmax { axis: 1 }), vec![scores], outer),
                    false => b.node(Layer::Activation(Activation::Softmax), vec![scores], outer),
                };
            }
            b.node(transpose(), vec![scores], outer)
        }
        Weighing::Repeated => {
            let scores = dense(b, x, [width, 1], false);
            let scores = reshape(b, scores, &[n]);
            let softmax = b.node(Layer::Softmax(Softmax { axis: 0 }), vec![scores], outer);
            let repeat = Layer::RepeatVector(RepeatVector { count: width });
            let repeated = b.node(repeat, vec![softmax], outer);
            b.node(transpose(), vec![repeated], outer)
        }
        Weighing::Given { .. } => b.node(Layer::Softmax(Softmax { axis: 0 }), vec![x], outer),
        Weighing::DenseRows => {
            let scores = dense(b, x, [width, 1], false);
            let scores = reshape(b, scores, &[n]);
            let weights = dense(b, scores, [n, n], true);
            reshape(b, weights, &[n, 1])
        }
    }
}
