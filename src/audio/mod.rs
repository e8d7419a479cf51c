//! Recordings: decoding, resampling and voice activity detection.
//!
//! [`decode`] reads a file into mono samples, [`resample`] converts their rate and [`vad`]
//! classifies each frame as speech or non-speech. The front ends build on these.

mod container;
pub mod decode;
mod decode_media;
mod decode_wav;
pub(crate) mod encoding;
mod error;
pub mod file_formats;
mod frames;
mod join;
mod mp4_edit;
mod opus;
mod parts;
mod recording;
pub mod resample;
mod rope;
mod tags;
pub mod vad;
mod wav_header;

pub use decode_media::silence_caught_panics;
pub use error::{DecodeError, Fault};
pub use recording::{Defect, Recording};
pub use resample::Resampling;
