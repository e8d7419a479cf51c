//! The shape of a JSON answer, for the API's description. The tests read real answers into it, so it
//! cannot say anything else than what is sent. `docs/json.md` describes every name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The document of `response_format=json`.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// One record, of the recording that was sent.
    pub results: Vec<Record>,
}

/// What was heard in one recording. Times are seconds from its beginning.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The name that the recording came with.
    pub file: String,
    /// Weight of each emotion, over the draws; the means sum to 1.
    pub emotions: BTreeMap<String, Estimate>,
    /// Name of the emotion with the largest mean.
    pub strongest: String,
    /// How old the speaker sounds.
    pub age: Age,
    /// Weight of each class of voices.
    pub gender: BTreeMap<String, f64>,
    /// What was heard as speech.
    pub voice: Voice,
    /// What was said about each window of 2 s.
    pub timeline: Vec<Window>,
    /// What was said about each stretch of speech; the answer is their mean, by their voiced seconds.
    pub segments: Vec<Segment>,
    /// Whom the emotions are relative to; `null` without a speaker profile.
    pub speaker: Option<Speaker>,
    /// Which model answered.
    pub model: Model,
    /// How random dropout was treated.
    pub dropout: Dropout,
    /// Reasons to trust the answer less.
    pub warnings: Vec<Warning>,
    /// What the answer must not be used for.
    pub notice: String,
}

/// A mean and the standard deviation of a single draw.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// From 0 to 1.
    pub mean: f64,
    /// 0 with one draw or with dropout off.
    pub std: f64,
}

/// How old the speaker sounds.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Age {
    /// The estimate.
    pub years: f64,
    /// Standard deviation over the windows; `null` if the model hears the whole recording at once.
    pub spread: Option<f64>,
    /// Mean absolute error on unknown speakers that the model states.
    pub typical_error: Option<f64>,
    /// `under 20`, `20-29`, `30-39` or `40+`.
    pub group: String,
    /// Where the age lies; `null` if the model states no interval.
    pub interval: Option<AgeInterval>,
}

/// Years between which the true age lies as often as `coverage` says.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgeInterval {
    /// In years.
    pub low: f64,
    /// In years.
    pub high: f64,
    /// Share of unknown speakers whose age lies in theirs, from 0 to 1.
    pub coverage: f64,
}

/// A stretch of speech that was answered by itself.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// In seconds.
    pub start: f64,
    /// In seconds.
    pub end: f64,
    /// Seconds of voice in it.
    pub voiced: f64,
    /// As of the recording.
    pub emotions: BTreeMap<String, Estimate>,
    /// Name of the emotion with the largest mean.
    pub strongest: String,
    /// How old the speaker sounds in it.
    pub age: SegmentAge,
    /// As of the recording.
    pub gender: BTreeMap<String, f64>,
    /// The largest mean.
    pub confidence: f64,
}

/// How old the speaker sounds in a segment.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentAge {
    /// The estimate.
    pub years: f64,
    /// As of the recording.
    pub interval: Option<AgeInterval>,
}

/// What a speaker profile was made of.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Speaker {
    /// Recordings of the speaker.
    pub recordings: u32,
    /// Their speech, in seconds.
    pub seconds: f64,
}

/// A stretch of time.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// In seconds.
    pub start: f64,
    /// In seconds.
    pub end: f64,
}

/// What was heard of the recording.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    /// Of the recording, in seconds.
    pub duration: f64,
    /// Of the file, in Hz.
    pub sample_rate: u32,
    /// Of the file; they are averaged, unless one was chosen.
    pub channels: u32,
    /// The channel that was chosen, from 1; `null` for the mean of all.
    pub channel: Option<u32>,
    /// Container and encoding, for people.
    pub format: String,
    /// The part that the answer is about.
    pub analysed: Span,
    /// Whether silence was cut off at the ends.
    pub trimmed: bool,
    /// Seconds of the analysed part that were heard as speech.
    pub voiced: f64,
    /// The stretches heard as speech.
    pub speech: Vec<Span>,
}

/// One window of 2 s, one every second.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// In seconds.
    pub start: f64,
    /// In seconds.
    pub end: f64,
    /// Weight per emotion, from the window network alone.
    pub emotions: BTreeMap<String, f64>,
    /// In years; `null` if the model hears the whole recording at once.
    pub age: Option<f64>,
    /// Weight per gender; `null` likewise.
    pub gender: Option<BTreeMap<String, f64>>,
    /// Where the emotion network looked; `null` if it has no attention.
    pub attention: Option<Attention>,
}

/// How attention is spread over a window.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Seconds per weight.
    pub cell_seconds: f64,
    /// They sum to 1.
    pub weights: Vec<f64>,
}

/// Which model answered.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What it calls itself.
    pub name: String,
    /// Hash of the bundle file.
    pub sha256: String,
    /// What the results may be used for, where the model says so.
    pub licences: Vec<Licence>,
}

/// What some results may be used for.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// `emotion`, `age`, `gender`.
    pub estimates: Vec<String>,
    /// An SPDX identifier.
    pub licence: String,
    /// What that means, in a few words.
    pub terms: String,
}

/// How random dropout was treated.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// `draws` or `off`.
    pub mode: String,
    /// `null` when it is off.
    pub draws: Option<u32>,
    /// `null` when it is off. May be larger than 2^53.
    pub seed: Option<u64>,
}

/// A reason to trust the answer less.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// A stable name.
    pub code: String,
    /// The same in a sentence.
    pub message: String,
}
