//! Front end of the default networks: level-normalised frames and recording-wide descriptors.
//!
//! The numpy program `tools/train/features.py`, with which the default networks were trained,
//! defines it. This module does the same arithmetic in double precision and rounds to single
//! precision at the end. Steps:
//!
//! 1. The mean is removed. Pre-emphasis, Hann window of 25 ms every 10 ms (zeros outside the
//!    signal), power spectrum, 40 Slaney mel bands with area normalisation.
//! 2. A frame is active if its energy lies within 30 dB of the recording's 95th percentile. Frames
//!    from 5 before the first to 5 after the last active one are kept.
//! 3. Levels are `ln(power / mean power of the active frames + 1e-5)`. They are invariant to gain,
//!    unless a nearly silent part crosses the threshold of 1e-20 below which an energy counts as
//!    zero.
//! 4. The fundamental frequency of each frame follows from the autocorrelation and the best path
//!    through its peaks.
//! 5. The results are the values of each frame ([`Utterance::frames`]) and of the recording
//!    ([`Utterance::stats`]).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::mel::{self, Filter};
use super::{BINS, FRAME_SAMPLES, FeatureError, N_MELS, pairwise};

mod centred;
#[cfg(feature = "cuda")]
pub mod cuda;
mod describe;
mod pitch;
mod prosody;
mod segments;
mod stats;
mod windows;

pub use super::windows::WINDOW_FRAMES;
#[cfg(feature = "cuda")]
pub(crate) use centred::check;
use centred::{Centred, Sample};
pub use pitch::{PitchCandidate, PitchFrame};
pub use segments::LONGEST_SEGMENT;
pub use stats::{MEL_GROUPS, STAT_GROUPS, STATS};
pub use windows::{UtteranceWindows, WINDOW_HOP};

/// Number of values per frame: [`N_MELS`] levels `(level + 5) / 4`, `log2(F0 / 200 Hz)`, twice that
/// minus its median over the voiced frames, 1 if voiced, and the height of the autocorrelation peak
/// (0 to 1). Both pitch values are 0 in an unvoiced frame.
pub const FRAME_VALUES: usize = N_MELS + 4;

const PRE_EMPHASIS: f64 = 0.97;
/// Percentile of the frame energies that activity and level are relative to.
const LOUD_PERCENTILE: f64 = 95.0;
/// Activity threshold below that percentile, in dB.
const ACTIVE_DB: f64 = 30.0;
/// Number of frames kept before the first and after the last active one.
const MARGIN: usize = 5;
/// Offset under the logarithm, relative to the mean power of the active frames.
const FLOOR: f64 = 1e-5;
/// Offset of a frame's power before conversion to dB, and the highest mean power of silence. The
/// quietest sound in 16-bit samples has 1e9 times this power.
const SILENCE: f64 = 1e-20;
/// Minimum energy of a frame relative to the loud frames, in dB.
const MIN_DB: f64 = -60.0;
/// Reference of the relative pitch, in Hz.
const PITCH_REFERENCE: f64 = 200.0;

/// Feature extractor. It holds only tables, so one extractor serves many recordings and threads.
#[derive(Clone)]
pub struct UtteranceExtractor {
    fft: Arc<dyn RealToComplex<f64>>,
    hann: Vec<f64>,
    filters: Vec<Filter>,
    pitch: pitch::Tracker,
    stats: stats::DescriptorExtractor,
}

impl std::fmt::Debug for UtteranceExtractor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UtteranceExtractor").finish_non_exhaustive()
    }
}

impl Default for UtteranceExtractor {
    fn default() -> Self {
        Self::new()
    }
}

/// An analysed recording. A frame is 10 ms; frame `t` of the whole recording is centred on sample
/// `t * HOP`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Utterance {
    /// Number of frames of the whole recording: `1 + samples / HOP`.
    pub total_frames: usize,
    /// Range of the kept frames, outside which the recording is much quieter; never empty.
    pub kept: Range<usize>,
    /// Activity of each kept frame: whether its energy exceeds the threshold.
    pub active: Vec<bool>,
    /// Fundamental frequency of each kept frame in Hz, 65 to 600; 0 if unvoiced.
    pub f0: Vec<f64>,
    /// Frame values `[kept][FRAME_VALUES]`, see [`FRAME_VALUES`]; finite.
    pub frames: Vec<f32>,
    /// The [`STATS`] descriptors of the kept frames, in the order of [`STAT_GROUPS`]; finite.
    pub stats: Vec<f32>,
}

