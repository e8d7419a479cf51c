//! HTTP interface of the program `serve`.

#[path = "common/mod.rs"]
mod common;
#[path = "common/python.rs"]
#[allow(dead_code)] // each test binary uses its own part
mod environment;
#[path = "common/infer.rs"]
mod infer;
#[path = "common/model.rs"]
mod model;
#[cfg(feature = "default-model")]
#[path = "common/profiles.rs"]
mod profiles;

#[path = "server/compatible.rs"]
mod compatible;
#[path = "server/connections.rs"]
mod connections;
#[path = "server/documents.rs"]
mod documents;
#[path = "server/guard.rs"]
mod guard;
#[path = "server/load.rs"]
mod load;
#[path = "server/log.rs"]
mod log;
#[path = "server/names.rs"]
mod names;
#[path = "server/python.rs"]
mod python;
#[cfg(feature = "default-model")]
#[path = "server/speaker.rs"]
mod speaker;
#[path = "server/stream.rs"]
mod stream;
#[path = "server/support.rs"]
mod support;
#[path = "server/upload.rs"]
mod upload;
