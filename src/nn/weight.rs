//! Weight tensors of a graph.

use serde::{Deserialize, Serialize};

/// Index into [`Graph::weights`](super::Graph::weights).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WeightId(pub usize);

/// A weight tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Name for messages, such as `model_5/conv2d_5/kernel`; not always unique.
    pub name: String,
    /// Dimensions, the slowest first, in the layout of the layer that reads it.
    pub shape: Vec<usize>,
    /// Elements; their number is the product of `shape`.
    pub data: Vec<f32>,
}
