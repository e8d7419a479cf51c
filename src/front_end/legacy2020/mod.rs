//! Front end of the system of 2020.
//!
//! [`prepare()`] converts a recording into a clean, voiced signal at 16 kHz: resampling, [`clean`]
//! (noise filter and pre-emphasis), voice activity detection, [`trim`]. [`FeatureExtractor`]
//! converts that signal into the network inputs. [`windows`] normalises the mel spectrogram and
//! cuts it into windows; [`summaries`] describes each band of the log-mel spectrogram.
//!
//! All results match librosa 0.6.2, scipy 1.2 and numpy 1.16, including their roundings to single
//! precision.

use std::sync::LazyLock;

use super::{FeatureError, Mel, MelFilterbank, N_MELS};

pub mod clean;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod prepare;
pub mod summaries;
pub mod trim;
pub mod windows;

pub use super::windows::WINDOW_FRAMES;
pub use prepare::{Prepared, VoiceDetector, prepare, prepare_with};
pub use windows::{NormalizedMel, Windows};

/// Maximum number of frames that the window networks use (15 s).
pub const MAX_FRAMES: usize = 1_500;
/// Frames between the starts of consecutive windows (1 s).
pub const WINDOW_STEP: usize = 100;
/// Coefficients per band of the cosine transform, and of the sine transform.
pub const COEFFICIENTS: usize = 40;
/// Histogram bins per band.
pub const HISTOGRAM_BINS: usize = 40;
/// Width of a histogram bin, in units of the logarithmic mel power.
pub const HISTOGRAM_BIN_WIDTH: f64 = 0.25;
/// Statistics per band: mean, deviation and the scaled central moments 3 to 8.
pub const MOMENTS: usize = 8;

/// Network inputs for one recording.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Features {
    /// Frames (10 ms) of the whole signal: `1 + samples / HOP`.
    pub frames: usize,
    /// Windows of the normalised spectrogram, for the window networks.
    pub windows: Windows,
    /// Cosine transform, `[N_MELS][COEFFICIENTS]`; see [`summaries::dct`].
    pub dct: Vec<f64>,
    /// Sine transform, `[N_MELS][COEFFICIENTS]`; see [`summaries::dst`].
    pub dst: Vec<f64>,
    /// Density of the logarithmic power, `[N_MELS][HISTOGRAM_BINS]`; see [`summaries::histogram`].
    pub histogram: Vec<f64>,
    /// Bands without a value in the histogram's range. Their densities are 0 here; the system of
    /// 2020 yields NaN (0/0).
    pub empty_histogram_bands: Vec<usize>,
    /// Statistics of the logarithmic power, `[N_MELS][MOMENTS]`; see [`summaries::moments`].
    pub moments: Vec<f64>,
}

impl Features {
    /// Returns the four inputs of the feature network in its order, rounded to single precision.
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

/// Feature extractor. It holds only tables, so one extractor serves many recordings and threads.
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

    /// Computes the power mel spectrogram of `signal` (16 kHz); see [`MelFilterbank::mel`].
    pub fn mel(&self, signal: &[f64]) -> Result<Mel, FeatureError> {
        self.filterbank.mel(signal)
    }

    /// Computes all features of `signal`: 16 kHz, at its recorded level (full scale 1).
    ///
    /// Time and memory grow linearly with the length of the signal.
    ///
    /// # Errors
    /// The errors of [`Self::mel`], and [`FeatureError::Constant`] for pure silence.
    pub fn extract(&self, signal: &[f64]) -> Result<Features, FeatureError> {
        from_owned_mel(self.mel(signal)?)
    }
}

/// Computes all features from a mel spectrogram.
///
/// # Errors
/// [`FeatureError::Constant`] if the spectrogram cannot be normalised.
pub fn from_mel(mel: &Mel) -> Result<Features, FeatureError> {
    from_owned_mel(mel.clone())
}

/// Does the same as [`from_mel`], reusing the memory of `mel`.
pub(crate) fn from_owned_mel(mel: Mel) -> Result<Features, FeatureError> {
    let windows = windows::normalize(&mel)?.windows();
    let frames = mel.frames();
    let log = mel.into_log();
    let (dct, dst) = summaries::dct_dst(&log);
    let histogram = summaries::histogram(&log);
    Ok(Features {
        frames,
        windows,
        dct,
        dst,
        histogram: histogram.density,
        empty_histogram_bands: histogram.empty_bands,
        moments: summaries::moments(&log),
    })
}

/// Computes all features like [`FeatureExtractor::extract`], with one extractor per process.
///
/// # Errors
/// The errors of [`FeatureExtractor::extract`].
pub fn extract(signal: &[f64]) -> Result<Features, FeatureError> {
    static SHARED: LazyLock<FeatureExtractor> = LazyLock::new(FeatureExtractor::new);
    SHARED.extract(signal)
}
