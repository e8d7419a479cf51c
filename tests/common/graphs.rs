//! Random graphs of every layer and option, and the comparison of an engine with the naive oracle.
//!
//! A graph is built from a list of random integers, each of which makes one choice. When a test
//! fails, proptest shrinks the integers and with them the graph.
#![allow(dead_code)] // each test binary uses its own part

#[path = "graphs/attention.rs"]
mod attention;
#[path = "graphs/chains.rs"]
mod chains;
#[path = "graphs/compare.rs"]
mod compare;
#[path = "graphs/kinds.rs"]
mod kinds;
#[path = "graphs/layers.rs"]
mod layers;
#[path = "graphs/networks.rs"]
mod networks;

use std::fmt;
use std::ops::RangeInclusive;

use maeum::nn::layers::Activation;
use maeum::nn::{DropoutMode, Graph, Input, Layer, Node, Output, ValueId, Weight, WeightId};
use proptest::prelude::*;

#[allow(
    unused_imports,
    reason = "not every test that includes this draws them"
)]
pub use {
    attention::{multiplied, pooled},
    chains::{convolution, scaled, windowed},
    compare::{TOLERANCE, assert_close, check_against_oracle, masks_of, repeat_rows, widen},
    kinds::{CPU_ONLY, KINDS, Kind, ON_DEVICE, kind_of},
    networks::network,
};

/// Graph with all data of a run.
#[derive(Clone)]
pub struct Case {
    pub graph: Graph,
    pub shapes: Vec<Vec<usize>>,
    pub inputs: Vec<Vec<f32>>,
    pub batch: usize,
    pub mode: DropoutMode,
}

impl fmt::Debug for Case {
    /// Omits the data, which would obscure the graph.
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

/// List of random integers, each used for one choice. The smallest choice is made once the list is
/// exhausted.
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

    /// Returns a size from 1 to `most`, biased towards small sizes and 1.
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

/// Returns uniform values in [-1, 1) (splitmix64, Steele et al. 2014), or multiples of 1/8, whose
/// sums of products are exact in `f32`.
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

/// Graph under construction.
pub struct Builder {
    pub choices: Choices,
    pub graph: Graph,
    /// True if all weights and inputs are multiples of 1/8, so that rounding cannot cross the
    /// discontinuity of an activation.
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

/// Returns one layer of this kind with random options and its own inputs.
pub fn single(kind: Kind) -> impl Strategy<Value = Case> {
    let numbers = prop::collection::vec(any::<u32>(), 80);
    numbers.prop_map(move |numbers| {
        let mut b = Builder::new(numbers);
        b.dyadic = b.choices.flag() || kind == Kind::Angle;
        let outer: Vec<usize> = (0..b.choices.within(0..=8).saturating_sub(6))
            .map(|_| b.choices.within(1..=4))
            .collect();
        let items = kinds::items(kind, &mut b.choices);
        let layer = layers::layer(kind, &mut b, &items).expect("the inputs were made for it");
        let shapes: Vec<Vec<usize>> = items.iter().map(|s| [&outer[..], s].concat()).collect();
        let inputs = shapes.iter().map(|s| b.input(s)).collect();
        let scale = match layer {
            // e^100 exceeds the range of f32.
            Layer::Activation(Activation::Exponential) => b.choices.pick(&[1.0, 20.0]),
            Layer::Activation(_) | Layer::Softmax(_) => b.choices.pick(&[1.0, 10.0, 100.0]),
            // Indices.
            Layer::Embedding(_) => 14.0,
            _ => 1.0,
        };
        let value = b.node(layer, inputs, outer.len());
        b.output(value);
        let batch = b.choices.size(9);
        let mut case = b.finish(shapes, scale, batch);
        if let Layer::StatefulRnn(rnn) = &case.graph.nodes[0].layer
            && rnn.masked
        {
            let mask = case.inputs[1].iter_mut();
            mask.for_each(|v| *v = f32::from(u8::from(*v > 0.0)));
        }
        case
    })
}

/// Adds a weight of this shape with values in [-scale, scale) around `centre`.
pub fn weight(b: &mut Builder, shape: &[usize], scale: f32, centre: f32) -> WeightId {
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
    WeightId(b.graph.weights.len() - 1)
}
