//! maeum (마음, heart/mind) estimates from a voice recording which emotion it carries, how old the
//! speaker sounds and which gender. It also converts Keras models and runs them.
//!
//! # Recognising
//!
//! ```
//! # fn main() -> Result<(), maeum::Error> {
//! # #[cfg(feature = "default-model")] {
//! # let samples = vec![0.0; 44_100];
//! let recognizer = maeum::Recognizer::builtin()?;
//! let recording = maeum::Recording::from_samples(samples, 44_100)?;
//! match recognizer.recognize(&recording) {
//!     Ok(answer) => {
//!         let emotion = answer.emotion();
//!         println!("{} {:.0} %", emotion.label(), 100.0 * emotion.probability());
//!     }
//!     Err(error) => println!("{error}"),
//! }
//! # }
//! # Ok(())
//! # }
//! ```
//!
//! [`Recording`] opens files, bytes and samples; [`Recognizer::builder`] chooses the model, the mode of
//! dropout and the threads; [`Recognizer::recognize_all`] takes many recordings, [`Recognizer::stream`]
//! samples that arrive piece by piece. An [`Answer`] has labels and serialises as JSON. The folder
//! `examples` has complete programs.
//!
//! # Running networks
//!
//! [`nn`] is the engine alone; `keras` converts `.h5` files to its graphs, `onnx` writes them as ONNX models.
//!
//! # Stability
//!
//! Stable, in the sense of semantic versioning, are the items of [`library`] and those re-exported here, the
//! modules [`model`], [`prediction`], [`formats`] and [`recognizer`], and from [`nn`] the graph, bundle, plan, session and
//! array interfaces. The other modules are public for the programs and may change in a minor version.
//!
//! # Modules
//!
//! Data flows one way: [`audio`] decodes a file, [`front_end`] computes the networks' inputs, [`nn`] runs
//! the networks; a [`model`] holds them with their labels; [`recognizer`] goes the whole way to a
//! [`Prediction`], [`formats`] writes it and [`app`] holds what the programs share.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `default-model` | yes | the built-in model |
//! | `commercial-model` | no | the model of freely licensed recordings alone, `commercial_model` |
//! | `convert` | yes | the modules `keras`, `model::from_keras` and `onnx` |
//! | `programs` | yes | the command-line programs and their packages; a library needs none of them |
//! | `cuda` | no | NVIDIA GPUs |
//! | `serve` | no | the HTTP server |
//! | `relaxed-simd` | no | on WebAssembly, the fused multiply-add of relaxed SIMD |
//! | `libhdf5` | no | a second HDF5 reader on the C library, for tests |
//! | `man` | no | the tool that writes manual pages |

#![warn(missing_docs)]

pub mod app;
pub mod atomic_file;
pub mod audio;
#[cfg(feature = "commercial-model")]
pub mod commercial_model;
#[cfg(feature = "default-model")]
pub mod default_model;
pub mod file_advice;
pub mod formats;
pub mod front_end;
#[cfg(feature = "convert")]
pub mod keras;
pub mod library;
pub mod model;
pub mod nn;
#[cfg(feature = "convert")]
pub mod onnx;
mod parallelism;
pub mod prediction;
#[cfg(feature = "programs")]
pub mod programs;
pub mod recognizer;
#[cfg(feature = "serve")]
pub mod server;
pub mod simd;

pub use audio::Recording;
pub use library::{Answer, Error, ErrorKind};
pub use prediction::Prediction;
pub use recognizer::Recognizer;
