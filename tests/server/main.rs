//! HTTP interface of the program `serve`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/python.rs"]
#[allow(dead_code)] // each test binary uses its own part
mod environment;
#[path = "../common/infer.rs"]
mod infer;
#[path = "../common/model.rs"]
mod model;
#[cfg(feature = "default-model")]
#[path = "../common/profiles.rs"]
mod profiles;

mod compatible;
mod connections;
mod documents;
mod guard;
mod load;
mod log;
mod names;
mod python;
#[cfg(feature = "default-model")]
mod speaker;
mod stream;
mod support;
mod upload;
