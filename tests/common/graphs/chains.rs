//! Chains of layers that the engine fuses.

use maeum::nn::ValueId;
use maeum::nn::layers::{Activation, Dropout, Layer, Padding, Pool, PoolKind};
use proptest::prelude::*;

use super::{Builder, Case, Kind, kinds, layers};

/// Returns a convolution with possible followers: an activation, a normalisation, a max pooling or
/// another pooling.
pub fn convolution() -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 120);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let shape = kinds::items(Kind::Conv, &mut b.choices).remove(0);
        let input = b.input(&shape);
        let shapes = vec![shape.clone()];
        let conv = layers::layer(Kind::Conv, &mut b, &shapes).expect("the input was made for it");
        let first = b.node(conv, vec![input], 0);
        let mut value = first;
        for _ in 0..b.choices.within(1..=4) {
            b.output(value);
            let item = b.graph.infer_shapes(&shapes).expect("it fits so far")[value.0].clone();
            b.graph.outputs.clear();
            let neighbours = Pool {
                kind: PoolKind::Max,
                size: [2, item.len() - 1],
                strides: [2, item.len() - 1],
                padding: Padding::Valid,
            };
            let fits = item[..item.len() - 1].iter().all(|&n| n >= 2);
            let layer = match b.choices.within(0..=4) {
                0 => Some(Layer::Activation(Activation::Relu)),
                1 => layers::layer(Kind::BatchNorm, &mut b, &[item]),
                2 => layers::layer(Kind::Pool, &mut b, &[item]),
                _ if fits => Some(Layer::Pool(neighbours)),
                _ => None,
            };
            if let Some(layer) = layer {
                value = b.node(layer, vec![value], 0);
            }
        }
        b.output(value);
        if b.choices.within(0..=3) == 0 {
            let inner = b.choices.within(first.0..=value.0);
            b.output(ValueId(inner));
        }
        let batch = b.choices.size(4);
        b.finish(shapes, 1.0, batch)
    })
}

/// Returns maps whose channels are scaled and then convolved, with possible followers. Either
/// operand may differ between draws.
pub fn scaled() -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 160);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let shapes = kinds::items(Kind::ChannelMultiply, &mut b.choices);
        let mut operands: Vec<ValueId> = shapes.iter().map(|s| b.input(s)).collect();
        for (i, most) in [(0, 3), (1, 1)] {
            if b.choices.within(0..=most) == 0 {
                let dropout = Layer::Dropout(Dropout {
                    rate: 0.5,
                    forced: true,
                    per_channel: false,
                });
                operands[i] = b.node(dropout, vec![operands[i]], 0);
            }
        }
        let mut last = b.node(Layer::ChannelMultiply, operands, 0);
        if b.choices.within(0..=4) == 0 {
            b.output(last);
        }
        last = follow(&mut b, &shapes, last, Kind::Conv, false);
        for kind in [Kind::Activation, Kind::BatchNorm, Kind::Pool] {
            if b.choices.within(0..=3) > 0 {
                last = follow(&mut b, &shapes, last, kind, false);
            }
        }
        b.output(last);
        let batch = b.choices.size(4);
        b.finish(shapes, 1.0, batch)
    })
}

/// Adds a layer after `last` if one fits. If `local`, convolutions and poolings must map each row,
/// or each few rows, to one row.
fn follow(
    b: &mut Builder,
    shapes: &[Vec<usize>],
    last: ValueId,
    kind: Kind,
    local: bool,
) -> ValueId {
    b.output(last);
    let known = b.graph.infer_shapes(shapes).expect("fits so far");
    b.graph.outputs.pop();
    let Some(mut layer) = layers::layer(kind, b, &known[last.0..=last.0]) else {
        return last;
    };
    match &mut layer {
        Layer::Conv(conv) if local => conv.strides = [1, 1],
        Layer::Pool(pool) if local => {
            pool.strides = pool.size;
            pool.padding = b
                .choices
                .pick(&[Padding::Valid, Padding::Valid, Padding::Same]);
            if pool.size.iter().zip(&known[last.0]).any(|(s, n)| s > n) {
                return last;
            }
        }
        _ => {}
    }
    b.node(layer, vec![last], 0)
}

/// Network over overlapping windows of a frame sequence.
#[derive(Debug, Clone)]
pub struct Windowed {
    /// Batch with the windows as rows.
    pub case: Case,
    pub sheet: Vec<f32>,
    /// First frame of each window.
    pub starts: Vec<usize>,
}

/// Returns a network that starts with one or two chains of layers that are local in time.
pub fn windowed() -> impl Strategy<Value = Windowed> {
    let numbers = prop::collection::vec(any::<u32>(), 300);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let rows = b.choices.within(1..=60);
        let shape = match b.choices.flag() {
            true => vec![rows, b.choices.size(5), b.choices.size(3)],
            false => vec![rows, b.choices.size(12)],
        };
        let shapes = [shape];
        let input = b.input(&shapes[0]);
        for _ in 0..b.choices.within(1..=2) {
            let mut last = input;
            for _ in 0..b.choices.within(1..=4) {
                if b.choices.within(0..=2) == 0 {
                    last = follow(&mut b, &shapes, last, Kind::Slice, true);
                }
                last = follow(&mut b, &shapes, last, Kind::Conv, true);
                for kind in [Kind::BatchNorm, Kind::Activation, Kind::BatchNorm] {
                    if b.choices.within(0..=2) == 0 {
                        last = follow(&mut b, &shapes, last, kind, true);
                    }
                }
                if b.choices.flag() {
                    last = follow(&mut b, &shapes, last, Kind::Pool, true);
                }
                if b.choices.within(0..=15) == 0 {
                    b.output(last);
                }
            }
            if b.choices.within(0..=2) == 0 {
                last = follow(&mut b, &shapes, last, Kind::Dropout, true);
            }
            b.output(last);
        }
        let row: usize = shapes[0][1..].iter().product();
        let step = b.choices.within(1..=rows);
        let mut starts = vec![b.choices.within(0..=5)];
        for _ in 0..b.choices.within(0..=6) {
            let last = starts[starts.len() - 1];
            starts.push(match b.choices.within(0..=7) {
                0 => b.choices.within(0..=2 * rows),
                _ => last + step,
            });
        }
        let most = starts.iter().max().map_or(0, |last| last + rows);
        let seed = b.choices.number();
        let sheet = super::numbers(seed, (most + 2) * row, false);
        let mut case = b.finish(shapes.to_vec(), 1.0, starts.len());
        let windows = starts
            .iter()
            .map(|start| &sheet[start * row..][..rows * row]);
        case.inputs = vec![windows.flatten().copied().collect()];
        Windowed {
            case,
            sheet,
            starts,
        }
    })
}
