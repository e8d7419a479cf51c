//! The programs `infer`, `convert` and `man` through their command lines, and the formats they write.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/infer.rs"]
mod infer;
#[path = "../common/model.rs"]
mod model;
#[cfg(feature = "default-model")]
#[path = "../common/profiles.rs"]
mod profiles;

mod builtin_models;
mod convert;
mod eval;
mod formats;
mod infer_answers;
mod infer_errors;
mod infer_formats;
mod man;
mod outputs;
mod report;
mod resume;
mod speakers;
