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

use realfft::RealFftPlanner;

use super::{FeatureError, N_MELS, pairwise};
use crate::simd::Isa;

mod analysis;
mod centred;
mod columns;
#[cfg(feature = "cuda")]
pub mod cuda;
mod describe;
mod levels;
mod pitch;
mod power;
mod prosody;
mod segments;
mod stats;
mod windows;

pub use super::windows::WINDOW_FRAMES;
#[cfg(feature = "cuda")]
pub(crate) use centred::check;
use centred::{Centred, Sample};
use levels::Levels;
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
    isa: Isa,
    analysis: analysis::Analysis,
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
    levels: Levels,
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
        Self::on(Isa::chosen_or_best())
    }

    /// [`Self::new`] for an instruction set. The results are the same on every one.
    fn on(isa: Isa) -> Self {
        Self {
            isa,
            analysis: analysis::Analysis::new(isa),
            stats: stats::DescriptorExtractor::new(isa, &mut RealFftPlanner::new()),
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
        Ok(self.analysis.run(&Centred::new(signal)?))
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
            levels: Levels::new(
                self.isa,
                &power[kept.start * N_MELS..kept.end * N_MELS],
                level,
            ),
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
        self.analysis.pitch_tables()
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
    let mut out = vec![0.0; contours.f0.len() * FRAME_VALUES];
    contours.levels.write_scaled(&mut out);
    let frames = out.chunks_exact_mut(FRAME_VALUES);
    for (frame, (&f0, &height)) in frames.zip(contours.f0.iter().zip(&contours.height)) {
        let [absolute, relative, voiced] = if f0 > 0.0 {
            [octaves(f0), 2.0 * (octaves(f0) - middle), 1.0]
        } else {
            [0.0; 3]
        };
        let values = [absolute, relative, voiced, height].map(|v| v as f32);
        frame[N_MELS..].copy_from_slice(&values);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        // Tones of changing pitch and loudness with pauses, and a last block that is not full.
        let signal: Vec<f64> = (0..223 * 160 + 33)
            .map(|i| {
                let t = f64::from(i) / 16_000.0;
                let loudness = (0.1 + (3.0 * t).sin()).max(0.0);
                let phase = 800.0 * t + 30.0 * (5.0 * t).sin();
                0.01 + loudness
                    * (phase.sin() + 0.5 * (2.0 * phase).sin() + 0.2 * (3.1 * phase).cos())
            })
            .collect();
        let wanted = UtteranceExtractor::on(Isa::best());
        let frames = wanted.frames(&signal).unwrap();
        let utterance = wanted.analyse(&signal).unwrap();
        assert!(utterance.f0.iter().any(|f| *f > 0.0));
        assert!(utterance.active.contains(&false));
        for isa in Isa::available() {
            let extractor = UtteranceExtractor::on(isa);
            assert_eq!(extractor.frames(&signal).unwrap(), frames, "{}", isa.name());
            assert_eq!(
                extractor.analyse(&signal).unwrap(),
                utterance,
                "{}",
                isa.name()
            );
        }
    }
}
