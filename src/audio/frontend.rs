//! The whole way from a decoded recording to the voiced signal that features are made of.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use super::resample::{INTERMEDIATE_RATE, TARGET_RATE, resampled_len, to_target_rate};
use super::trim::{FRAME, detector_input, frames, spread, trim};
use super::{Recording, clean};

/// Samples of one analysis frame at 16 kHz (25 ms); nothing shorter can be analysed.
pub const ANALYSIS_FRAME: usize = 400;

/// Largest magnitude of digital silence: one 16-bit step. Programs that write silence with dither
/// write steps of -1, 0 and 1, and a recording that is no louder than its rounding error holds
/// nothing to analyse.
const SILENCE: f32 = 1.0 / 32768.0;

/// Decides frame by frame whether somebody speaks. It may keep a state between frames, so one
/// detector serves one recording.
pub trait VoiceDetector {
    /// Whether this frame (30 ms at 16 kHz) is speech.
    fn is_speech(&mut self, frame: &[i16; FRAME]) -> bool;
}

impl<F: FnMut(&[i16; FRAME]) -> bool> VoiceDetector for F {
    fn is_speech(&mut self, frame: &[i16; FRAME]) -> bool {
        self(frame)
    }
}

/// Why a recording that could be decoded cannot be analysed.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum AudioError {
    /// No sample is larger than the dither of a silent 16-bit file.
    #[error(
        "digital silence: no sample is larger than the smallest 16-bit step (in a stereo file, \
         the channels may cancel each other). Check the microphone or the export and record again"
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

/// A recording ready for the features, and what is needed to find the way back to its own time.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// The kept part at [`Prepared::sample_rate`], denoised and pre-emphasised, at its own level.
    /// At least [`ANALYSIS_FRAME`] samples, all finite.
    pub signal: Vec<f64>,
    /// 16,000 Hz.
    pub sample_rate: u32,
    /// Which part of the whole 16 kHz signal was kept.
    pub kept: Range<usize>,
    /// Whether speech was told from silence and the signal cut to it; if not, all of it is kept.
    pub trimmed: bool,
    /// Decisions of the voice detector, one per 480 samples (30 ms) of the whole 16 kHz signal.
    pub voiced_frames: Vec<bool>,
    /// Samples of the whole signal at 16 kHz.
    pub total_samples: usize,
    /// What the signal was divided by for the voice detector.
    pub peak: f64,
    /// Duration of the recording in seconds.
    pub original_seconds: f64,
}

impl Prepared {
    /// Time in the recording, in seconds, of a sample of [`Prepared::signal`].
    pub fn time_of(&self, sample: usize) -> f64 {
        (self.kept.start + sample) as f64 / f64::from(self.sample_rate)
    }

    /// How much of the recording the detector called speech, in seconds.
    pub fn voiced_seconds(&self) -> f64 {
        self.voiced_within(&(0..self.total_samples))
    }

    /// How much of the kept part the detector called speech, in seconds.
    pub fn voiced_seconds_kept(&self) -> f64 {
        self.voiced_within(&self.kept)
    }

    /// Stretches that the detector called speech, in seconds of the recording.
    pub fn voiced_spans(&self) -> Vec<Range<f64>> {
        let seconds =
            |sample: usize| sample.min(self.total_samples) as f64 / f64::from(self.sample_rate);
        let mut spans: Vec<Range<f64>> = Vec::new();
        let mut open = None;
        for (i, voiced) in self.voiced_frames.iter().chain([&false]).enumerate() {
            match (open, voiced) {
                (None, true) => open = Some(i),
                (Some(start), false) => {
                    let span = seconds(start * FRAME)..seconds(i * FRAME);
                    spans.extend((span.start < span.end).then_some(span));
                    open = None;
                }
                _ => {}
            }
        }
        spans
    }

    fn voiced_within(&self, range: &Range<usize>) -> f64 {
        let overlap = |i: usize| {
            let end = ((i + 1) * FRAME).min(range.end);
            end.saturating_sub((i * FRAME).max(range.start))
        };
        let voiced = self
            .voiced_frames
            .iter()
            .enumerate()
            .filter(|(_, voiced)| **voiced);
        voiced.map(|(i, _)| overlap(i)).sum::<usize>() as f64 / f64::from(self.sample_rate)
    }
}

impl fmt::Debug for Prepared {
    /// Everything but the signal and the decisions, of which only the numbers are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("samples", &self.signal.len())
            .field("sample_rate", &self.sample_rate)
            .field("kept", &self.kept)
            .field("trimmed", &self.trimmed)
            .field("frames", &self.voiced_frames.len())
            .field("voiced_seconds", &self.voiced_seconds())
            .field("total_samples", &self.total_samples)
            .field("peak", &self.peak)
            .field("original_seconds", &self.original_seconds)
            .finish_non_exhaustive()
    }
}

/// Resamples, cleans and trims a recording.
///
/// `detector` must be fresh: it hears every frame of this recording in order.
pub fn prepare(
    recording: &Recording,
    detector: &mut impl VoiceDetector,
) -> Result<Prepared, AudioError> {
    let original_seconds = recording.seconds();
    let intermediate = resampled_len(
        recording.samples.len(),
        recording.sample_rate,
        INTERMEDIATE_RATE,
    );
    if resampled_len(intermediate, INTERMEDIATE_RATE, TARGET_RATE) < ANALYSIS_FRAME {
        return Err(AudioError::TooShort {
            seconds: original_seconds,
        });
    }
    if recording.samples.iter().all(|x| x.abs() <= SILENCE) {
        return Err(AudioError::Silence);
    }
    let mut resampled = to_target_rate(&recording.samples, recording.sample_rate);
    clean::lift_zeros(&mut resampled);
    let mut signal = clean::wiener(&resampled);
    drop(resampled);
    clean::pre_emphasis(&mut signal);
    let peak = clean::largest_sample(&signal).ok_or(AudioError::NoPeak)?;
    signal.iter_mut().for_each(|x| *x /= peak);
    if !signal.iter().all(|x| x.is_finite()) {
        return Err(AudioError::NoPeak);
    }

    let heard = detector_input(&signal);
    let voiced_frames: Vec<bool> = frames(&heard)
        .map(|frame| detector.is_speech(&frame))
        .collect();
    let total_samples = signal.len();
    let found = trim(&spread(&voiced_frames, total_samples), &signal);
    let trimmed = found.is_some();
    let kept = found.unwrap_or(0..total_samples);
    if kept.len() < ANALYSIS_FRAME {
        return Err(AudioError::VoiceTooShort {
            seconds: kept.len() as f64 / f64::from(TARGET_RATE),
        });
    }
    signal.truncate(kept.end);
    signal.drain(..kept.start);
    signal.iter_mut().for_each(|x| *x *= peak);
    Ok(Prepared {
        signal,
        sample_rate: TARGET_RATE,
        kept,
        trimmed,
        voiced_frames,
        total_samples,
        peak,
        original_seconds,
    })
}
