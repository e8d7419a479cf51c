//! From a decoded recording to the inputs of the networks.
//!
//! There are two front ends, and a model names the one that it was trained with: [`legacy2020`], that of
//! the system of 2020, and [`utterance`], that of the default models. Each runs on the CPU and, in its
//! module `cuda`, on a device. Both build on the spectrogram in [`mel`].

use std::borrow::Cow;

use crate::audio::Recording;
use crate::audio::resample::TARGET_RATE;

#[cfg(feature = "cuda")]
pub mod cuda;
pub mod legacy2020;
pub mod mel;
mod pairwise;
pub mod utterance;

pub use mel::{LogMel, Mel, MelFilterbank};

/// Samples per second of every signal that enters this module.
pub const SAMPLE_RATE: usize = 16_000;
/// Samples under one analysis window (25 ms), and the length of its Fourier transform.
pub const FRAME_SAMPLES: usize = 400;
/// Samples from one analysis frame to the next (10 ms).
pub const HOP: usize = 160;
/// Samples mirrored in front of and behind the signal, so that frame `t` is centred on sample
/// `t * HOP`.
pub const PAD: usize = FRAME_SAMPLES / 2;
/// Frequency bins of one frame, 0 to 8,000 Hz in steps of 40 Hz.
pub const BINS: usize = FRAME_SAMPLES / 2 + 1;
/// Mel bands.
pub const N_MELS: usize = 40;
/// Factor on the power before the logarithm: `ln(1 + LOG_SCALE * power)`.
pub const LOG_SCALE: f64 = 1e6;

/// Samples of one analysis frame at 16 kHz (25 ms); nothing shorter can be analysed.
pub const ANALYSIS_FRAME: usize = 400;

/// Largest magnitude of digital silence: one 16-bit step. Programs that write silence with dither
/// write steps of -1, 0 and 1, and a recording that is no louder than its rounding error holds
/// nothing to analyse.
const SILENCE: f32 = 1.0 / 32768.0;

/// Whether no sample is larger than the dither of a silent 16-bit file.
pub fn is_silent(recording: &Recording) -> bool {
    recording.samples.iter().all(|x| x.abs() <= SILENCE)
}

/// Why a recording that could be decoded cannot be analysed.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum AudioError {
    /// No sample is larger than the dither of a silent 16-bit file.
    #[error(
        "digital silence: no sample is larger than the smallest 16-bit step (in a stereo file, \
         the channels may cancel each other: choose one of them). Check the microphone or the export and record again"
    )]
    Silence,
    /// Less than one analysis frame.
    #[error(
        "too short: {seconds:.4} s of audio, at least {:.3} s are needed",
        ANALYSIS_FRAME as f64 / f64::from(TARGET_RATE)
    )]
    TooShort {
        /// Duration of the recording.
        seconds: f64,
    },
    /// The part that is loud and voiced is less than one analysis frame.
    #[error(
        "only {seconds:.4} s of this recording are voice, at least {:.3} s are needed. Use a \
         recording with more speech in it",
        ANALYSIS_FRAME as f64 / f64::from(TARGET_RATE)
    )]
    VoiceTooShort {
        /// Duration of the part that would be kept.
        seconds: f64,
    },
    /// Nothing is left to normalise by.
    #[error(
        "no sample rises above zero after filtering, so the recording has no level to normalise \
         by; it is practically silent. Record again with a higher level"
    )]
    NoPeak,
}

/// Why a signal has no features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// Shorter than one analysis frame.
    #[error(
        "the signal has {samples} samples and one analysis frame needs {FRAME_SAMPLES} (25 ms at \
         16 kHz): give a longer recording"
    )]
    TooShort {
        /// Samples that were given.
        samples: usize,
    },
    /// A sample is NaN or infinite.
    #[error("sample {index} of the signal is {value}: samples must be finite numbers")]
    NotFinite {
        /// Position of the first such sample.
        index: usize,
        /// The sample.
        value: f64,
    },
    /// The power does not fit into single precision, in which the reference stores it.
    #[error(
        "the signal is too large in analysis frame {frame} (its power exceeds 3.4e38): scale the \
         samples to the range -1 to 1"
    )]
    TooLoud {
        /// First frame in which that happens.
        frame: usize,
    },
    /// Every value of the spectrogram is the same, so its deviation is 0.
    #[error(
        "the mel spectrogram is {value} everywhere and cannot be normalised: the recording is \
         digital silence or too quiet, give one with sound in it"
    )]
    Constant {
        /// That value.
        value: f64,
    },
    /// An array that was given as a mel spectrogram has another size.
    #[error(
        "a mel spectrogram of {frames} frames has {N_MELS} x {frames} values, at least one frame \
         and at most {max} frames; {values} values were given", max = Mel::MAX_FRAMES
    )]
    Shape {
        /// Frames that were claimed.
        frames: usize,
        /// Values that were given.
        values: usize,
    },
    /// A value that was given in a mel spectrogram is no power.
    #[error(
        "mel band {band}, frame {frame} holds {value}: powers are between 0 and {max:e}",
        max = f32::MAX
    )]
    NotPower {
        /// Mel band of the first such value.
        band: usize,
        /// Its frame.
        frame: usize,
        /// The value.
        value: f64,
    },
}

/// The recording's samples, its own if it is.
pub(crate) fn samples(recording: Cow<'_, Recording>) -> Cow<'_, [f32]> {
    match recording {
        Cow::Borrowed(recording) => Cow::Borrowed(&recording.samples),
        Cow::Owned(recording) => Cow::Owned(recording.samples),
    }
}
