//! The system of 2020: its front end, its features, its five networks.

use std::borrow::Cow;
use std::ops::Range;

use super::front_end::{RecordingInfo, general_warnings};
use super::networks::{NetworkInputs, NetworkOutputs};
use super::statistics::{column_means, estimates, mean, sample_deviation};
use super::{RecognizeError, row};
use crate::audio::{Recording, Resampling};
use crate::front_end::legacy2020;
use crate::front_end::legacy2020::Prepared;
use crate::front_end::legacy2020::windows::real_frames;
use crate::front_end::legacy2020::{BranchInput, FeatureExtractor, Windows};
use crate::front_end::{AudioError, HOP};
use crate::model::{AgeScale, ModelInfo};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::{Age, Prediction, Segment, Voice, Warning, Window};

/// From a recording to the networks and from there to the answer.
#[derive(Debug)]
pub struct Pipeline {
    emotions: usize,
    genders: usize,
    age: AgeScale,
    resampling: Resampling,
    extractor: FeatureExtractor,
}

/// What a recording is to the networks.
#[derive(Debug)]
pub struct Features {
    known: Known,
    windows: Windows,
    branches: [BranchInput; 4],
}

/// What is known of a recording besides the networks' inputs.
#[derive(Debug)]
pub struct Known {
    /// Without the signal, which only the features are made of.
    pub prepared: Prepared,
    /// Frames of the kept part.
    pub frames: usize,
    /// First frame of each window.
    pub starts: Vec<usize>,
}

/// The recording as this front end takes it.
///
/// # Errors
/// When it cannot be analysed.
pub fn prepare(
    recording: Cow<'_, Recording>,
    resampling: Resampling,
    parallelism: Parallelism,
) -> Result<Prepared, AudioError> {
    let mut detector = legacy2020::prepare::detector();
    legacy2020::prepare::prepare_from(recording, resampling, &mut detector, parallelism)
}

impl Pipeline {
    /// For a model with this front end.
    pub fn new(info: &ModelInfo, age: AgeScale) -> Self {
        Self {
            emotions: info.emotions.len(),
            genders: info.genders.len(),
            age,
            resampling: info.resampling,
            extractor: FeatureExtractor::new(),
        }
    }

    /// What the networks are inputs about a recording.
    ///
    /// # Errors
    /// When it cannot be analysed.
    pub fn extract(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Features, RecognizeError> {
        let prepared = prepare(recording, self.resampling, parallelism);
        let mut prepared = prepared.map_err(RecognizeError::audio(name))?;
        let mel = self.extractor.mel(&std::mem::take(&mut prepared.signal));
        let features = mel.and_then(legacy2020::of_mel);
        let features = features.map_err(RecognizeError::features(name))?;
        Ok(Features {
            branches: features.branch_inputs(),
            known: Known {
                prepared,
                frames: features.frames,
                starts: features.windows.starts().to_vec(),
            },
            windows: features.windows,
        })
    }

    /// What the networks' answer means.
    pub fn prediction(
        &self,
        recording: &RecordingInfo,
        known: &Known,
        answer: NetworkOutputs,
        dropout: &DropoutMode,
    ) -> Prediction {
        let prepared = &known.prepared;
        let years = |&output: &f32| f64::from(output) * self.age.deviation + self.age.mean;
        let ages: Vec<f64> = answer.age.iter().map(years).collect();
        let age = Age {
            years: mean(&ages),
            spread: Some(sample_deviation(&ages)),
            error: self.age.error,
            interval: None,
        };
        let voiced = prepared.voiced_seconds_kept();
        let mut warnings = general_warnings(recording, voiced, &age, &self.age);
        if known.frames > legacy2020::MAX_FRAMES {
            warnings.push(Warning::Long {
                seconds: prepared.kept.len() as f64 / f64::from(prepared.sample_rate),
            });
        }
        let gender = column_means(&answer.gender, self.genders);
        let gender: Vec<f64> = gender.into_iter().map(f64::from).collect();
        let emotions = estimates(&answer.merged, self.emotions);
        let windows = self.timeline(known, answer, &ages);
        let voice = voice(recording, prepared);
        Prediction {
            segments: vec![Segment {
                time: voice.analysed.clone(),
                voiced,
                emotions: emotions.clone(),
                age,
                gender: gender.clone(),
                windows: 0..windows.len(),
            }],
            emotions,
            age,
            gender,
            voice,
            speaker: None,
            warnings,
            dropout: dropout.clone(),
            windows,
        }
    }

    fn timeline(&self, known: &Known, answer: NetworkOutputs, ages: &[f64]) -> Vec<Window> {
        let starts = known.starts.iter();
        starts
            .zip(answer.attention)
            .enumerate()
            .map(|(i, (&start, attention))| Window {
                time: window_time(known, start),
                emotions: row(&answer.windows, i, self.emotions),
                age: Some(ages[i]),
                gender: row(&answer.gender, i, self.genders),
                attention,
            })
            .collect()
    }
}

#[cfg(feature = "cuda")]
impl Known {
    /// What a device's front end has found out about a recording.
    pub fn of_device(
        heard: crate::front_end::legacy2020::cuda::Heard,
        recording: &RecordingInfo,
    ) -> Self {
        Self {
            prepared: Prepared {
                signal: Vec::new(),
                sample_rate: crate::audio::resample::TARGET_RATE,
                kept: heard.kept,
                trimmed: heard.trimmed,
                voiced_frames: heard.voiced_frames,
                total_samples: heard.total_samples,
                peak: heard.peak,
                original_seconds: recording.seconds,
            },
            frames: heard.place.frames,
            starts: heard.place.window_starts,
        }
    }
}

impl Features {
    /// What is known besides the networks' inputs.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The networks' inputs.
    pub fn network_inputs(&self) -> NetworkInputs<'_> {
        NetworkInputs {
            frames: self.windows.sheet(),
            starts: self.windows.starts(),
            whole: self.branches.iter().map(|b| &*b.data).collect(),
            descriptors: &[],
        }
    }
}

/// The recording's own time of the window that starts with this frame, without the zeros that fill
/// up a short one.
fn window_time(known: &Known, start: usize) -> Range<f64> {
    let prepared = &known.prepared;
    let end = start + real_frames(known.frames, start);
    let last = prepared.kept.len();
    let time = |frame: usize| prepared.time_of((frame * HOP).min(last));
    time(start)..time(end)
}

/// What the front end found out about the recording.
fn voice(recording: &RecordingInfo, prepared: &Prepared) -> Voice {
    Voice {
        duration: recording.seconds,
        sample_rate: recording.sample_rate,
        channels: recording.channels,
        channel: recording.channel,
        format: recording.format.clone(),
        analysed: prepared.time_of(0)..prepared.time_of(prepared.kept.len()),
        trimmed: prepared.trimmed,
        speech: prepared.voiced_spans(),
        voiced: prepared.voiced_seconds_kept().min(recording.seconds),
    }
}
