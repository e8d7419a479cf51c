//! Networks: the engine and the naive reference, the bundles they are stored in, and the models.

#[cfg(feature = "convert")]
#[path = "../common/captures.rs"]
mod captures;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/graphs.rs"]
mod graphs;
#[cfg(feature = "convert")]
#[path = "../common/spare_threads.rs"]
mod spare_threads;

mod bits;
mod bundle;
mod default_model;
mod library;
mod networks;
mod oracle;
mod pipeline;
mod random;
mod states;
