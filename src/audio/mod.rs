//! From a recording on disk to a clean, voiced, 16 kHz signal.
//!
//! In the order the data flows: [`decode`] reads the file into mono samples, [`resample`] brings
//! them to 16 kHz, [`clean`] removes noise and tilts the spectrum, [`vad`] tells which frames are
//! speech, [`trim`] keeps what is voiced. [`frontend`] runs all of it.

mod aiff_header;
pub mod clean;
pub mod decode;
mod decode_media;
mod decode_wav;
mod encoding;
pub mod frontend;
mod mp4_edit;
pub mod resample;
pub mod trim;
pub mod vad;
mod wav_header;

pub use decode::{DecodeError, Fault, Recording};
pub use decode_media::silence_caught_panics;
pub use frontend::{AudioError, Prepared, VoiceDetector, prepare, prepare_with};
pub use resample::Resampling;
