//! maeum (마음, heart/mind) listens to a voice recording and estimates which emotion it carries,
//! how old the speaker sounds and which gender.
//!
//! Data flows one way: [`audio`] decodes a file, [`front_end`] computes the networks' inputs, [`nn`] runs
//! the networks; a [`model`] holds them with their labels; [`recognizer`] goes the whole way to a [`Prediction`], [`formats`] writes it and [`app`]
//! holds what the programs share. `keras` converts Keras `.h5` files to the graphs that [`nn`] runs.

#![warn(missing_docs)]

pub mod app;
pub mod atomic_file;
pub mod audio;
#[cfg(feature = "default-model")]
pub mod default_model;
pub mod formats;
pub mod front_end;
#[cfg(feature = "convert")]
pub mod keras;
pub mod library;
pub mod model;
pub mod nn;
mod parallelism;
pub mod prediction;
pub mod recognizer;
#[cfg(feature = "serve")]
pub mod server;
pub mod simd;

pub use audio::Recording;
pub use library::{Answer, Error, ErrorKind};
pub use prediction::Prediction;
pub use recognizer::Recognizer;
