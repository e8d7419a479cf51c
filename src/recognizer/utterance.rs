//! Models of the utterance front end: windows with pitch, descriptors of the whole recording.

use std::ops::Range;

use super::networks::{Plans, Sessions, Together};
use super::statistics::column_means;
use super::{RecognizeError, RecognizerError, attention, check_finite, row};
use crate::audio::frontend::is_silent;
use crate::audio::resample::{TARGET_RATE, resample, resample_directly};
use crate::audio::{AudioError, Recording, Resampling};
use crate::features::utterance::{self, Utterance, UtteranceExtractor, UtteranceWindows};
use crate::features::{HOP, SAMPLE_RATE};
use crate::nn::model::AgeScale;
use crate::nn::{DropoutMode, Model, Role, RunError, Session};
use crate::prediction::{Age, Attention, Prediction, Voice, Warning, Window};

/// Seconds between frames, and of a full window.
const FRAME_SECONDS: f64 = HOP as f64 / SAMPLE_RATE as f64;
const WINDOW_SECONDS: f64 = utterance::WINDOW_FRAMES as f64 * FRAME_SECONDS;

/// Everything that all threads share.
#[derive(Debug)]
pub struct Networks {
    emotions: usize,
    age: AgeScale,
    resampling: Resampling,
    extractor: UtteranceExtractor,
    plans: Plans,
}

impl Networks {
    /// For a model with this front end.
    ///
    /// # Errors
    /// When a network cannot be planned.
    pub fn new(model: &Model, age: AgeScale) -> Result<Self, RecognizerError> {
        Ok(Self {
            emotions: model.info().emotions.len(),
            age,
            resampling: model.info().resampling,
            extractor: UtteranceExtractor::new(),
            plans: Plans::new(model)?,
        })
    }

    /// One thread's buffers.
    pub fn worker(&self) -> Worker<'_> {
        Worker {
            networks: self,
            sessions: self.plans.sessions(),
            together: Together::default(),
        }
    }
}

/// One thread's way through the networks.
#[derive(Debug)]
pub struct Worker<'r> {
    networks: &'r Networks,
    pub(super) sessions: Sessions,
    pub together: Together,
}

/// The recording at 16 kHz as this front end takes it: in one step either way, and as it is where
/// that is its rate.
pub fn signal(recording: &Recording, resampling: Resampling) -> Vec<f64> {
    let wide = |samples: &[f32]| samples.iter().map(|x| f64::from(*x)).collect();
    let x = &recording.samples;
    match (recording.sample_rate, resampling) {
        (TARGET_RATE, _) => wide(x),
        (rate, Resampling::Exact) => wide(&resample(x, rate, TARGET_RATE)),
        (rate, Resampling::Fast) => wide(&resample_directly(x, rate, TARGET_RATE)),
    }
}

