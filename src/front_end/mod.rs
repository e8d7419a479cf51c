//! Conversion of a decoded recording into network inputs.
//!
//! A model names the front end that it was trained with: [`legacy2020`], that of the system of
//! 2020, or [`utterance`], that of the default models. Each runs on the CPU and, in its module
//! `cuda`, on a device. Both build on the mel filter bank in [`mel`].

use std::borrow::Cow;

use crate::audio::Recording;
use crate::audio::decode::{MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};
use crate::audio::resample::TARGET_RATE;

#[cfg(feature = "cuda")]
pub mod cuda;
mod fourier;
pub mod legacy2020;
pub mod mel;
mod pairwise;
pub mod utterance;
pub mod windows;

pub use mel::{LogMel, Mel, MelFilterbank};

/// Sample rate of every signal in this module, in Hz.
pub const SAMPLE_RATE: usize = 16_000;
/// Samples per analysis window (25 ms), and the length of its Fourier transform.
pub const FRAME_SAMPLES: usize = 400;
/// Samples between consecutive analysis frames (10 ms).
pub const HOP: usize = 160;
/// Samples mirrored at each end of the signal, so that frame `t` is centred on sample `t * HOP`.
pub const PAD: usize = FRAME_SAMPLES / 2;
/// Frequency bins per frame: 0 to 8,000 Hz in steps of 40 Hz.
pub const BINS: usize = FRAME_SAMPLES / 2 + 1;
/// Number of mel bands.
pub const N_MELS: usize = 40;
/// Factor on the power before the logarithm: `ln(1 + LOG_SCALE * power)`.
pub const LOG_SCALE: f64 = 1e6;

/// Minimum number of samples at 16 kHz: one analysis frame (25 ms).
pub const ANALYSIS_FRAME: usize = 400;

/// Largest magnitude of digital silence: one 16-bit step. Dithered silence consists of the steps
/// -1, 0 and 1, and a recording no louder than its rounding error has no content.
const SILENCE: f32 = 1.0 / 32768.0;

/// Returns whether no sample exceeds the dither of a silent 16-bit file.
pub fn is_silent(recording: &Recording) -> bool {
    recording.samples.iter().all(|x| x.abs() <= SILENCE)
}

/// Reason that a decoded recording cannot be analysed.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum AudioError {
    /// The sample rate is outside the supported range.
    #[error(
        "a sample rate of {0} Hz is not supported; at least {MIN_SAMPLE_RATE} Hz and at most {MAX_SAMPLE_RATE} Hz are"
    )]
    SampleRate(u32),
    /// No sample exceeds the dither of a silent 16-bit file.
    #[error(
        "digital silence: no sample is larger than the smallest 16-bit step (in a stereo file, \
         the channels may cancel each other: choose one of them). Check the microphone or the export and record again"
    )]
    Silence,
    /// The recording is shorter than one analysis frame.
    #[error(
        "too short: {seconds:.4} s of audio, at least {:.3} s are needed",
        ANALYSIS_FRAME as f64 / f64::from(TARGET_RATE)
    )]
    TooShort {
        /// Duration of the recording, in seconds.
        seconds: f64,
    },
    /// The loud, voiced part is shorter than one analysis frame.
    #[error(
        "only {seconds:.4} s of this recording are voice, at least {:.3} s are needed. Use a \
         recording with more speech in it",
        ANALYSIS_FRAME as f64 / f64::from(TARGET_RATE)
    )]
    VoiceTooShort {
        /// Duration of the part that would be kept, in seconds.
        seconds: f64,
    },
    /// No sample is positive after filtering, so the signal has no peak to normalise by.
    #[error(
        "no sample rises above zero after filtering, so the recording has no level to normalise \
         by; it is practically silent. Record again with a higher level"
    )]
    NoPeak,
}

/// Checks that a recording has a supported sample rate and is not silent.
pub(crate) fn check(recording: &Recording) -> Result<(), AudioError> {
    check_rate(recording)?;
    match is_silent(recording) {
        true => Err(AudioError::Silence),
        false => Ok(()),
    }
}

/// Checks the sample rate, which a caller may have changed after decoding.
pub(crate) fn check_rate(recording: &Recording) -> Result<(), AudioError> {
    let rate = recording.sample_rate;
    match (MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&rate) {
        true => Ok(()),
        false => Err(AudioError::SampleRate(rate)),
    }
}

/// Reason that a signal has no features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The signal is shorter than one analysis frame.
    #[error(
        "the signal has {samples} samples and one analysis frame needs {FRAME_SAMPLES} (25 ms at \
         16 kHz): give a longer recording"
    )]
    TooShort {
        /// Number of samples in the signal.
        samples: usize,
    },
    /// A sample is NaN or infinite.
    #[error("sample {index} of the signal is {value}: samples must be finite numbers")]
    NotFinite {
        /// Index of the first such sample.
        index: usize,
        /// The sample.
        value: f64,
    },
    /// The power exceeds single precision, in which librosa stores it.
    #[error(
        "the signal is too large in analysis frame {frame} (its power exceeds 3.4e38): scale the \
         samples to the range -1 to 1"
    )]
    TooLoud {
        /// First affected frame.
        frame: usize,
    },
    /// Every value of the spectrogram is equal, so the deviation is 0.
    #[error(
        "the mel spectrogram is {value} everywhere and cannot be normalised: the recording is \
         digital silence or too quiet, give one with sound in it"
    )]
    Constant {
        /// The common value.
        value: f64,
    },
    /// The array for a mel spectrogram has the wrong size.
    #[error(
        "a mel spectrogram of {frames} frames has {N_MELS} x {frames} values, at least one frame \
         and at most {max} frames; {values} values were given", max = Mel::MAX_FRAMES
    )]
    Shape {
        /// Stated number of frames.
        frames: usize,
        /// Number of values in the array.
        values: usize,
    },
    /// A value for a mel spectrogram is not a valid power.
    #[error(
        "mel band {band}, frame {frame} holds {value}: powers are between 0 and {max:e}",
        max = f32::MAX
    )]
    NotPower {
        /// Mel band of the first such value.
        band: usize,
        /// Frame of that value.
        frame: usize,
        /// The value.
        value: f64,
    },
}

/// Returns the samples of a recording, without a copy if it is owned.
pub(crate) fn samples(recording: Cow<'_, Recording>) -> Cow<'_, [f32]> {
    match recording {
        Cow::Borrowed(recording) => Cow::Borrowed(&recording.samples),
        Cow::Owned(recording) => Cow::Owned(recording.samples),
    }
}