/// Speech segments of a recording, each analysed as an utterance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Segments {
    /// Segments in order and disjoint, at least one. [`Utterance::kept`] is the range in the
    /// recording.
    pub segments: Vec<Utterance>,
    /// Set if the recording is voiced; otherwise the segments are its loud parts.
    pub is_voiced: bool,
}

/// Per-frame values of a recording, before any recording-wide decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames<'a> {
    power: Cow<'a, [f64]>,
    pitch: Vec<PitchFrame>,
}

impl<'a> Frames<'a> {
    /// Creates frames from mel power and pitch of equal frame counts.
    #[cfg(feature = "cuda")]
    pub(crate) fn new(power: Cow<'a, [f64]>, pitch: Vec<PitchFrame>) -> Self {
        debug_assert_eq!(power.len(), N_MELS * pitch.len());
        Self { power, pitch }
    }

    /// Returns the same frames without borrowed data.
    #[must_use]
    pub fn into_owned(self) -> Frames<'static> {
        Frames {
            power: Cow::Owned(self.power.into_owned()),
            pitch: self.pitch,
        }
    }

    /// Returns the mel power, `[frames][N_MELS]`.
    #[must_use]
    pub fn power(&self) -> &[f64] {
        &self.power
    }

    /// Returns the pitch candidates of each frame.
    #[must_use]
    pub fn pitch(&self) -> &[PitchFrame] {
        &self.pitch
    }
}

/// Tracks of the kept frames.
struct Contours {
    /// Levels, [`N_MELS`] tracks.
    bands: Vec<Vec<f64>>,
    active: Vec<bool>,
    /// Fundamental frequency in Hz, 0 if unvoiced.
    f0: Vec<f64>,
    /// Height of the autocorrelation peak, 0 to 1.
    height: Vec<f64>,
    /// Energy in dB relative to the loud frames.
    energy: Vec<f64>,
}

impl UtteranceExtractor {
    /// Prepares transforms, windows and filters.
    #[must_use]
    pub fn new() -> Self {
        let mut planner = RealFftPlanner::new();
        Self {
            fft: planner.plan_fft_forward(FRAME_SAMPLES),
            hann: mel::periodic_hann(FRAME_SAMPLES),
            filters: mel::filters(),
            pitch: pitch::Tracker::new(&mut planner),
            stats: stats::DescriptorExtractor::new(&mut planner),
        }
    }

    /// Analyses a mono signal at 16 kHz of any level. Time and memory grow linearly with its
    /// length.
    ///
    /// # Errors
    /// [`FeatureError::TooShort`] for fewer than 400 samples, [`FeatureError::NotFinite`] for a NaN
    /// or infinite sample, [`FeatureError::Constant`] for silence, [`FeatureError::Shape`] for more
    /// than [`Mel::MAX_FRAMES`](super::Mel::MAX_FRAMES) frames.
    pub fn analyse(&self, signal: &[f64]) -> Result<Utterance, FeatureError> {
        self.utterance_from_frames(self.analyse_frames(signal)?)
    }

    /// Analyses each speech segment of a mono signal at 16 kHz as an utterance. An owned signal is
    /// freed after the frame analysis.
    ///
    /// # Errors
    /// The errors of [`Self::analyse`].
    pub fn analyse_segments(&self, signal: Cow<'_, [f32]>) -> Result<Segments, FeatureError> {
        let frames = self.analyse_frames(&signal)?;
        drop(signal);
        self.segments_from_frames(frames)
    }

