//! Neural networks: layers, graphs, the bundle file that stores them, and the engine that runs
//! them.
//!
//! A converter produces a [`Graph`], a validated list of [`Node`]s, each a [`Layer`] and the values
//! it reads; a bundle stores it. A [`Plan`] is a graph prepared for execution and a [`Session`] runs it. [`oracle`]
//! computes any graph slowly in `f64`; the engine is tested against it.
//!
//! ```
//! use std::sync::Arc;
//!
//! use maeum::nn::{DropoutMode, Graph, Plan, Session};
//!
//! /// The first output of a graph with one input of three elements, for two rows.
//! fn two_rows(graph: &Graph) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
//!     let plan = Arc::new(Plan::new(graph, &[vec![3]])?);
//!     let mut session = Session::new(&plan);
//!     session.run(&[&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], 2, &DropoutMode::Off)?;
//!     Ok(session.output(0).to_vec())
//! }
//! ```
//!
//! [`run::run_arrays`] does the same for named arrays; `keras::load` converts an `.h5` file.
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
pub mod layers;
mod limits;
pub(crate) mod lowering;
pub mod network;
pub mod npz;
pub mod oracle;
mod plan;
mod quantised;
pub mod run;
pub mod self_test;
mod session;
mod shape;
mod states;
mod weight;
mod windows;

pub use dropout::DropoutMode;
pub use graph::{Graph, GraphError, Input, Node, Output, ValueId, Weight, WeightId};
pub use layers::Layer;
pub use network::{Network, Provenance};
pub use plan::Plan;
pub use self_test::SelfTest;
pub use session::{RunError, Session};
