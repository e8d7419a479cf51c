//! The parts of an ONNX graph under construction: nodes, initializers and names.

use std::collections::{HashMap, HashSet};

use super::message::Message;
use crate::nn::{Graph, WeightId};

/// `TensorProto.DataType`.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// Value of an attribute of a node.
#[derive(Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
    Floats(&'a [f32]),
    Texts(&'a [&'a str]),
    Graph(&'a Message),
}

impl Attribute<'_> {
    fn encode(&self, name: &str) -> Message {
        // `AttributeProto`: name 1, f 2, i 3, s 4, g 6, floats 7, ints 8, strings 9, type 20.
        let mut message = Message::default();
        message.text(1, name);
        let kind = match self {
            Self::Float(value) => {
                message.float(2, *value);
                1
            }
            Self::Int(value) => {
                message.int(3, *value);
                2
            }
            Self::Text(value) => {
                message.text(4, value);
                3
            }
            Self::Floats(values) => {
                for &value in *values {
                    message.float(7, value);
                }
                6
            }
            Self::Ints(values) => {
                for &value in *values {
                    message.int(8, value);
                }
                7
            }
            Self::Graph(graph) => {
                message.message(6, graph);
                5
            }
            Self::Texts(values) => {
                for value in *values {
                    message.text(9, value);
                }
                8
            }
        };
        message.int(20, kind);
        message
    }
}

/// Nodes and initializers, encoded as fields of a `GraphProto`.
pub(super) struct Builder<'g> {
    pub graph: &'g Graph,
    pub nodes: Message,
    pub initializers: Message,
    names: HashSet<String>,
    /// Initializers by weight and layout, so that shared weights are stored once.
    weights: HashMap<(WeightId, String), String>,
    integers: HashMap<Vec<i64>, String>,
    numbers: HashMap<u32, String>,
}

impl<'g> Builder<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        Self {
            graph,
            nodes: Message::default(),
            initializers: Message::default(),
            names: HashSet::new(),
            weights: HashMap::new(),
            integers: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Returns `base`, with a number behind it if the name is taken, and takes it. An empty name
    /// would stand for a missing value.
    pub fn name(&mut self, base: &str) -> String {
        let base = if base.is_empty() { "value" } else { base };
        let mut name = base.to_owned();
        let mut number = 0;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }

    /// Adds a node whose outputs have exactly these names, which are taken.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        name: &str,
        attributes: &[(&str, Attribute)],
    ) {
        // `NodeProto`: input 1, output 2, name 3, op_type 4, attribute 5.
        let mut node = Message::default();
        for input in inputs {
            node.text(1, input);
        }
        for output in outputs {
            node.text(2, output);
        }
        node.text(3, name).text(4, op);
        for (name, value) in attributes {
            node.message(5, &value.encode(name));
        }
        self.nodes.message(1, &node);
    }

    fn tensor(&mut self, name: &str, kind: i64, shape: &[usize], data: &[u8]) {
        // `TensorProto`: dims 1, data_type 2, name 8, raw_data 9.
        let mut tensor = Message::default();
        for &length in shape {
            tensor.int(1, length as i64);
        }
        tensor.int(2, kind).text(8, name).bytes(9, data);
        self.initializers.message(5, &tensor);
    }

    fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, FLOAT, shape, &bytes);
    }

    /// Returns the name of a vector of integers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.integers.get(values) {
            return name.clone();
        }
        let name = self.name("integers");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(&name, INT64, &[values.len()], &bytes);
        self.integers.insert(values.to_vec(), name.clone());
        name
    }

    /// Returns the name of a new integer without dimensions.
    pub fn scalar(&mut self, value: i64) -> String {
        let name = self.name("integer");
        self.tensor(&name, INT64, &[], &value.to_le_bytes());
        name
    }

    /// Returns the name of a single number, without dimensions.
    pub fn number(&mut self, value: f32) -> String {
        if let Some(name) = self.numbers.get(&value.to_bits()) {
            return name.clone();
        }
        let name = self.name("number");
        self.floats(&name, &[], &[value]);
        self.numbers.insert(value.to_bits(), name.clone());
        name
    }

    /// Returns the name of a weight in another layout, which `layout` names and `arrange` makes of
    /// the elements.
    pub fn weight(
        &mut self,
        id: WeightId,
        layout: &str,
        arrange: impl FnOnce(&[usize], &[f32]) -> (Vec<usize>, Vec<f32>),
    ) -> String {
        let key = (id, layout.to_owned());
        if let Some(name) = self.weights.get(&key) {
            return name.clone();
        }
        let weight = &self.graph.weights[id.0];
        let (shape, data) = arrange(&weight.shape, &weight.data);
        let name = self.name(&weight.name);
        self.floats(&name, &shape, &data);
        self.weights.insert(key, name.clone());
        name
    }

    /// Returns the name of new numbers.
    pub fn constant(&mut self, base: &str, shape: &[usize], data: &[f32]) -> String {
        let name = self.name(base);
        self.floats(&name, shape, data);
        name
    }
}

/// Returns the elements of a row-major array with its dimensions in another order: dimension `i` of
/// the result is dimension `order[i]` of the array.
pub(super) fn transposed(shape: &[usize], data: &[f32], order: &[usize]) -> (Vec<usize>, Vec<f32>) {
    let result: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
    let strides: Vec<usize> = order
        .iter()
        .map(|&d| shape[d + 1..].iter().product())
        .collect();
    let elements = (0..data.len())
        .map(|mut rest| {
            let mut source = 0;
            for (length, stride) in result.iter().zip(&strides).rev() {
                source += rest % length * stride;
                rest /= length;
            }
            data[source]
        })
        .collect();
    (result, elements)
}
