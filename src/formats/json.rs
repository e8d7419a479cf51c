//! The record of one recording. `docs/json.md` describes every name in it.

use std::ops::Range;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::{Context, NOTICE, NoAnswer, group_name, largest};
use crate::model::Licence;
use crate::nn::DropoutMode;
use crate::prediction::{Prediction, Warning, Window};

/// The record of one recording, as one line without its end.
pub(crate) fn line(
    context: &Context,
    file: &str,
    outcome: Result<&Prediction, &NoAnswer>,
) -> String {
    let text = match outcome {
        Ok(prediction) => serde_json::to_string(&record(context, file, prediction)),
        Err(error) => serde_json::to_string(&Failure {
            error: &error.message,
            code: error.code.name(),
            file,
        }),
    };
    text.expect("all keys are strings")
}

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
    code: &'static str,
    file: &'a str,
}

#[derive(Serialize)]
pub(crate) struct Record<'a> {
    file: &'a str,
    emotions: ByName<'a, Estimate>,
    strongest: &'a str,
    age: Age,
    gender: ByName<'a, f64>,
    voice: Voice<'a>,
    timeline: Vec<TimelineWindow<'a>>,
    segments: Vec<Segment<'a>>,
    speaker: Option<Speaker>,
    model: Model<'a>,
    dropout: Dropout,
    warnings: Vec<WarningRecord>,
    notice: &'static str,
}

/// Values under their labels, in the model's order.
struct ByName<'a, T>(&'a [String], Vec<T>);

impl<T: Serialize> Serialize for ByName<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0.iter().zip(&self.1) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Estimate {
    mean: f64,
    std: f64,
}

#[derive(Serialize)]
struct Age {
    years: f64,
    spread: Option<f64>,
    typical_error: Option<f64>,
    group: &'static str,
    interval: Option<Interval>,
}

#[derive(Serialize)]
struct Interval {
    low: f64,
    high: f64,
    coverage: f64,
}

impl From<crate::prediction::AgeInterval> for Interval {
    fn from(interval: crate::prediction::AgeInterval) -> Self {
        let crate::prediction::AgeInterval {
            low,
            high,
            coverage,
        } = interval;
        Self {
            low,
            high,
            coverage,
        }
    }
}

#[derive(Serialize)]
struct Segment<'a> {
    #[serde(flatten)]
    time: Span,
    voiced: f64,
    emotions: ByName<'a, Estimate>,
    strongest: &'a str,
    age: SegmentAge,
    gender: ByName<'a, f64>,
    confidence: f64,
}

#[derive(Serialize)]
struct SegmentAge {
    years: f64,
    interval: Option<Interval>,
}

#[derive(Serialize)]
struct Speaker {
    recordings: u32,
    seconds: f64,
}

#[derive(Serialize)]
struct Span {
    start: f64,
    end: f64,
}

impl From<&Range<f64>> for Span {
    fn from(range: &Range<f64>) -> Self {
        Self {
            start: range.start,
            end: range.end,
        }
    }
}

#[derive(Serialize)]
struct Voice<'a> {
    duration: f64,
    sample_rate: u32,
    channels: u32,
    channel: Option<u32>,
    format: &'a str,
    analysed: Span,
    trimmed: bool,
    voiced: f64,
    speech: Vec<Span>,
}

#[derive(Serialize)]
struct TimelineWindow<'a> {
    #[serde(flatten)]
    time: Span,
    emotions: ByName<'a, f64>,
    age: Option<f64>,
    gender: Option<ByName<'a, f64>>,
    attention: Option<Attention<'a>>,
}

#[derive(Serialize)]
struct Attention<'a> {
    cell_seconds: f64,
    weights: &'a [f64],
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    sha256: &'a str,
    licences: &'a [Licence],
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dropout {
    mode: &'static str,
    draws: Option<u32>,
    seed: Option<u64>,
}

#[derive(Serialize)]
struct WarningRecord {
    code: &'static str,
    message: String,
}

pub(crate) fn record<'a>(context: &'a Context, file: &'a str, p: &'a Prediction) -> Record<'a> {
    Record {
        file,
        emotions: estimates(context, &p.emotions),
        strongest: context.strongest(p),
        age: Age {
            years: p.age.years,
            spread: p.age.spread,
            typical_error: p.age.error,
            group: group_name(p.age),
            interval: p.age.interval.map(Interval::from),
        },
        gender: ByName(&context.genders, p.gender.clone()),
        voice: Voice {
            duration: p.voice.duration,
            sample_rate: p.voice.sample_rate,
            channels: p.voice.channels,
            channel: p.voice.channel,
            format: &p.voice.format,
            analysed: (&p.voice.analysed).into(),
            trimmed: p.voice.trimmed,
            voiced: p.voice.voiced,
            speech: p.voice.speech.iter().map(Span::from).collect(),
        },
        timeline: p.windows.iter().map(|w| window(context, w)).collect(),
        segments: p.segments.iter().map(|s| segment(context, s)).collect(),
        speaker: p.speaker.map(|s| Speaker {
            recordings: s.recordings,
            seconds: s.seconds,
        }),
        model: Model {
            name: &context.model,
            sha256: &context.identity,
            licences: &context.licences,
        },
        dropout: dropout(&p.dropout),
        warnings: p.warnings.iter().map(warning).collect(),
        notice: NOTICE,
    }
}

fn estimates<'a>(
    context: &'a Context,
    estimates: &[crate::prediction::Estimate],
) -> ByName<'a, Estimate> {
    let estimate = |e: &crate::prediction::Estimate| Estimate {
        mean: e.mean,
        std: e.std,
    };
    ByName(&context.emotions, estimates.iter().map(estimate).collect())
}

fn segment<'a>(context: &'a Context, segment: &crate::prediction::Segment) -> Segment<'a> {
    let (strongest, confidence) = largest(&context.emotions, &segment.emotions);
    Segment {
        time: (&segment.time).into(),
        voiced: segment.voiced,
        emotions: estimates(context, &segment.emotions),
        strongest,
        age: SegmentAge {
            years: segment.age.years,
            interval: segment.age.interval.map(Interval::from),
        },
        gender: ByName(&context.genders, segment.gender.clone()),
        confidence,
    }
}

fn window<'a>(context: &'a Context, window: &'a Window) -> TimelineWindow<'a> {
    TimelineWindow {
        time: (&window.time).into(),
        emotions: ByName(&context.emotions, window.emotions.clone()),
        age: window.age,
        gender: (!window.gender.is_empty())
            .then(|| ByName(&context.genders, window.gender.clone())),
        attention: window.attention.as_ref().map(|a| Attention {
            cell_seconds: a.cell,
            weights: &a.weights,
        }),
    }
}

pub fn dropout(mode: &DropoutMode) -> Dropout {
    let (mode, draws, seed) = match mode {
        DropoutMode::Off => ("off", None, None),
        DropoutMode::Draws { n, seed } => ("draws", Some(n.get()), Some(*seed)),
        DropoutMode::Masks(_) => ("masks", None, None),
    };
    Dropout { mode, draws, seed }
}

fn warning(warning: &Warning) -> WarningRecord {
    WarningRecord {
        code: warning.code(),
        message: warning.to_string(),
    }
}
