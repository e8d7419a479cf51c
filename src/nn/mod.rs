//! The networks: layers, graphs, the bundle file that holds them, and the engine that runs them.
//!
//! A [`Graph`] is what a converter produces and a bundle stores: a validated list of [`Node`]s,
//! each a [`Layer`] with the values it reads. A
//! [`Plan`] makes a graph ready to run and a [`Session`] runs it. [`oracle`] computes any
//! graph slowly in `f64` and is the truth that the engine is tested against.
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
pub mod network;
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
pub use network::{Network, Provenance};
pub use plan::Plan;
pub use self_test::SelfTest;
pub use session::{RunError, Session};
