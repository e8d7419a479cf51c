//! A network as data: inputs, nodes in the order of computation, outputs and weights.

use serde::{Deserialize, Serialize};

use super::layer::Layer;
use super::shape;

/// Index of a value: the inputs come first, then the output of each node in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub usize);

/// Index into [`Graph::weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WeightId(pub usize);

/// One network. Nested models are flattened into it; what they share, they share by [`WeightId`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// What the model is called in its file; messages begin with it.
    pub name: String,
    /// The values from 0 on, in the order in which data is given.
    pub inputs: Vec<Input>,
    /// In an order in which every node reads only values before it.
    pub nodes: Vec<Node>,
    /// In the order in which results are given; two may be the same value.
    pub outputs: Vec<Output>,
    /// What [`WeightId`] counts. A weight that several nodes read is here once.
    pub weights: Vec<Weight>,
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unique among the graph's inputs and nodes.
    pub name: String,
    /// Without the batch; `None` is a dimension that is known only when the graph is planned.
    pub shape: Vec<Option<usize>>,
}

/// A layer at one place of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique in the graph. A layer `conv` inside a nested model `body` is `body/conv`; the second
    /// use of a layer or model gets the suffix `_1` (`body_1/conv`), the third `_2`.
    pub name: String,
    /// The operation, with references to its weights.
    pub layer: Layer,
    /// The values that it reads, in the order that the layer asks for.
    pub inputs: Vec<ValueId>,
    /// How many leading dimensions of the input the layer treats like the batch
    /// (1 inside a TimeDistributed).
    #[serde(default)]
    pub outer: usize,
}

/// A named result of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Unique among the graph's outputs.
    pub name: String,
    /// The input or node output that is given.
    pub value: ValueId,
}

/// A weight tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Where it belongs, such as `model_5/conv2d_5/kernel`; for messages, not always unique.
    pub name: String,
    /// Lengths of the dimensions, the slowest first, as the layer that reads it asks for.
    pub shape: Vec<usize>,
    /// As many numbers as `shape` holds.
    pub data: Vec<f32>,
}

/// Why a graph cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// One node's inputs, options or weights do not fit its layer.
    #[error("graph {graph}, node {node} ({class}): {problem}")]
    Node {
        /// [`Graph::name`].
        graph: String,
        /// [`Node::name`].
        node: String,
        /// [`Layer::class`].
        class: &'static str,
        /// What was found and what is needed.
        problem: String,
    },
    /// Something of the graph as a whole: its names, inputs, outputs, weights or size.
    #[error("graph {graph}: {problem}")]
    Graph {
        /// [`Graph::name`].
        graph: String,
        /// What was found and what is needed or allowed.
        problem: String,
    },
}

/// The most dimensions a value may have, without the batch.
pub const MAX_RANK: usize = 8;
/// The most numbers a value may hold per batch row: far above any real network of this kind, low
/// enough that no arithmetic on sizes can overflow and no hostile file can ask for all memory.
pub const MAX_ELEMENTS: usize = 1 << 28;
/// The most numbers that all values of a graph, and copies made of them to compute, may hold
/// together per batch row, and the most that all its nodes' weights may: what a run and a plan
/// take in memory at most.
pub const MAX_TOTAL: usize = 1 << 28;
/// The most nodes a graph may have.
pub const MAX_NODES: usize = 1 << 16;

impl Graph {
    /// The node that computes `value`, or `None` for an input.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        value
            .0
            .checked_sub(self.inputs.len())
            .and_then(|i| self.nodes.get(i))
    }

    /// The value that node number `node` computes.
    pub fn output_of(&self, node: usize) -> ValueId {
        ValueId(self.inputs.len() + node)
    }

    /// Whether any dropout stays on at inference.
    pub fn is_stochastic(&self) -> bool {
        self.nodes
            .iter()
            .any(|n| matches!(&n.layer, Layer::Dropout(d) if d.forced && d.rate > 0.0))
    }

    /// The declared input shapes, or `None` if one has an open dimension.
    pub fn fixed_input_shapes(&self) -> Option<Vec<Vec<usize>>> {
        self.inputs
            .iter()
            .map(|i| i.shape.iter().copied().collect())
            .collect()
    }

    /// Checks everything that does not depend on the open input dimensions: names, references,
    /// order, weight sizes. If all input shapes are fixed, also every shape.
    ///
    /// # Errors
    /// Names the graph and the node, and says what is inconsistent.
    pub fn validate(&self) -> Result<(), GraphError> {
        shape::validate(self)
    }

    /// The shape of every value (inputs first, then each node's output) for the given input
    /// shapes, all without the batch.
    ///
    /// # Errors
    /// Names the node whose inputs or weights do not fit its layer.
    pub fn infer_shapes(&self, inputs: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, GraphError> {
        shape::infer(self, inputs)
    }

    /// Number of parameters, each shared weight counted once.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|w| w.data.len()).sum()
    }
}