    /// Computes the first half of [`Self::analyse`]: the values that depend on one frame only.
    ///
    /// # Errors
    /// The errors of [`Self::analyse`], except for a recording too quiet to contain sound.
    pub fn frames(&self, signal: &[f64]) -> Result<Frames<'static>, FeatureError> {
        self.analyse_frames(signal)
    }

    fn analyse_frames<T: Sample>(&self, signal: &[T]) -> Result<Frames<'static>, FeatureError> {
        let x = Centred::new(signal)?;
        Ok(Frames {
            power: Cow::Owned(self.mel_power(&x)),
            pitch: self.pitch.frames(&x),
        })
    }

    /// Computes the second half of [`Self::analyse`]: recording-wide decisions and descriptors.
    ///
    /// # Errors
    /// [`FeatureError::Constant`] for silence.
    pub fn utterance_from_frames(&self, frames: Frames<'_>) -> Result<Utterance, FeatureError> {
        let Frames { power, pitch } = frames;
        let path = pitch::track_pitch(&pitch);
        self.describe_range(&power, &path, 0..path.f0.len())
    }

    /// Computes the second half of [`Self::analyse_segments`].
    ///
    /// # Errors
    /// [`FeatureError::Constant`] for silence.
    pub fn segments_from_frames(&self, frames: Frames<'_>) -> Result<Segments, FeatureError> {
        let Frames { power, pitch } = frames;
        let path = pitch::track_pitch(&pitch);
        drop(pitch);
        let found = segments::segments(&path.f0);
        let is_voiced = !found.is_empty();
        let ranges = match is_voiced {
            true => found,
            false => self.loud_parts(&power)?,
        };
        let described: Result<_, _> = ranges
            .into_iter()
            .map(|range| self.describe_range(&power, &path, range))
            .collect();
        Ok(Segments {
            segments: described?,
            is_voiced,
        })
    }

    /// Analyses the frames `range` of a recording as an utterance.
    fn describe_range(
        &self,
        power: &[f64],
        path: &pitch::Pitch,
        range: Range<usize>,
    ) -> Result<Utterance, FeatureError> {
        let total_frames = path.f0.len();
        let (first, power) = (
            range.start,
            &power[range.start * N_MELS..range.end * N_MELS],
        );
        let (f0, height) = (&path.f0[range.clone()], &path.height[range]);
        let energy = energies(power);
        let loud = describe::percentiles(&energy, [LOUD_PERCENTILE])[0];
        let active: Vec<bool> = energy.iter().map(|e| *e > loud - ACTIVE_DB).collect();
        let active_power: Vec<f64> = power
            .chunks_exact(N_MELS)
            .zip(&active)
            .filter(|(_, active)| **active)
            .flat_map(|(bands, _)| bands.iter().copied())
            .collect();
        let level = describe::mean(&active_power);
        if level <= SILENCE {
            return Err(FeatureError::Constant { value: level });
        }
        let kept = kept(&active);
        drop(active_power);
        let contours = Contours {
            bands: tracks(&power[kept.start * N_MELS..kept.end * N_MELS], |p| {
                (p / level + FLOOR).ln()
            }),
            active: active[kept.clone()].to_vec(),
            f0: f0[kept.clone()].to_vec(),
            height: height[kept.clone()].to_vec(),
            energy: energy[kept.clone()]
                .iter()
                .map(|e| (e - loud).max(MIN_DB))
                .collect(),
        };
        let stats = self.stats.compute(&contours);
        Ok(Utterance {
            total_frames,
            kept: first + kept.start..first + kept.end,
            frames: frame_values(&contours),
            stats: stats.into_iter().map(|v| v as f32).collect(),
            active: contours.active,
            f0: contours.f0,
        })
    }

    /// Returns the loud parts of an unvoiced recording, of at most [`LONGEST_SEGMENT`] frames each.
    fn loud_parts(&self, power: &[f64]) -> Result<Vec<Range<usize>>, FeatureError> {
        let energy = energies(power);
        let loud = describe::percentiles(&energy, [LOUD_PERCENTILE])[0];
        if loud <= 10.0 * SILENCE.log10() {
            return Err(FeatureError::Constant { value: 0.0 });
        }
        let active: Vec<bool> = energy.iter().map(|e| *e > loud - ACTIVE_DB).collect();
        let kept = kept(&active);
        let parts = kept.clone().step_by(LONGEST_SEGMENT);
        Ok(parts
            .map(|start| start..(start + LONGEST_SEGMENT).min(kept.end))
            .collect())
    }

    /// Returns the tables of the pitch analysis: the window and its autocorrelation.
    #[cfg(feature = "cuda")]
    pub(crate) fn pitch_tables(&self) -> [&[f64]; 2] {
        self.pitch.tables()
    }

    /// Computes the mel power of each frame, `[frames][N_MELS]`.
    fn mel_power<T: Sample>(&self, x: &Centred<'_, T>) -> Vec<f64> {
        let frames = x.frames();
        let mut out = Vec::with_capacity(frames * N_MELS);
        let mut samples = [0.0; FRAME_SAMPLES];
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = [0.0; BINS];
        for frame in 0..frames {
            let (inside, before) = x.copy_frame(frame, &mut samples);
            windowed.fill(0.0);
            let (first, hann) = (inside.start, &self.hann[inside.start..]);
            // Pre-emphasis is undefined for the first sample of the recording.
            windowed[first] = before.map_or(0.0, |before| {
                (samples[first] - PRE_EMPHASIS * before) * hann[0]
            });
            let outs = windowed[first + 1..inside.end].iter_mut();
            for ((y, w), pair) in outs.zip(&hann[1..]).zip(samples[first..].windows(2)) {
                *y = (pair[1] - PRE_EMPHASIS * pair[0]) * w;
            }
            self.fft
                .process_with_scratch(&mut windowed, &mut spectrum, &mut scratch)
                .expect("the buffers were made by this transform");
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                *power = bin.norm_sqr();
            }
            out.extend(self.filters.iter().map(|filter| filter.apply(&power)));
        }
        out
    }
}

