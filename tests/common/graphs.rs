//! Random graphs of every layer and option, and the comparison of an engine with the reference.
//!
//! A graph is built from a list of random numbers, each of which makes one choice; when a test
//! fails, proptest makes the numbers, and with them the graph, smaller.
#![allow(dead_code)] // each test binary uses its own part

#[path = "graphs/chains.rs"]
mod chains;
#[path = "graphs/layers.rs"]
mod layers;

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use maeum::nn::dropout::{DropoutMode, Masks, draw_factors};
use maeum::nn::layer::{Activation, Conv, Dropout, Layer, Padding, Pool, PoolKind};
use maeum::nn::{Graph, Input, Node, Output, ValueId, Weight, reference};
use proptest::prelude::*;

#[allow(
    unused_imports,
    reason = "not every test that includes this draws them"
)]
pub use chains::{pooled, scaled, windowed};
pub use layers::{KINDS, Kind};

/// A graph with everything that a run of it needs.
#[derive(Clone)]
pub struct Case {
    pub graph: Graph,
    pub shapes: Vec<Vec<usize>>,
    pub inputs: Vec<Vec<f32>>,
    pub batch: usize,
    pub mode: DropoutMode,
}

impl fmt::Debug for Case {
    /// Without the numbers, which would bury the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "batch {}, dropout {:?}", self.batch, self.mode)?;
        let shapes = self.graph.infer_shapes(&self.shapes).unwrap_or_default();
        for (i, shape) in shapes.iter().enumerate() {
            match self.graph.producer(ValueId(i)) {
                None => writeln!(f, "  {i}: {shape:?} input")?,
                Some(n) => writeln!(
                    f,
                    "  {i}: {shape:?} = {:?} of {:?}, outer {}",
                    n.layer, n.inputs, n.outer
                )?,
            }
        }
        for (i, weight) in self.graph.weights.iter().enumerate() {
            writeln!(f, "  weight {i}: {:?}", weight.shape)?;
        }
        write!(f, "  outputs {:?}", self.graph.outputs)
    }
}

/// Random numbers, each used for one choice; when they run out, the smallest choice is made.
pub struct Choices {
    numbers: Vec<u32>,
    next: usize,
}

impl Choices {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.numbers.get(self.next - 1).copied().unwrap_or(0)
    }

    pub fn within(&mut self, range: RangeInclusive<usize>) -> usize {
        let count = range.end() - range.start() + 1;
        range.start() + self.number() as usize % count
    }

    /// From 1 to `most`, more often small, and 1 itself often.
    pub fn size(&mut self, most: usize) -> usize {
        match self.within(0..=9) {
            0 | 1 => 1,
            2..=5 => self.within(1..=most.min(8)),
            _ => self.within(1..=most),
        }
    }

    pub fn flag(&mut self) -> bool {
        self.within(0..=1) == 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0..=from.len() - 1)]
    }
}

/// Uniform numbers in [-1, 1) (splitmix64, Steele et al. 2014), or the multiples of 1/8 among
/// them: sums of products of those are exact in `f32`.
pub fn numbers(seed: u32, count: usize, dyadic: bool) -> Vec<f32> {
    let mut state = u64::from(seed);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        if dyadic {
            (unit * 8.0).floor() / 8.0
        } else {
            unit
        }
    };
    (0..count).map(|_| next()).collect()
}

/// A graph under construction.
pub struct Builder {
    pub choices: Choices,
    pub graph: Graph,
    /// All weights and inputs are multiples of 1/8, so that no rounding can push a number over
    /// the jump of an activation.
    pub dyadic: bool,
}

impl Builder {
    fn new(numbers: Vec<u32>) -> Self {
        Self {
            choices: Choices { numbers, next: 0 },
            graph: Graph {
                name: "random".into(),
                ..Graph::default()
            },
            dyadic: false,
        }
    }

