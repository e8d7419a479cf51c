//! JSON result of a recording, for the OpenAPI document.
//!
//! Tests deserialise actual responses into these types. `docs/json.md` describes every field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Document of `response_format=json`.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// One record, for the recording of the request.
    pub results: Vec<Record>,
}

/// Result for one recording. Times are in seconds from its start.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the recording.
    pub file: String,
    /// Weight of each emotion over the draws; the means sum to 1.
    pub emotions: BTreeMap<String, Estimate>,
    /// Name of the emotion with the largest mean.
    pub strongest: String,
    /// Apparent age of the speaker.
    pub age: Age,
    /// Weight of each gender.
    pub gender: BTreeMap<String, f64>,
    /// Analysed part and speech in the recording.
    pub voice: Voice,
    /// Results per window of 2 s.
    pub timeline: Vec<Window>,
    /// Results per segment of speech; the recording's result is their mean, weighted by voiced
    /// seconds.
    pub segments: Vec<Segment>,
    /// Speaker profile that the emotions are relative to; `null` without one.
    pub speaker: Option<Speaker>,
    /// Model that made the estimates.
    pub model: Model,
    /// Mode of random dropout.
    pub dropout: Dropout,
    /// Reasons for less confidence in the result.
    pub warnings: Vec<Warning>,
    /// Limits on the use of the result.
    pub notice: String,
}

/// Mean over the draws and standard deviation of a single draw.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Mean, from 0 to 1.
    pub mean: f64,
    /// Standard deviation; 0 with one draw or with dropout off.
    pub std: f64,
}

/// Apparent age of the speaker.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// Estimate in years.
    pub years: f64,
    /// Standard deviation over the windows; `null` if the model estimates from the whole recording.
    pub spread: Option<f64>,
    /// Mean absolute error on unknown speakers, as measured for the model.
    pub typical_error: Option<f64>,
    /// `under 20`, `20-29`, `30-39` or `40+`.
    pub group: String,
    /// Interval of the age; `null` if the model predicts none.
    pub interval: Option<AgeInterval>,
}

/// Interval that contains the true age with the probability `coverage`.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgeInterval {
    /// Lower bound in years.
    pub low: f64,
    /// Upper bound in years.
    pub high: f64,
    /// Share of unknown speakers whose age is in their interval, from 0 to 1.
    pub coverage: f64,
}

/// Segment of speech with its own result.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Start in seconds.
    pub start: f64,
    /// End in seconds.
    pub end: f64,
    /// Voiced seconds in the segment.
    pub voiced: f64,
    /// Weight of each emotion, like that of the recording.
    pub emotions: BTreeMap<String, Estimate>,
    /// Name of the emotion with the largest mean.
    pub strongest: String,
    /// Apparent age of the speaker in the segment.
    pub age: SegmentAge,
    /// Weight of each gender.
    pub gender: BTreeMap<String, f64>,
    /// Largest emotion mean.
    pub confidence: f64,
}

/// Apparent age of the speaker in a segment.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentAge {
    /// Estimate in years.
    pub years: f64,
    /// Interval of the age; `null` if the model predicts none.
    pub interval: Option<AgeInterval>,
}

/// Source of a speaker profile.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Speaker {
    /// Number of the speaker's recordings.
    pub recordings: u32,
    /// Speech in the recordings, in seconds.
    pub seconds: f64,
}

/// Time interval.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Start in seconds.
    pub start: f64,
    /// End in seconds.
    pub end: f64,
}

/// Audio properties and speech of the recording.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    /// Duration of the recording in seconds.
    pub duration: f64,
    /// Sample rate of the file in Hz.
    pub sample_rate: u32,
    /// Number of channels of the file; they are averaged unless one was selected.
    pub channels: u32,
    /// Selected channel, from 1; `null` for the mean of all.
    pub channel: Option<u32>,
    /// Container and encoding, as text for people.
    pub format: String,
    /// Analysed part of the recording.
    pub analysed: Span,
    /// True if silence at the ends was trimmed.
    pub trimmed: bool,
    /// Seconds of speech in the analysed part.
    pub voiced: f64,
    /// Stretches of speech.
    pub speech: Vec<Span>,
}

/// Result for a window of 2 s; one window starts every second.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Start in seconds.
    pub start: f64,
    /// End in seconds.
    pub end: f64,
    /// Weight of each emotion, by the window network alone.
    pub emotions: BTreeMap<String, f64>,
    /// Age in years; `null` if the model estimates from the whole recording.
    pub age: Option<f64>,
    /// Weight of each gender; `null` if the model estimates from the whole recording.
    pub gender: Option<BTreeMap<String, f64>>,
    /// Attention of the emotion network; `null` if it has no attention.
    pub attention: Option<Attention>,
}

/// Attention weights over a window.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Seconds per weight.
    pub cell_seconds: f64,
    /// Weights, which sum to 1.
    pub weights: Vec<f64>,
}

/// Identity of the model.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of the model.
    pub name: String,
    /// SHA-256 of the bundle file.
    pub sha256: String,
    /// Terms of use of the results, if the model has any.
    pub licences: Vec<Licence>,
}

/// Terms of use of some of the results.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Results under these terms: `emotion`, `age`, `gender`.
    pub estimates: Vec<String>,
    /// SPDX identifier.
    pub licence: String,
    /// Summary of the terms.
    pub terms: String,
}

/// Mode of random dropout.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Mode: `draws` or `off`.
    pub mode: String,
    /// Number of draws; `null` if dropout is off.
    pub draws: Option<u32>,
    /// Seed; `null` if dropout is off. It may exceed 2^53.
    pub seed: Option<u64>,
}

/// Reason for less confidence in the result.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// Stable machine-readable name.
    pub code: String,
    /// Description for people.
    pub message: String,
}