impl Utterance {
    /// Cuts the frames into windows for the window network.
    #[must_use]
    pub fn windows(&self) -> UtteranceWindows {
        UtteranceWindows::of(&self.frames)
    }
}

/// Returns the energy of each frame of `[frames][N_MELS]`, in dB.
fn energies(power: &[f64]) -> Vec<f64> {
    let frames = power.chunks_exact(N_MELS);
    frames
        .map(|bands| 10.0 * (pairwise::sum(bands, |p| p) + SILENCE).log10())
        .collect()
}

/// Applies `value` to `[frames][N_MELS]`, and returns one track per band.
fn tracks(frames: &[f64], value: impl Fn(f64) -> f64) -> Vec<Vec<f64>> {
    /// Number of frames that stay in the cache while all bands are read.
    const BLOCK: usize = 64;
    let count = frames.len() / N_MELS;
    let mut tracks: Vec<Vec<f64>> = (0..N_MELS).map(|_| Vec::with_capacity(count)).collect();
    for part in frames.chunks(BLOCK * N_MELS) {
        for (band, track) in tracks.iter_mut().enumerate() {
            track.extend(part.iter().skip(band).step_by(N_MELS).map(|x| value(*x)));
        }
    }
    tracks
}

/// Returns the range from [`MARGIN`] frames before the first active one to [`MARGIN`] after the
/// last.
fn kept(active: &[bool]) -> Range<usize> {
    let first = active.iter().position(|a| *a).unwrap_or(0);
    let last = active.iter().rposition(|a| *a).unwrap_or(0);
    first.saturating_sub(MARGIN)..(last + 1 + MARGIN).min(active.len())
}

/// Returns the frame values, `[kept][FRAME_VALUES]`.
fn frame_values(contours: &Contours) -> Vec<f32> {
    let octaves = |f0: f64| (f0 / PITCH_REFERENCE).log2();
    let voiced: Vec<f64> = contours.f0.iter().copied().filter(|f| *f > 0.0).collect();
    let voiced: Vec<f64> = voiced.into_iter().map(octaves).collect();
    let middle = describe::median(&voiced);
    let mut out = Vec::with_capacity(contours.f0.len() * FRAME_VALUES);
    for (t, (&f0, &height)) in contours.f0.iter().zip(&contours.height).enumerate() {
        let levels = contours.bands.iter().map(|band| (band[t] + 5.0) / 4.0);
        out.extend(levels.map(|v| v as f32));
        let [absolute, relative, voiced] = if f0 > 0.0 {
            [octaves(f0), 2.0 * (octaves(f0) - middle), 1.0]
        } else {
            [0.0; 3]
        };
        out.extend([absolute, relative, voiced, height].map(|v| v as f32));
    }
    out
}
