//! Parts that the programs share.
//!
//! [`inputs`] finds the recordings that were asked for, [`batch`] recognises them in parallel and
//! [`sink`] puts the text of [`crate::formats`] where it belongs. [`eval`] measures the answers against
//! the truth in a [`manifest`]; [`dump`] writes the networks' inputs.

pub mod batch;
pub mod dump;
pub mod eval;
pub mod inputs;
pub mod manifest;
pub mod resume;
pub mod sink;