impl Worker<'_> {
    /// The answer for a recording.
    ///
    /// # Errors
    /// When it cannot be analysed.
    pub fn recognize(
        &mut self,
        recording: &Recording,
        name: &str,
        dropout: &DropoutMode,
    ) -> Result<Prediction, RecognizeError> {
        if is_silent(recording) {
            return Err(RecognizeError::Audio {
                name: name.into(),
                source: AudioError::Silence,
            });
        }
        let utterance = self
            .networks
            .extractor
            .analyse(&signal(recording, self.networks.resampling))
            .map_err(|source| RecognizeError::Features {
                name: name.into(),
                source,
            })?;
        let off = DropoutMode::Off;
        let windows = utterance.windows();
        let emotions = self.networks.emotions;
        let stats = [&*utterance.stats];
        let Sessions {
            emotion_windows,
            age,
            gender,
            emotion_features,
            ..
        } = &mut self.sessions;
        let (seen, heard) = self.together.join(
            || look(emotion_windows, &windows),
            || {
                emotion_features.run(&stats, 1, dropout)?;
                gender.run(&stats, 1, &off)?;
                age.run(&stats, 1, &off)
            },
        );
        heard?;
        let seen = seen?;
        let logits = column_means(&seen.logits, emotions);
        check_finite(Role::EmotionWindows, &logits, name)?;
        let draws = self.sessions.emotion_features.rows();
        let repeated = logits.repeat(draws);
        self.sessions.merge.run(
            &[&repeated, self.sessions.emotion_features.output(0)],
            draws,
            &off,
        )?;
        check_finite(Role::Merge, self.sessions.merge.output(0), name)?;
        check_finite(Role::Gender, self.sessions.gender.output(0), name)?;
        check_finite(Role::Age, self.sessions.age.output(0), name)?;

        let scale = &self.networks.age;
        let age = Age {
            years: f64::from(self.sessions.age.output(0)[0]) * scale.deviation + scale.mean,
            spread: None,
            error: scale.error,
        };
        let voice = voice(recording, &utterance);
        Ok(Prediction {
            emotions: super::statistics::estimates(self.sessions.merge.output(0), emotions),
            warnings: Warning::general(recording, voice.voiced, &age, scale),
            age,
            gender: row(
                self.sessions.gender.output(0),
                0,
                self.sessions.gender.output(0).len(),
            ),
            windows: self.timeline(recording, &utterance, &windows, seen),
            voice,
            dropout: match self.networks.plans.emotion_features.is_stochastic() {
                true => dropout.clone(),
                false => off,
            },
        })
    }

    fn timeline(
        &self,
        recording: &Recording,
        utterance: &Utterance,
        windows: &UtteranceWindows,
        seen: Seen,
    ) -> Vec<Window> {
        let emotions = self.networks.emotions;
        let time = |frame: usize| {
            let at = (utterance.kept.start + frame) as f64 * FRAME_SECONDS;
            at.min(recording.seconds())
        };
        let starts = windows.starts().iter().zip(seen.attention).enumerate();
        starts
            .map(|(i, (&start, attention))| Window {
                time: time(start)..time(start + windows.real_frames(i)),
                emotions: softmax(&row(&seen.logits, i, emotions)),
                age: None,
                gender: Vec::new(),
                attention,
            })
            .collect()
    }
}

/// Windows that are computed together: enough to share what they have in common, few enough for
/// bounded memory.
const WINDOWS_AT_ONCE: usize = 32;

/// What the window network gives for all windows.
struct Seen {
    logits: Vec<f32>,
    attention: Vec<Option<Attention>>,
}

fn look(session: &mut Session, windows: &UtteranceWindows) -> Result<Seen, RunError> {
    let mut seen = Seen {
        logits: Vec::new(),
        attention: Vec::new(),
    };
    for starts in windows.starts().chunks(WINDOWS_AT_ONCE) {
        session.run_windows(windows.sheet(), starts, &DropoutMode::Off)?;
        seen.logits.extend_from_slice(session.output(0));
        let attention = |i| attention::of_window(session, i, WINDOW_SECONDS);
        seen.attention.extend((0..starts.len()).map(attention));
    }
    Ok(seen)
}

/// Exponentials that sum to 1.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// What the front end found out about the recording: speech is what is loud enough, if any of it
/// has a pitch.
fn voice(recording: &Recording, utterance: &Utterance) -> Voice {
    let duration = recording.seconds();
    let seconds =
        |frame: usize| ((utterance.kept.start + frame) as f64 * FRAME_SECONDS).min(duration);
    let has_pitch = utterance.f0.iter().filter(|f| **f > 0.0).count() >= PITCHED_FRAMES;
    let speech = match has_pitch {
        true => runs(&utterance.active)
            .map(|run| seconds(run.start)..seconds(run.end))
            .filter(|span| span.start < span.end)
            .collect(),
        false => Vec::new(),
    };
    Voice {
        duration,
        sample_rate: recording.sample_rate,
        channels: recording.channels,
        format: recording.format.clone(),
        analysed: seconds(0)..seconds(utterance.kept.len()),
        trimmed: utterance.kept.len() < utterance.total_frames,
        voiced: speech
            .iter()
            .fold(0.0, |sum, s: &Range<f64>| sum + s.end - s.start),
        speech,
    }
}

/// Frames with a pitch that a recording of a voice has at least (0.1 s).
const PITCHED_FRAMES: usize = 10;

/// The stretches of `true`.
fn runs(flags: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let edges = |wanted: bool| {
        (0..flags.len()).filter(move |&i| {
            let here = flags[i];
            let (before, after) = (i > 0 && flags[i - 1], i + 1 < flags.len() && flags[i + 1]);
            here && if wanted { !before } else { !after }
        })
    };
    edges(true)
        .zip(edges(false))
        .map(|(start, last)| start..last + 1)
}
