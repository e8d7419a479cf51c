//! (under construction)
pub mod vad;
