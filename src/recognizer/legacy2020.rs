//! Models of the system of 2020: a recording is one segment, with mel windows and four feature branches.

use std::borrow::Cow;
use std::ops::Range;

use super::front_end::{RecordingInfo, general_warnings};
use super::networks::{NetworkInputs, NetworkOutputs};
use super::statistics::{column_means, estimates, mean, sample_deviation};
use super::{RecognizeError, row};
use crate::audio::{Recording, Resampling};
use crate::front_end::legacy2020;
use crate::front_end::legacy2020::Prepared;
use crate::front_end::legacy2020::{BranchInput, FeatureExtractor, Windows};
use crate::front_end::windows::real_frames;
use crate::front_end::{AudioError, HOP};
use crate::model::{AgeScale, ModelInfo};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::{Age, Prediction, Segment, Voice, Warning, Window};

/// Steps from a recording to the networks' inputs, and from their outputs to the prediction.
#[derive(Debug)]
pub struct Pipeline {
    emotions: usize,
    genders: usize,
    age: AgeScale,
    resampling: Resampling,
    extractor: FeatureExtractor,
}

/// The networks' inputs for a recording.
#[derive(Debug)]
pub struct Features {
    part: AnalysedPart,
    windows: Windows,
    branches: [BranchInput; 4],
}

/// The part of a recording that the networks' inputs describe.
#[derive(Debug)]
pub struct AnalysedPart {
    /// Prepared recording with an empty signal: only the features need the signal.
    pub prepared: Prepared,
    /// Number of frames of the kept part.
    pub frames: usize,
    /// First frame of each window.
    pub starts: Vec<usize>,
}

/// Resamples and denoises a recording and cuts it to its voiced part.
///
/// # Errors
/// The recording cannot be analysed.
pub fn prepare(
    recording: Cow<'_, Recording>,
    resampling: Resampling,
    parallelism: Parallelism,
) -> Result<Prepared, AudioError> {
    let mut detector = legacy2020::prepare::detector();
    legacy2020::prepare::prepare_from(recording, resampling, &mut detector, parallelism)
}

impl Pipeline {
    /// Creates the pipeline of the model that `info` describes.
    pub fn new(info: &ModelInfo, age: AgeScale) -> Self {
        Self {
            emotions: info.emotions.len(),
            genders: info.genders.len(),
            age,
            resampling: info.resampling,
            extractor: FeatureExtractor::new(),
        }
    }

    /// Extracts the networks' inputs from a recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// The recording cannot be analysed.
    pub fn extract(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Features, RecognizeError> {
        let prepared = prepare(recording, self.resampling, parallelism);
        let mut prepared = prepared.map_err(RecognizeError::audio(name))?;
        let mel = self.extractor.mel(&std::mem::take(&mut prepared.signal));
        let features = mel.and_then(legacy2020::from_owned_mel);
        let features = features.map_err(RecognizeError::features(name))?;
        Ok(Features {
            branches: features.branch_inputs(),
            part: AnalysedPart {
                prepared,
                frames: features.frames,
                starts: features.windows.starts().to_vec(),
            },
            windows: features.windows,
        })
    }

    /// Makes the prediction from the networks' outputs.
    pub fn prediction(
        &self,
        recording: &RecordingInfo,
        part: &AnalysedPart,
        outputs: NetworkOutputs,
        dropout: &DropoutMode,
    ) -> Prediction {
        let prepared = &part.prepared;
        let years = |&output: &f32| f64::from(output) * self.age.deviation + self.age.mean;
        let ages: Vec<f64> = outputs.age.iter().map(years).collect();
        let age = Age {
            years: mean(&ages),
            spread: Some(sample_deviation(&ages)),
            error: self.age.error,
            interval: None,
        };
        let voiced = prepared.voiced_seconds_kept();
        let mut warnings = general_warnings(recording, voiced, &age, &self.age);
        if part.frames > legacy2020::MAX_FRAMES {
            warnings.push(Warning::Long {
                seconds: prepared.kept.len() as f64 / f64::from(prepared.sample_rate),
            });
        }
        let gender = column_means(&outputs.gender, self.genders);
        let gender: Vec<f64> = gender.into_iter().map(f64::from).collect();
        let emotions = estimates(&outputs.merged, self.emotions);
        let windows = self.timeline(part, outputs, &ages);
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

    fn timeline(&self, part: &AnalysedPart, outputs: NetworkOutputs, ages: &[f64]) -> Vec<Window> {
        let starts = part.starts.iter();
        starts
            .zip(outputs.attention)
            .enumerate()
            .map(|(i, (&start, attention))| Window {
                time: window_time(part, start),
                emotions: row(&outputs.windows, i, self.emotions),
                age: Some(ages[i]),
                gender: row(&outputs.gender, i, self.genders),
                attention,
            })
            .collect()
    }
}

#[cfg(feature = "cuda")]
impl AnalysedPart {
    /// Analysed part of a recording according to a device's front end.
    pub fn of_device(
        features: crate::front_end::legacy2020::cuda::RecordingFeatures,
        recording: &RecordingInfo,
    ) -> Self {
        Self {
            prepared: Prepared {
                signal: Vec::new(),
                sample_rate: crate::audio::resample::TARGET_RATE,
                kept: features.kept,
                trimmed: features.trimmed,
                voiced_frames: features.voiced_frames,
                total_samples: features.total_samples,
                peak: features.peak,
                original_seconds: recording.seconds,
            },
            frames: features.location.frames,
            starts: features.location.window_starts,
        }
    }
}

impl Features {
    /// The part of the recording that the inputs describe.
    pub fn analysed_part(&self) -> &AnalysedPart {
        &self.part
    }

    /// The networks' inputs.
    pub fn network_inputs(&self) -> NetworkInputs<'_> {
        NetworkInputs {
            frames: self.windows.frames(),
            starts: self.windows.starts(),
            whole: self.branches.iter().map(|b| &*b.data).collect(),
            descriptors: &[],
        }
    }
}

/// Time of the window that starts at the frame `start`, in seconds of the recording. Zero padding of a
/// short window does not count.
fn window_time(part: &AnalysedPart, start: usize) -> Range<f64> {
    let prepared = &part.prepared;
    let end = start + real_frames(part.frames, start);
    let last = prepared.kept.len();
    let time = |frame: usize| prepared.time_of((frame * HOP).min(last));
    time(start)..time(end)
}

/// Makes the report on the recording and its voice.
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
