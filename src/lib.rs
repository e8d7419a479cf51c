//! maeum (마음, heart/mind) listens to a voice recording and estimates which emotion it carries,
//! how old the speaker sounds and which gender.
//!
//! Data flows one way: [`audio`] turns a file into a 16 kHz voiced signal, [`features`] turns the
//! signal into network inputs, [`nn`] runs the networks; [`recognizer`] goes the whole way
//! to a [`Prediction`].
//! `keras` turns Keras `.h5` files into the graphs that [`nn`] runs.

#![warn(missing_docs)]

pub mod atomic_file;
pub mod audio;
#[cfg(feature = "default-model")]
pub mod default_model;
pub mod features;
#[cfg(feature = "convert")]
pub mod keras;
pub mod nn;
pub mod prediction;
pub mod recognizer;
pub mod report;
#[cfg(feature = "serve")]
pub mod server;
mod together;

pub use prediction::Prediction;
pub use recognizer::Recognizer;
