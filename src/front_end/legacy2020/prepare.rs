//! Preparation of a decoded recording: resampling, clean-up, voice activity detection and trimming.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::clean;
#[cfg(feature = "cuda")]
use super::trim::detector_frames;
use super::trim::{FRAME, detector_conversion, trim_frames};
use crate::audio::Recording;
use crate::audio::resample::Resampling;
use crate::audio::resample::TARGET_RATE;
use crate::audio::vad::{Mode, SampleRate, Vad};
use crate::front_end::{ANALYSIS_FRAME, AudioError, check_rate, is_silent, samples};
use crate::parallelism::Parallelism;

/// Frame-wise voice activity detector. It may keep state between frames, so a recording needs a
/// detector of its own.
pub trait VoiceDetector {
    /// Returns whether this frame (30 ms at 16 kHz) is speech.
    fn is_speech(&mut self, frame: &[i16; FRAME]) -> bool;
}

impl<F: FnMut(&[i16; FRAME]) -> bool> VoiceDetector for F {
    fn is_speech(&mut self, frame: &[i16; FRAME]) -> bool {
        self(frame)
    }
}

/// Creates the detector of the system of 2020: WebRTC's, in the third of its four modes.
pub(crate) fn detector() -> impl VoiceDetector {
    let mut detector = Vad::new(SampleRate::Khz16, Mode::Aggressive);
    move |frame: &[i16; FRAME]| {
        detector
            .is_speech(frame)
            .expect("480 samples are 30 ms at 16 kHz")
    }
}

/// A recording prepared for feature extraction, with the data to map it back to the recording's
/// time.
#[derive(Clone, PartialEq)]
pub struct Prepared {
    /// Kept part at [`Prepared::sample_rate`], denoised and pre-emphasised, at its original level.
    /// The signal has at least [`ANALYSIS_FRAME`] samples, all finite.
    pub signal: Vec<f64>,
    /// Sample rate, 16,000 Hz.
    pub sample_rate: u32,
    /// Samples of the whole 16 kHz signal that were kept.
    pub kept: Range<usize>,
    /// Set if the signal was trimmed to its voiced part; otherwise all of it is kept.
    pub trimmed: bool,
    /// Decisions of the voice detector, one per 480 samples (30 ms) of the whole 16 kHz signal.
    pub voiced_frames: Vec<bool>,
    /// Number of samples of the whole signal at 16 kHz.
    pub total_samples: usize,
    /// Largest sample, by which the signal was divided for the voice detector.
    pub peak: f64,
    /// Duration of the recording in seconds.
    pub original_seconds: f64,
}

impl Prepared {
    /// Returns the time in the recording, in seconds, of a sample of [`Prepared::signal`].
    /// Resampling rounds the length up, so a time just beyond the recording's end is clamped to the
    /// end.
    pub fn time_of(&self, sample: usize) -> f64 {
        self.seconds(self.kept.start + sample)
    }

    /// Returns the time in the recording of a sample of the whole 16 kHz signal.
    fn seconds(&self, sample: usize) -> f64 {
        (sample as f64 / f64::from(self.sample_rate)).min(self.original_seconds)
    }

    /// Returns the duration that the detector classified as speech, in seconds.
    pub fn voiced_seconds(&self) -> f64 {
        self.voiced_within(&(0..self.total_samples))
    }

    /// Returns the duration within the kept part that the detector classified as speech, in
    /// seconds.
    pub fn voiced_seconds_kept(&self) -> f64 {
        self.voiced_within(&self.kept)
    }

    /// Returns the intervals that the detector classified as speech, in seconds of the recording.
    pub fn voiced_spans(&self) -> Vec<Range<f64>> {
        let seconds = |sample: usize| self.seconds(sample.min(self.total_samples));
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
        let bounds = |i: usize| (i * FRAME).max(range.start)..((i + 1) * FRAME).min(range.end);
        let overlap = |i: usize| bounds(i).len();
        // Resampling rounds the length up; samples beyond the recording's end do not count.
        let seconds = |sample: usize| sample as f64 / f64::from(self.sample_rate);
        let beyond = |i: usize| {
            let Range { start, end } = bounds(i);
            (seconds(end) - seconds(start).max(self.original_seconds)).max(0.0)
        };
        let voiced = || {
            let frames = self.voiced_frames.iter().enumerate();
            frames.filter(|(_, voiced)| **voiced).map(|(i, _)| i)
        };
        let all = seconds(voiced().map(overlap).sum()) - voiced().map(beyond).sum::<f64>();
        all.max(0.0)
    }
}

