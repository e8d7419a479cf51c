//! Networks of arbitrary layers.

use maeum::nn::layers::{Conv, Dense, Layer};
use maeum::nn::{DropoutMode, Node, Output, ValueId, oracle};
use proptest::prelude::*;

use super::{Builder, Case, Kind, layers, numbers, widen};

/// Returns a network of up to sixteen layers of these kinds, with branches, shared weights and several
/// outputs.
pub fn network(kinds: &'static [Kind]) -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 400);
    numbers.prop_map(move |numbers| {
        let mut b = Builder::new(numbers);
        let mut shapes = Vec::new();
        for _ in 0..b.choices.within(1..=2) {
            let rank = b.choices.within(1..=4);
            let shape: Vec<usize> = (0..rank).map(|_| b.choices.size(7)).collect();
            b.input(&shape);
            shapes.push(shape);
        }
        for _ in 0..b.choices.within(1..=16) {
            let before = b.graph.nodes.len();
            if !(grow(&mut b, kinds, &shapes).is_some() && is_bounded_case(&mut b, &shapes)) {
                b.graph.nodes.truncate(before);
            }
        }
        let last = b.graph.inputs.len() + b.graph.nodes.len() - 1;
        b.output(ValueId(last));
        for _ in 0..b.choices.within(0..=2) {
            let value = b.choices.within(0..=last);
            b.output(ValueId(value));
        }
        let batch = b.choices.size(5);
        b.finish(shapes, 1.0, batch)
    })
}

/// Adds a random layer if one fits the selected values.
fn grow(b: &mut Builder, kinds: &[Kind], shapes: &[Vec<usize>]) -> Option<()> {
    b.graph.outputs = vec![Output {
        name: "last".into(),
        value: ValueId(0),
    }];
    let known = b.graph.infer_shapes(shapes).ok()?;
    b.graph.outputs.clear();
    // Late values are preferred, so that networks become deep.
    let early = b.choices.within(0..=known.len() - 1);
    let first = b.choices.within(early..=known.len() - 1);
    if b.choices.within(0..=4) == 0 && !b.graph.nodes.is_empty() {
        // Reuses a layer and its weights on another value.
        let used = b.choices.within(0..=b.graph.nodes.len() - 1);
        let Node {
            mut layer,
            inputs,
            outer,
            ..
        } = b.graph.nodes[used].clone();
        if let Layer::Conv(Conv { bias, .. }) | Layer::Dense(Dense { bias, .. }) = &mut layer
            && b.choices.flag()
        {
            // Layers with a shared kernel may differ in their other parameters.
            *bias = None;
        }
        let indexes = matches!(layer, Layer::Embedding(_)) && first >= shapes.len();
        if inputs.len() == 1 && !indexes {
            b.node(layer, vec![ValueId(first)], outer);
            return Some(());
        }
    }
    let kind = match b.choices.within(0..=7) {
        0 => Kind::Dropout,
        _ => b.choices.pick(kinds),
    };
    if kind == Kind::Embedding && first >= shapes.len() {
        // Rounding can change the index that an inexact value stands for.
        return None;
    }
    let outer = match known[first].len() {
        0 | 1 => 0,
        4.. => 1,
        _ => usize::from(b.choices.within(0..=3) == 0),
    };
    let mut inputs = vec![ValueId(first)];
    if matches!(kind, Kind::Concat | Kind::Merge | Kind::MatMul) {
        let more = if kind == Kind::MatMul { 1 } else { 2 };
        for _ in 0..b.choices.within(1..=more) {
            // Selects another value with the same number of dimensions, or the first value itself.
            let rank = known[first].len();
            let fits =
                |&v: &usize| known[v].len() == rank && known[v][..outer] == known[first][..outer];
            let others: Vec<usize> = (0..known.len()).filter(fits).collect();
            inputs.push(ValueId(b.choices.pick(&others)));
        }
    }
    let item = known[first][outer..].to_vec();
    // Attention needs a second value of a matching shape, which is derived from the first.
    let attention = match kind {
        Kind::SpatialMultiply => Some(layers::one_filter(b, &item)?),
        Kind::ChannelMultiply => Some(layers::layer(
            Kind::GlobalPool,
            b,
            std::slice::from_ref(&item),
        )?),
        _ => None,
    };
    if let Some(layer) = attention {
        let value = b.node(layer, inputs.clone(), outer);
        inputs.push(value);
        let attended = match kind {
            Kind::SpatialMultiply => Layer::SpatialMultiply,
            _ => Layer::ChannelMultiply,
        };
        b.node(attended, inputs, outer);
        return Some(());
    }
    let items: Vec<Vec<usize>> = inputs
        .iter()
        .map(|v| known[v.0][outer..].to_vec())
        .collect();
    let layer = layers::layer(kind, b, &items)?;
    b.node(layer, inputs, outer);
    Some(())
}

/// Returns true if the new layer is valid and its values stay small: large values that cancel later
/// would leave a rounding error that is independent of the engine.
fn is_bounded_case(b: &mut Builder, shapes: &[Vec<usize>]) -> bool {
    const LARGEST: f64 = 4.0;
    const MOST: usize = 3000;
    let last = ValueId(b.graph.inputs.len() + b.graph.nodes.len() - 1);
    b.output(last);
    let sizes = b.graph.infer_shapes(shapes);
    let fits = sizes.is_ok_and(|s| s.iter().all(|s| s.iter().product::<usize>() <= MOST)) && {
        let inputs: Vec<Vec<f64>> = (1..)
            .zip(shapes)
            .map(|(seed, s)| widen(&numbers(seed, s.iter().product(), false)))
            .collect();
        let values = oracle::run(&b.graph, shapes, &inputs, 1, &DropoutMode::Off);
        let last = values.expect("its shapes fit").get(last).cloned();
        last.is_some_and(|v| v.data.iter().all(|v| v.abs() <= LARGEST))
    };
    b.graph.outputs.clear();
    fits
}