    fn input(&mut self, shape: &[usize]) -> ValueId {
        let id = self.graph.inputs.len();
        let open = self.choices.within(0..=3) == 0;
        let dims = shape.iter().map(|&d| if open { None } else { Some(d) });
        self.graph.inputs.push(Input {
            name: format!("in{id}"),
            shape: dims.collect(),
        });
        ValueId(id)
    }

    fn node(&mut self, layer: Layer, inputs: Vec<ValueId>, outer: usize) -> ValueId {
        let name = format!("node{}", self.graph.nodes.len());
        self.graph.nodes.push(Node {
            name,
            layer,
            inputs,
            outer,
        });
        ValueId(self.graph.inputs.len() + self.graph.nodes.len() - 1)
    }

    fn output(&mut self, value: ValueId) {
        let name = format!("out{}", self.graph.outputs.len());
        self.graph.outputs.push(Output { name, value });
    }

    fn finish(mut self, shapes: Vec<Vec<usize>>, scale: f32, batch: usize) -> Case {
        let mode = match self.choices.within(0..=2) {
            0 => DropoutMode::Off,
            _ => DropoutMode::draws(
                self.choices.within(1..=4) as u32,
                u64::from(self.choices.number()) << 20,
            ),
        };
        let inputs = shapes
            .iter()
            .map(|shape| {
                let count = batch * shape.iter().product::<usize>();
                let mut x = numbers(self.choices.number(), count, self.dyadic);
                x.iter_mut().for_each(|v| *v *= scale);
                x
            })
            .collect();
        let case = Case {
            graph: self.graph,
            shapes,
            inputs,
            batch,
            mode,
        };
        if let Err(e) = case.graph.infer_shapes(&case.shapes) {
            panic!("the generator built a graph that does not fit: {e}\n{case:?}");
        }
        case
    }
}

/// One layer of this kind, with random options, on its own inputs.
pub fn single(kind: Kind) -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 80);
    numbers.prop_map(move |numbers| {
        let mut b = Builder::new(numbers);
        b.dyadic = b.choices.flag();
        let outer: Vec<usize> = (0..b.choices.within(0..=8).saturating_sub(6))
            .map(|_| b.choices.within(1..=4))
            .collect();
        let items = layers::items(kind, &mut b.choices);
        let layer = layers::layer(kind, &mut b, &items).expect("the inputs were made for it");
        let shapes: Vec<Vec<usize>> = items.iter().map(|s| [&outer[..], s].concat()).collect();
        let inputs = shapes.iter().map(|s| b.input(s)).collect();
        let scale = match layer {
            // e^100 is not a number that f32 can hold.
            Layer::Activation(Activation::Exponential) => b.choices.pick(&[1.0, 20.0]),
            Layer::Activation(_) | Layer::Softmax { .. } => b.choices.pick(&[1.0, 10.0, 100.0]),
            _ => 1.0,
        };
        let value = b.node(layer, inputs, outer.len());
        b.output(value);
        let batch = b.choices.size(9);
        b.finish(shapes, scale, batch)
    })
}