impl fmt::Debug for Prepared {
    /// Formats every field except the signal and the decisions, which appear as counts.
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

/// Checks that a recording is long and loud enough for analysis.
pub(crate) fn check(recording: &Recording, resampling: Resampling) -> Result<(), AudioError> {
    check_rate(recording)?;
    if resampling.target_len(recording.samples.len(), recording.sample_rate) < ANALYSIS_FRAME {
        return Err(AudioError::TooShort {
            seconds: recording.seconds(),
        });
    }
    if is_silent(recording) {
        return Err(AudioError::Silence);
    }
    Ok(())
}

/// Voiced part of a signal.
#[derive(Debug, Clone)]
pub(crate) struct Voiced {
    /// See [`Prepared::voiced_frames`].
    pub(crate) frames: Vec<bool>,
    /// See [`Prepared::kept`].
    pub(crate) kept: Range<usize>,
    /// See [`Prepared::trimmed`].
    pub(crate) trimmed: bool,
}

/// Detects the voiced part of a peak-normalised signal.
///
/// # Errors
/// If the kept part is shorter than one analysis frame.
#[cfg(feature = "cuda")]
pub(crate) fn voiced(
    signal: &[f64],
    detector: &mut impl VoiceDetector,
) -> Result<Voiced, AudioError> {
    let frames = detector_frames(signal)
        .map(|frame| detector.is_speech(&frame))
        .collect();
    kept_part(frames, signal)
}

/// Divides a signal by its `peak` and detects the voiced part. `magnitude` is the largest magnitude
/// of the quotient.
fn normalise_and_detect(
    signal: &mut [f64],
    peak: f64,
    magnitude: f64,
    detector: &mut impl VoiceDetector,
) -> Result<Voiced, AudioError> {
    let to_detector_sample = detector_conversion(magnitude);
    let mut frames = Vec::with_capacity(signal.len() / FRAME + 1);
    let mut frame = [0; FRAME];
    let mut parts = signal.chunks_exact_mut(FRAME);
    for part in &mut parts {
        for (out, x) in frame.iter_mut().zip(part) {
            *x /= peak;
            *out = to_detector_sample(*x);
        }
        frames.push(detector.is_speech(&frame));
    }
    frame.fill(0);
    for (out, x) in frame.iter_mut().zip(parts.into_remainder()) {
        *x /= peak;
        *out = to_detector_sample(*x);
    }
    frames.push(detector.is_speech(&frame));
    kept_part(frames, signal)
}

/// Determines the kept part of a peak-normalised signal from the detector's decisions.
fn kept_part(frames: Vec<bool>, signal: &[f64]) -> Result<Voiced, AudioError> {
    let found = trim_frames(&frames, signal);
    let trimmed = found.is_some();
    let kept = found.unwrap_or(0..signal.len());
    if kept.len() < ANALYSIS_FRAME {
        return Err(AudioError::VoiceTooShort {
            seconds: kept.len() as f64 / f64::from(TARGET_RATE),
        });
    }
    Ok(Voiced {
        frames,
        kept,
        trimmed,
    })
}

/// Reduces a signal to `part`, multiplied by `factor`.
fn keep_scaled(signal: &mut Vec<f64>, part: Range<usize>, factor: f64) {
    /// Number of samples that stay in the cache between the move and the multiplication.
    const BLOCK: usize = 1 << 10;
    for at in (0..part.len()).step_by(BLOCK) {
        let to = at..part.len().min(at + BLOCK);
        signal.copy_within(part.start + to.start..part.start + to.end, at);
        signal[to].iter_mut().for_each(|x| *x *= factor);
    }
    signal.truncate(part.len());
}

/// Resamples, cleans and trims a recording.
///
/// `detector` must be in its initial state; it processes every frame of this recording in order.
pub fn prepare(
    recording: &Recording,
    detector: &mut impl VoiceDetector,
) -> Result<Prepared, AudioError> {
    prepare_with(recording, Resampling::Exact, detector)
}

/// Prepares a recording with a choice of resampling method.
pub fn prepare_with(
    recording: &Recording,
    resampling: Resampling,
    detector: &mut impl VoiceDetector,
) -> Result<Prepared, AudioError> {
    prepare_from(
        Cow::Borrowed(recording),
        resampling,
        detector,
        Parallelism::No,
    )
}

/// Does the same as [`prepare_with`], and frees an owned recording as early as possible.
pub(crate) fn prepare_from(
    recording: Cow<'_, Recording>,
    resampling: Resampling,
    detector: &mut impl VoiceDetector,
    parallelism: Parallelism,
) -> Result<Prepared, AudioError> {
    check(&recording, resampling)?;
    let original_seconds = recording.seconds();
    let sample_rate = recording.sample_rate;
    let mut resampled = resampling.convert(samples(recording), sample_rate, parallelism);
    clean::replace_zeros(&mut resampled);
    let (mut signal, level) = clean::denoise(resampled);
    let peak = level.peak().ok_or(AudioError::NoPeak)?;
    let total_samples = signal.len();
    let Voiced {
        frames: voiced_frames,
        kept,
        trimmed,
    } = normalise_and_detect(&mut signal, peak, level.magnitude_by(peak), detector)?;
    keep_scaled(&mut signal, kept.clone(), peak);
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recording(samples: Vec<f32>, sample_rate: u32) -> Recording {
        Recording {
            samples,
            sample_rate,
            channels: 1,
            channel: None,
            format: "test".into(),
            clipped: 0,
            truncated: false,
            damaged_packets: 0,
            defects: vec![],
        }
    }

    fn tone(n: usize) -> Vec<f32> {
        (0..n).map(|i| 0.3 * (i as f32 * 0.2).sin()).collect()
    }

    #[test]
    fn times_map_back_to_the_recording() {
        // Frames 10 to 19 of the second are speech.
        let mut i = 0;
        let mut detector = |_: &[i16; FRAME]| {
            i += 1;
            (11..=20).contains(&i)
        };
        let prepared = prepare(&recording(tone(8000), 8000), &mut detector).unwrap();
        assert!(prepared.trimmed);
        assert_eq!(prepared.kept, 4799..9599);
        assert_eq!(prepared.signal.len(), 4800);
        assert_eq!(
            (prepared.total_samples, prepared.sample_rate),
            (16_000, 16_000)
        );
        assert_eq!(prepared.original_seconds, 1.0);
        assert_eq!(prepared.time_of(1), 0.3);
        assert!((prepared.voiced_seconds() - 0.3).abs() < 1e-12);
        assert!((prepared.voiced_seconds_kept() - 4799.0 / 16_000.0).abs() < 1e-12);
        assert_eq!(prepared.voiced_spans(), [0.3..0.6]);
    }

    #[test]
    fn spans_end_with_the_recording() {
        let prepared =
            prepare(&recording(tone(4000), 16_000), &mut |_: &[i16; FRAME]| true).unwrap();
        assert!(!prepared.trimmed);
        // Resampling from 16 kHz to 22,050 Hz and back rounds up twice, which adds one sample.
        assert_eq!(prepared.kept, 0..4001);
        assert_eq!(prepared.voiced_frames.len(), 9);
        assert_eq!(prepared.voiced_spans(), [0.0..0.25]);
        assert_eq!(prepared.voiced_seconds(), 0.25);
        assert_eq!(prepared.time_of(4001), 0.25);
    }

    #[test]
    fn unusable_recordings_are_errors() {
        let never = |_: &[i16; FRAME]| false;
        let error = |samples, rate| prepare(&recording(samples, rate), &mut { never }).unwrap_err();
        assert_eq!(error(vec![0.0; 16_000], 16_000), AudioError::Silence);
        let dither = (0..16_000).map(|i| (i % 3 - 1) as f32 / 32768.0).collect();
        assert_eq!(error(dither, 16_000), AudioError::Silence);
        assert_eq!(
            error(vec![0.1; 398], 16_000),
            AudioError::TooShort {
                seconds: 398.0 / 16_000.0
            }
        );
        assert_eq!(error(vec![], 16_000), AudioError::TooShort { seconds: 0.0 });
        assert!(prepare(&recording(tone(400), 16_000), &mut { never }).is_ok());
        assert!(error(vec![0.1; 9], 16_000).to_string().contains("0.025 s"));

        // Only the tail of the last frame is speech.
        let mut i = 0;
        let mut last = |_: &[i16; FRAME]| {
            i += 1;
            i == 34
        };
        let error = prepare(&recording(tone(16_000), 16_000), &mut last).unwrap_err();
        assert_eq!(
            error,
            AudioError::VoiceTooShort {
                seconds: 160.0 / 16_000.0
            }
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn any_recording_gives_finite_samples_or_an_error(
            samples in prop::collection::vec(i16::MIN..=i16::MAX, 1..300),
            repeat in 1usize..6,
            shift in 0u32..16,
            hold: bool,
            rate in 1_000u32..=96_000,
            decisions in prop::collection::vec(any::<bool>(), 1..50),
        ) {
            let level = |s: &i16| f32::from(s >> shift) / 32768.0;
            let samples: Vec<f32> = if hold {
                samples.iter().flat_map(|s| std::iter::repeat_n(level(s), repeat)).collect()
            } else {
                samples.repeat(repeat).iter().map(level).collect()
            };
            let mut decisions = decisions.into_iter().cycle();
            let mut detector = |_: &[i16; FRAME]| decisions.next().unwrap();
            if let Ok(p) = prepare(&recording(samples, rate), &mut detector) {
                prop_assert!(p.signal.len() >= ANALYSIS_FRAME);
                prop_assert!(p.signal.iter().all(|x| x.is_finite()));
                prop_assert_eq!(p.kept.len(), p.signal.len());
                prop_assert!(p.kept.end <= p.total_samples);
                prop_assert_eq!(p.voiced_frames.len(), p.total_samples / FRAME + 1);
                let spans: f64 = p.voiced_spans().iter().map(|s| s.end - s.start).sum();
                prop_assert!((spans - p.voiced_seconds()).abs() < 1e-9);
            }
        }
    }
}
