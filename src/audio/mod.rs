//! Recordings: decoding, resampling and voice activity detection.
//!
//! [`decode`] reads a file into mono samples, [`resample`] converts their rate and [`vad`] decides
//! frame by frame between speech and other sound. The front ends build on these.

pub mod container;
pub mod decode;
mod decode_media;
mod decode_wav;
pub(crate) mod encoding;
mod frames;
mod join;
mod mp4_edit;
mod opus;
mod parts;
pub mod resample;
mod rope;
mod tags;
pub mod vad;
mod wav_header;

pub use decode::{DecodeError, Defect, Fault, Recording};
pub use decode_media::silence_caught_panics;
pub use resample::Resampling;
