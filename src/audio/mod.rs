//! From a recording on disk to a clean, voiced, 16 kHz signal.
//!
//! In the order the data flows: [`decode`] reads the file into mono samples, [`resample`] brings
//! them to 16 kHz, [`clean`] removes noise and tilts the spectrum, [`vad`] tells which frames are
//! speech, [`trim`] keeps what is voiced. [`frontend`] runs all of it.

pub mod clean;
pub mod container;
pub mod decode;
mod decode_media;
mod decode_wav;
mod encoding;
mod frames;
pub mod frontend;
mod join;
mod mp4_edit;
mod opus;
mod parts;
pub mod resample;
mod rope;
mod tags;
pub mod trim;
pub mod vad;
mod wav_header;

pub use decode::{DecodeError, Defect, Fault, Recording};
pub use decode_media::silence_caught_panics;
pub use frontend::{AudioError, Prepared, VoiceDetector, prepare, prepare_with};
pub use resample::Resampling;
