//! A network as data: inputs, nodes in the order of computation, outputs and weights.

use serde::{Deserialize, Serialize};

use super::layers::Layer;
use super::shape;

pub use super::limits::{MAX_ELEMENTS, MAX_NODES, MAX_RANK, MAX_TOTAL};
pub use super::weight::{Weight, WeightId};

/// Index of a value: the inputs come first, then the output of each node in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub usize);

/// One network. Nested models are flattened into it; nodes share weights by [`WeightId`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// The model's name in its file; messages begin with it.
    pub name: String,
    /// Values from 0 on, in the order of the input data.
    pub inputs: Vec<Input>,
    /// Nodes in topological order: each reads only earlier values.
    pub nodes: Vec<Node>,
    /// Outputs in the order of the results; two may name the same value.
    pub outputs: Vec<Output>,
    /// Weights, indexed by [`WeightId`]. A weight shared by several nodes is stored once.
    pub weights: Vec<Weight>,
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unique among the graph's inputs and nodes.
    pub name: String,
    /// Without the batch; `None` is a dimension that is fixed when the graph is planned.
    pub shape: Vec<Option<usize>>,
}

/// A layer in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique in the graph. A layer `conv` inside a nested model `body` is `body/conv`; the second
    /// use of a layer or model gets the suffix `_1` (`body_1/conv`), the third `_2`.
    pub name: String,
    /// The operation, with references to its weights.
    pub layer: Layer,
    /// Input values, in the layer's order.
    pub inputs: Vec<ValueId>,
    /// Number of leading input dimensions that the layer treats like the batch (1 inside a
    /// TimeDistributed).
    #[serde(default)]
    pub outer: usize,
}

/// A named result of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Unique among the graph's outputs.
    pub name: String,
    /// The input or node output that holds the result.
    pub value: ValueId,
}

/// Error of an invalid graph.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
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
        /// Found and required value.
        problem: String,
    },
    /// The graph's names, inputs, outputs, weights or size are invalid.
    #[error("graph {graph}: {problem}")]
    Graph {
        /// [`Graph::name`].
        graph: String,
        /// Found value, and the required or allowed one.
        problem: String,
    },
}

impl Graph {
    /// Returns the node that computes `value`, or `None` for an input.
    pub fn producer(&self, value: ValueId) -> Option<&Node> {
        value
            .0
            .checked_sub(self.inputs.len())
            .and_then(|i| self.nodes.get(i))
    }

    /// Returns the value that node `node` computes.
    pub fn output_of(&self, node: usize) -> ValueId {
        ValueId(self.inputs.len() + node)
    }

    /// Returns true if any dropout stays on at inference.
    pub fn is_stochastic(&self) -> bool {
        self.nodes
            .iter()
            .any(|n| matches!(&n.layer, Layer::Dropout(d) if d.is_active()))
    }

    /// Returns the declared input shapes, or `None` if one has an open dimension.
    pub fn fixed_input_shapes(&self) -> Option<Vec<Vec<usize>>> {
        self.inputs
            .iter()
            .map(|i| i.shape.iter().copied().collect())
            .collect()
    }

    /// Checks names, references, order and weight sizes, and every shape if all input shapes are
    /// fixed.
    ///
    /// # Errors
    /// Names the graph and the node, and reports the inconsistency.
    pub fn validate(&self) -> Result<(), GraphError> {
        shape::validate(self)
    }

    /// Returns the shape of every value (inputs first, then each node's output) for the given input
    /// shapes, all without the batch.
    ///
    /// # Errors
    /// Names the node whose inputs or weights do not fit its layer.
    pub fn infer_shapes(&self, inputs: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, GraphError> {
        shape::infer(self, inputs)
    }

    /// Returns the number of parameters, each shared weight counted once.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|w| w.data.len()).sum()
    }
}
