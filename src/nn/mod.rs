//! Neural networks: layers, graphs, the bundle file that stores them, and the engine that runs
//! them.
//!
//! A converter produces a [`Graph`], a validated list of [`Node`]s, each a [`Layer`] and the values
//! it reads; a bundle stores it. A [`Model`] is a set of graphs that produce one prediction
//! together. A [`Plan`] is a graph prepared for execution and a [`Session`] runs it. [`oracle`]
//! computes any graph slowly in `f64`; the engine is tested against it.
//!
//! Shapes never include the batch: an image is `[height, width, channels]`, a sequence
//! `[time, channels]`, a vector `[channels]`. Channels are always last.

pub mod bundle;
pub mod cost;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dropout;
pub mod graph;
pub(crate) mod half;
pub mod inspect;
pub mod layer;
mod limits;
mod lowering;
pub mod model;
pub mod npz;
pub mod oracle;
mod plan;
pub mod run;
pub mod self_test;
mod session;
mod shape;
mod windows;

pub use dropout::DropoutMode;
pub use graph::{Graph, GraphError, Input, Node, Output, ValueId, Weight, WeightId};
pub use layer::Layer;
pub use model::{Model, Network, Role};
pub use plan::Plan;
pub use self_test::SelfTest;
pub use session::{RunError, Session};
