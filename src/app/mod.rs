//! Application layer that the programs share.
//!
//! [`inputs`] lists the recordings, [`batch`] recognises them in parallel and [`sink`] writes the
//! text of [`crate::formats`]. [`eval`] compares predictions with the labels of a [`manifest`], and
//! [`dump`] writes the networks' inputs.

pub mod batch;
pub mod dump;
pub mod eval;
pub mod inputs;
pub mod manifest;
pub mod resume;
pub mod sink;
