//! Models of the utterance front end: windows with pitch, descriptors of the whole recording.

use std::borrow::Cow;
use std::ops::Range;

use super::listener::About;
use super::networks::{Answer, Question};
use super::statistics::estimates;
use super::{RecognizeError, row};
use crate::audio::frontend::{is_silent, samples};
use crate::audio::{AudioError, Recording, Resampling};
use crate::features::utterance::{Utterance, UtteranceExtractor, UtteranceWindows};
use crate::features::{HOP, SAMPLE_RATE};
use crate::nn::DropoutMode;
use crate::nn::model::{AgeScale, BundleInfo};
use crate::prediction::{Age, Prediction, Voice, Warning, Window};
use crate::together::Together;

/// Seconds between frames.
const FRAME_SECONDS: f64 = HOP as f64 / SAMPLE_RATE as f64;

/// From a recording to the networks and from there to the answer.
#[derive(Debug)]
pub struct Way {
    emotions: usize,
    age: AgeScale,
    resampling: Resampling,
    extractor: UtteranceExtractor,
}

/// What a recording is to the networks.
#[derive(Debug)]
pub struct Heard {
    utterance: Utterance,
    windows: UtteranceWindows,
}

/// The recording at 16 kHz as this front end takes it: in one step either way, and as it is where
/// that is its rate.
pub fn signal(
    recording: Cow<'_, Recording>,
    resampling: Resampling,
    together: Together,
) -> Cow<'_, [f32]> {
    let rate = recording.sample_rate;
    resampling.straight(samples(recording), rate, together)
}

impl Way {
    /// For a model with this front end.
    pub fn new(info: &BundleInfo, age: AgeScale) -> Self {
        Self {
            emotions: info.emotions.len(),
            age,
            resampling: info.resampling,
            extractor: UtteranceExtractor::new(),
        }
    }

    /// What the networks are asked about a recording.
    ///
    /// # Errors
    /// When it cannot be analysed.
    pub fn hear(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        together: Together,
    ) -> Result<Heard, RecognizeError> {
        if is_silent(&recording) {
            return Err(RecognizeError::audio(name)(AudioError::Silence));
        }
        let signal = signal(recording, self.resampling, together);
        let utterance = self.extractor().analyse_samples(signal);
        Ok(utterance.map_err(RecognizeError::features(name))?.into())
    }

    /// What analyses recordings.
    pub fn extractor(&self) -> &UtteranceExtractor {
        &self.extractor
    }

    /// What the networks' answer means.
    pub fn conclude(
        &self,
        recording: &About,
        heard: &Heard,
        answer: Answer,
        dropout: &DropoutMode,
    ) -> Prediction {
        let age = Age {
            years: f64::from(answer.age[0]) * self.age.deviation + self.age.mean,
            spread: None,
            error: self.age.error,
        };
        let voice = voice(recording, &heard.utterance);
        Prediction {
            emotions: estimates(&answer.merged, self.emotions),
            warnings: Warning::general(recording, voice.voiced, &age, &self.age),
            age,
            gender: answer.gender.iter().map(|&x| f64::from(x)).collect(),
            windows: self.timeline(recording, heard, answer),
            voice,
            dropout: dropout.clone(),
        }
    }

    fn timeline(&self, recording: &About, heard: &Heard, answer: Answer) -> Vec<Window> {
        let Heard { utterance, windows } = heard;
        let time = |frame: usize| {
            let at = (utterance.kept.start + frame) as f64 * FRAME_SECONDS;
            at.min(recording.seconds)
        };
        let starts = windows.starts().iter().zip(answer.attention).enumerate();
        starts
            .map(|(i, (&start, attention))| Window {
                time: time(start)..time(start + windows.real_frames(i)),
                emotions: softmax(&row(&answer.windows, i, self.emotions)),
                age: None,
                gender: Vec::new(),
                attention,
            })
            .collect()
    }
}

impl From<Utterance> for Heard {
    fn from(utterance: Utterance) -> Self {
        Self {
            windows: utterance.windows(),
            utterance,
        }
    }
}

impl Heard {
    /// The networks' inputs.
    pub fn question(&self) -> Question<'_> {
        Question {
            sheet: self.windows.sheet(),
            starts: self.windows.starts(),
            whole: vec![&self.utterance.stats],
        }
    }
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
fn voice(recording: &About, utterance: &Utterance) -> Voice {
    let duration = recording.seconds;
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
        channel: recording.channel,
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
