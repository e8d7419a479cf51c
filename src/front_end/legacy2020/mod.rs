//! The front end of the system of 2020.
//!
//! [`prepare()`] turns a recording into a clean, voiced signal at 16 kHz: resampling, [`clean`] (noise filter and
//! pre-emphasis), voice activity, [`trim`]. [`FeatureExtractor`] turns that signal into the networks' inputs:
//! [`windows`] normalises the mel spectrogram and cuts it into pieces; [`transforms`], [`histogram`] and [`moments`]
//! summarise its logarithm per band.
//!
//! The numbers are those of librosa 0.6.2, scipy 1.2 and numpy 1.16, including the places where
//! these rounded to single precision.

use std::sync::LazyLock;

use super::{FeatureError, Mel, MelFilterbank, N_MELS};

pub mod clean;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod histogram;
pub mod moments;
pub mod prepare;
pub mod transforms;
pub mod trim;
pub mod windows;

pub use prepare::{Prepared, VoiceDetector, prepare, prepare_with};
pub use windows::{NormalizedMel, Windows};

/// Frames of the recording that the window networks see at most (15 s).
pub const MAX_FRAMES: usize = 1_500;
/// Frames in one window (2 s).
pub const WINDOW_FRAMES: usize = 200;
/// Frames from one window to the next (1 s).
pub const WINDOW_STEP: usize = 100;
/// Coefficients kept per band, of the cosine and of the sine transform each.
pub const COEFFICIENTS: usize = 40;
/// Histogram bins per band.
pub const HISTOGRAM_BINS: usize = 40;
/// Width of one histogram bin, in units of the logarithmic mel power.
pub const HISTOGRAM_BIN_WIDTH: f64 = 0.25;
/// Statistics per band: mean, deviation and the scaled central moments 3 to 8.
pub const MOMENTS: usize = 8;

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