/// A convolution and what may follow it: an activation, a normalisation, a maximum of neighbours
/// or another pooling.
pub fn convolution() -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 120);
    numbers.prop_map(|numbers| {
        let mut b = Builder::new(numbers);
        let shape = layers::items(Kind::Conv, &mut b.choices).remove(0);
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

/// A network of up to sixteen layers with branches, shared weights and several outputs.
pub fn network() -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 400);
    numbers.prop_map(|numbers| {
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
            if !(grow(&mut b, &shapes).is_some() && tame(&mut b, &shapes)) {
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

/// Adds a random layer, if it fits on the values that were picked for it.
fn grow(b: &mut Builder, shapes: &[Vec<usize>]) -> Option<()> {
    b.graph.outputs = vec![Output {
        name: "last".into(),
        value: ValueId(0),
    }];
    let known = b.graph.infer_shapes(shapes).ok()?;
    b.graph.outputs.clear();
    // Late values more often, so that networks become deep.
    let early = b.choices.within(0..=known.len() - 1);
    let first = b.choices.within(early..=known.len() - 1);
    if b.choices.within(0..=4) == 0 && !b.graph.nodes.is_empty() {
        // The same layer once more, with the same weights, on another value.
        let used = b.choices.within(0..=b.graph.nodes.len() - 1);
        let Node {
            mut layer,
            inputs,
            outer,
            ..
        } = b.graph.nodes[used].clone();
        if let Layer::Conv(Conv { bias, .. }) | Layer::Dense { bias, .. } = &mut layer
            && b.choices.flag()
        {
            // Layers that share a kernel may differ in the rest.
            *bias = None;
        }
        if inputs.len() == 1 {
            b.node(layer, vec![ValueId(first)], outer);
            return Some(());
        }
    }
    let kind = match b.choices.within(0..=7) {
        0 => Kind::Dropout,
        _ => b.choices.pick(KINDS),
    };
    let outer = match known[first].len() {
        0 | 1 => 0,
        4.. => 1,
        _ => usize::from(b.choices.within(0..=3) == 0),
    };
    let mut inputs = vec![ValueId(first)];
    if matches!(kind, Kind::Concat | Kind::Merge) {
        for _ in 0..b.choices.within(1..=2) {
            // Of the values that have as many dimensions, one; this one itself at worst.
            let rank = known[first].len();
            let fits =
                |&v: &usize| known[v].len() == rank && known[v][..outer] == known[first][..outer];
            let others: Vec<usize> = (0..known.len()).filter(fits).collect();
            inputs.push(ValueId(b.choices.pick(&others)));
        }
    }
    let item = known[first][outer..].to_vec();
    // Attention needs a second value of just the right shape, which is made from the first.
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

/// Whether what was just added fits and stays small: numbers far above 1 that later cancel would
/// leave an error that says nothing about the engine.
fn tame(b: &mut Builder, shapes: &[Vec<usize>]) -> bool {
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
        let values = reference::run(&b.graph, shapes, &inputs, 1, &DropoutMode::Off);
        let last = values.expect("its shapes fit").get(last).cloned();
        last.is_some_and(|v| v.data.iter().all(|v| v.abs() <= LARGEST))
    };
    b.graph.outputs.clear();
    fits
}

pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// How far a number of the engine may be from the reference, as part of the largest magnitude of
/// that layer's output or of 1, whichever is larger. It is what the project promises; a sum of a
/// thousand products near 1 in `f32` is off by a tenth of it.
pub const TOLERANCE: f64 = 1e-5;

/// Panics, naming `what`, unless `got` agrees with `wanted` within `tolerance` of the largest
/// magnitude wanted, or of 1 if that is larger.
#[track_caller]
pub fn assert_close(what: &str, tolerance: f64, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}: length");
    let scale = wanted.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        // Written so that a NaN fails.
        let near = (g - w).abs() <= tolerance * scale;
        assert!(
            near,
            "{what}: element {i} is {g}, not {w} (difference {:e}, scale {scale})",
            (g - w).abs()
        );
    }
}

/// Compares every value that an engine computes with the reference.
///
/// `run_engine` returns every value of the graph, inputs first, each for all rows (those that do
/// not depend on dropout may have one row per input row instead of one per draw). Each node is compared with
/// what the reference makes of the engine's own inputs to it, so that errors do not add up and
/// the tolerance can stay that of a single layer.
pub fn check_against_reference(case: &Case, run_engine: impl Fn(&Case) -> Vec<Vec<f32>>) {
    let shapes = case.graph.infer_shapes(&case.shapes).unwrap();
    let draws = case.mode.rows();
    let rows = case.batch * draws;
    let got = run_engine(case);
    assert_eq!(got.len(), shapes.len(), "number of values");
    let got: Vec<Vec<f64>> = got
        .iter()
        .zip(&shapes)
        .map(|(value, shape)| {
            let size: usize = shape.iter().product();
            match value.len() == case.batch * size {
                true => widen(&repeat_rows(value, size, draws)),
                false => widen(value),
            }
        })
        .collect();
    let masks = DropoutMode::Masks(masks_of(case));
    for (i, input) in case.inputs.iter().enumerate() {
        let size = shapes[i].iter().product();
        let wanted = widen(&repeat_rows(input, size, draws));
        assert_close(&case.graph.inputs[i].name, 0.0, &got[i], &wanted);
    }
    for (i, node) in case.graph.nodes.iter().enumerate() {
        let id = case.graph.output_of(i);
        let own = alone(&case.graph, node, &shapes);
        let own_shapes: Vec<Vec<usize>> = node.inputs.iter().map(|v| shapes[v.0].clone()).collect();
        let own_inputs: Vec<Vec<f64>> = node.inputs.iter().map(|v| got[v.0].clone()).collect();
        let mode = match case.mode {
            DropoutMode::Off => &DropoutMode::Off,
            _ => &masks,
        };
        let wanted = reference::run(&own, &own_shapes, &own_inputs, rows, mode).unwrap();
        let what = format!("{} ({:?})", node.name, node.layer);
        assert_close(
            &what,
            TOLERANCE,
            &got[id.0],
            &wanted.output(0).unwrap().data,
        );
    }
}

/// A graph of this node only.
fn alone(graph: &Graph, node: &Node, shapes: &[Vec<usize>]) -> Graph {
    let inputs: Vec<Input> = node
        .inputs
        .iter()
        .enumerate()
        .map(|(i, v)| Input {
            name: format!("in{i}"),
            shape: shapes[v.0].iter().map(|&d| Some(d)).collect(),
        })
        .collect();
    let count = inputs.len();
    Graph {
        name: node.name.clone(),
        inputs,
        nodes: vec![Node {
            inputs: (0..count).map(ValueId).collect(),
            ..node.clone()
        }],
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(count),
        }],
        weights: graph.weights.clone(),
    }
}

