//! From a 16 kHz voiced signal to the inputs of the networks.
//!
//! Order of the stages: [`mel`] turns the signal into a power mel spectrogram; [`windows`]
//! normalises it and cuts it into the pieces that the window networks read; [`transforms`],
//! [`histogram`] and [`moments`] summarise its logarithm, per band, for the feature network.
//!
//! The numbers are those of librosa 0.6.2, scipy 1.2 and numpy 1.16, including the places where
//! these rounded to single precision.

use std::sync::LazyLock;

pub mod histogram;
pub mod mel;
pub mod moments;
mod pairwise;
pub mod transforms;
pub mod utterance;
pub mod windows;

pub use mel::{LogMel, Mel, MelFilterbank};
pub use windows::{NormalizedMel, Windows};

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
/// Frames of the recording that the window networks see at most (15 s).
pub const MAX_FRAMES: usize = 1_500;
/// Frames in one window (2 s).
pub const WINDOW_FRAMES: usize = 200;
/// Frames from one window to the next (1 s).
pub const WINDOW_STEP: usize = 100;
/// Factor on the power before the logarithm: `ln(1 + LOG_SCALE * power)`.
pub const LOG_SCALE: f64 = 1e6;
/// Coefficients kept per band, of the cosine and of the sine transform each.
pub const COEFFICIENTS: usize = 40;
/// Histogram bins per band.
pub const HISTOGRAM_BINS: usize = 40;
/// Width of one histogram bin, in units of the logarithmic mel power.
pub const HISTOGRAM_BIN_WIDTH: f64 = 0.25;
/// Statistics per band: mean, deviation and the scaled central moments 3 to 8.
pub const MOMENTS: usize = 8;

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

/// Everything the networks read from one recording.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Features {
    /// Frames (10 ms) of the whole signal: `1 + samples / HOP`.
    pub frames: usize,
    /// Pieces of the normalised spectrogram, for the window networks.
    pub windows: Windows,
    /// Cosine transform, `[N_MELS][COEFFICIENTS]`; see [`transforms::dct`].
    pub dct: Vec<f64>,
    /// Sine transform, `[N_MELS][COEFFICIENTS]`; see [`transforms::dst`].
    pub dst: Vec<f64>,
    /// Density of the logarithmic power, `[N_MELS][HISTOGRAM_BINS]`; see [`histogram`].
    pub histogram: Vec<f64>,
    /// Bands whose histogram is all zeros because none of their values lay in its range. The
    /// reference gives NaN (0/0) there.
    pub empty_histogram_bands: Vec<usize>,
    /// Statistics of the logarithmic power, `[N_MELS][MOMENTS]`; see [`moments`].
    pub moments: Vec<f64>,
}

impl Features {
    /// The four inputs of the feature network, in its order, rounded to single precision.
    #[must_use]
    pub fn branch_inputs(&self) -> [BranchInput; 4] {
        let input = |name, values: &[f64], columns| BranchInput {
            name,
            shape: [N_MELS, columns, 1],
            data: values.iter().map(|&v| v as f32).collect(),
        };
        [
            input("dct", &self.dct, COEFFICIENTS),
            input("dst", &self.dst, COEFFICIENTS),
            input("histogram", &self.histogram, HISTOGRAM_BINS),
            input("moments", &self.moments, MOMENTS),
        ]
    }
}

/// One input of the feature network.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchInput {
    /// `dct`, `dst`, `histogram` or `moments`.
    pub name: &'static str,
    /// Bands, columns, one channel.
    pub shape: [usize; 3],
    /// Values in row-major order.
    pub data: Vec<f32>,
}

/// Computes features; holds what does not depend on the recording, so one serves many recordings
/// and threads.
#[derive(Debug, Clone)]
pub struct FeatureExtractor {
    filterbank: MelFilterbank,
}

impl Default for FeatureExtractor {
    fn default() -> Self {
        Self::new()
    }
}

impl FeatureExtractor {
    /// Prepares the Fourier transform, the analysis window and the mel filters.
    #[must_use]
    pub fn new() -> Self {
        Self {
            filterbank: MelFilterbank::new(),
        }
    }

    /// Power mel spectrogram of `signal` (16 kHz); see [`MelFilterbank::mel`].
    ///
    /// # Errors
    /// [`FeatureError::TooShort`], [`FeatureError::NotFinite`], [`FeatureError::TooLoud`].
    pub fn mel(&self, signal: &[f64]) -> Result<Mel, FeatureError> {
        self.filterbank.mel(signal)
    }

    /// All features of `signal`: 16 kHz, at the level it was recorded with (full scale 1).
    ///
    /// Time and memory grow linearly with the length of the signal.
    ///
    /// # Errors
    /// As [`Self::mel`], and [`FeatureError::Constant`] where there is nothing but silence.
    pub fn extract(&self, signal: &[f64]) -> Result<Features, FeatureError> {
        of_mel(self.mel(signal)?)
    }
}

/// All features of the recording whose mel spectrogram this is.
///
/// # Errors
/// [`FeatureError::Constant`] where the spectrogram cannot be normalised.
pub fn from_mel(mel: &Mel) -> Result<Features, FeatureError> {
    of_mel(mel.clone())
}

/// [`from_mel`] in its memory.
pub(crate) fn of_mel(mel: Mel) -> Result<Features, FeatureError> {
    let windows = windows::normalize(&mel)?.windows();
    let frames = mel.frames();
    let log = mel.into_log();
    let (dct, dst) = transforms::dct_dst(&log);
    let histogram = histogram::histogram(&log);
    Ok(Features {
        frames,
        windows,
        dct,
        dst,
        histogram: histogram.density,
        empty_histogram_bands: histogram.empty_bands,
        moments: moments::moments(&log),
    })
}

/// [`FeatureExtractor::extract`] with an extractor that the whole process shares.
///
/// # Errors
/// As [`FeatureExtractor::extract`].
pub fn extract(signal: &[f64]) -> Result<Features, FeatureError> {
    static SHARED: LazyLock<FeatureExtractor> = LazyLock::new(FeatureExtractor::new);
    SHARED.extract(signal)
}