/// Every row `times` times, side by side.
pub fn repeat_rows<T: Copy>(x: &[T], size: usize, times: usize) -> Vec<T> {
    x.chunks(size).flat_map(|row| row.repeat(times)).collect()
}

/// The decisions that the case's dropout mode makes, one mask row per output row.
pub fn masks_of(case: &Case) -> Masks {
    let shapes = case.graph.infer_shapes(&case.shapes).unwrap();
    let mut masks = HashMap::new();
    let mut number = 0;
    for (i, node) in case.graph.nodes.iter().enumerate() {
        let Layer::Dropout(Dropout {
            rate,
            forced: true,
            per_channel,
        }) = node.layer
        else {
            continue;
        };
        if rate <= 0.0 {
            continue;
        }
        let shape = &shapes[case.graph.output_of(i).0];
        let units = match per_channel {
            true => shape[..node.outer].iter().product::<usize>() * shape[shape.len() - 1],
            false => shape.iter().product(),
        };
        let mut row = vec![0.0; units];
        let mut mask = Vec::new();
        if let DropoutMode::Draws { n, seed } = case.mode {
            for _ in 0..case.batch {
                for draw in 0..n.get() {
                    draw_factors(seed, draw, number, rate, &mut row);
                    mask.extend(row.iter().map(|&f| u8::from(f != 0.0)));
                }
            }
        }
        masks.insert(node.name.clone(), mask);
        number += 1;
    }
    Masks(masks)
}

/// A weight of this shape in [-scale, scale) around `centre`.
pub fn weight(b: &mut Builder, shape: &[usize], scale: f32, centre: f32) -> maeum::nn::WeightId {
    let seed = b.choices.number();
    let mut data = numbers(seed, shape.iter().product(), b.dyadic);
    if !b.dyadic {
        data.iter_mut().for_each(|v| *v *= scale);
    }
    data.iter_mut().for_each(|v| *v += centre);
    b.graph.weights.push(Weight {
        name: format!("weight{}", b.graph.weights.len()),
        shape: shape.to_vec(),
        data,
    });
    maeum::nn::WeightId(b.graph.weights.len() - 1)
}
