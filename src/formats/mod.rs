//! Output formats: pure functions of a [`Prediction`].
//!
//! The formats are a table and a picture for people, JSON and CSV for programs, label tracks for sound
//! editors, and the JSON object of the 2020 system. [`Reporter`] turns each outcome into text.

pub mod codes;
mod csv;
mod error;
mod format;
pub(crate) mod json;
mod labels;
pub mod names;
mod svg;
mod table;
mod timeline;

pub use error::{ErrorCode, RecordingError};
pub use format::{Format, UnknownFormat};

use crate::model::{FrontEndKind, Licence, ModelInfo};
use crate::prediction::{Age, AgeGroup, Estimate, Prediction};

/// Notice that accompanies every prediction.
pub const NOTICE: &str = "A voice-based estimate of how a recording sounds; \
                          not to be used for decisions about people.";

/// Name of a recording that is read from standard input.
pub const STANDARD_INPUT: &str = "-";

/// Error for a model whose predictions cannot be written in a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// [`Format::Codes`] writes fixed labels, and the model lacks one.
    #[error(
        "the model {model:?} has no {kind} named {label:?}, which the format codes needs (it has {has}); use another format"
    )]
    MissingLabel {
        /// [`ModelInfo::name`].
        model: String,
        /// `emotion` or `gender`.
        kind: &'static str,
        /// The missing label.
        label: &'static str,
        /// The model's labels of this kind, separated by commas.
        has: String,
    },
    /// Two of the model's outputs would be written under the same name.
    #[error(
        "the model {model:?} has two outputs named {label:?}; give each a name of its own and convert it again"
    )]
    RepeatedLabel {
        /// [`ModelInfo::name`].
        model: String,
        /// The repeated label.
        label: String,
    },
}

/// Writer of one model's predictions in one format.
///
/// The whole output is the text of [`Reporter::begin`], of [`Reporter::recording`] for each
/// recording in order, and of [`Reporter::end`]. In a format that [is per
/// recording](Format::is_per_recording), each text of [`Reporter::recording`] is a separate
/// document, empty for a failed recording, and `begin` and `end` return empty texts.
#[derive(Debug, Clone)]
pub struct Reporter {
    format: Format,
    context: Context,
    codes: Option<codes::Codes>,
    names: names::Names,
    written: usize,
}

/// Model properties that the formats write beside the predictions.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    model: String,
    identity: String,
    emotions: Vec<String>,
    genders: Vec<String>,
    licences: Vec<Licence>,
    /// True if the model estimates each segment separately.
    has_segments: bool,
    /// True if a CSV row is a segment.
    segment_rows: bool,
}

impl Reporter {
    /// Creates a writer for the model that `info` describes; `identity` is [`Model::identity`].
    ///
    /// # Errors
    /// When two of the model's labels are equal, or the model lacks a label that the format needs.
    ///
    /// [`Model::identity`]: crate::model::Model::identity
    pub fn new(format: Format, info: &ModelInfo, identity: &str) -> Result<Self, ReportError> {
        let labels: Vec<&String> = info.emotions.iter().chain(&info.genders).collect();
        for (i, label) in labels.iter().enumerate() {
            if labels[..i].contains(label) {
                return Err(ReportError::RepeatedLabel {
                    model: info.name.clone(),
                    label: label.to_string(),
                });
            }
        }
        let codes = match format {
            Format::Codes => Some(codes::Codes::new(info)?),
            _ => None,
        };
        Ok(Self {
            format,
            context: Context::new(info, identity),
            codes,
            names: names::Names::new("/"),
            written: 0,
        })
    }

    /// Writes one row per segment in [`Format::Csv`] and [`Format::ExcelCsv`]. The other formats
    /// are unchanged: they always hold the segments.
    #[must_use]
    pub fn with_segment_rows(mut self) -> Self {
        self.context.segment_rows = true;
        self
    }

    /// Returns the text before the first recording.
    pub fn begin(&self) -> String {
        match self.format {
            Format::Json => "{\"results\": [".into(),
            Format::Csv => csv::header(csv::Dialect::Plain, &self.context),
            Format::ExcelCsv => csv::header(csv::Dialect::Excel, &self.context),
            Format::Table
            | Format::Jsonl
            | Format::Codes
            | Format::TextGrid
            | Format::Audacity
            | Format::Rttm
            | Format::Svg => String::new(),
        }
    }

    /// Returns the text of one recording: its prediction or its error.
    ///
    /// The text of an error is empty in [`Format::TextGrid`], [`Format::Audacity`],
    /// [`Format::Rttm`] and [`Format::Svg`], which cannot express it.
    pub fn recording(
        &mut self,
        file: &str,
        outcome: Result<&Prediction, &RecordingError>,
    ) -> String {
        let first = self.written == 0;
        self.written += 1;
        let broken;
        let outcome = match outcome {
            Ok(prediction) if !is_finite(prediction) => {
                broken = not_finite(file);
                Err(&broken)
            }
            other => other,
        };
        match (self.format, outcome) {
            (Format::Table, outcome) => table::block(&self.context, file, outcome, first),
            (Format::Json, outcome) => {
                let comma = if first { "" } else { "," };
                format!("{comma}\n{}", json::line(&self.context, file, outcome))
            }
            (Format::Jsonl, outcome) => json::line(&self.context, file, outcome) + "\n",
            (Format::Csv, outcome) => csv::row(csv::Dialect::Plain, &self.context, file, outcome),
            (Format::ExcelCsv, outcome) => {
                csv::row(csv::Dialect::Excel, &self.context, file, outcome)
            }
            (Format::Codes, Ok(prediction)) => {
                let codes = self.codes.as_ref().expect("made for this format");
                codes.object(prediction) + "\n"
            }
            (Format::Codes, Err(error)) => codes::failure(file, &error.message) + "\n",
            (Format::TextGrid, Ok(p)) => labels::textgrid(&self.context, p),
            (Format::Audacity, Ok(p)) => labels::audacity(&self.context, p),
            (Format::Rttm, Ok(p)) => labels::rttm(&self.context, &self.names.next(file), p),
            (Format::Svg, Ok(p)) => svg::document(&self.context, file, p),
            (Format::TextGrid | Format::Audacity | Format::Rttm | Format::Svg, Err(_)) => {
                String::new()
            }
        }
    }

    /// Returns the text after the last recording.
    pub fn end(&self) -> String {
        match self.format {
            Format::Json if self.written == 0 => "]}\n".into(),
            Format::Json => "\n]}\n".into(),
            Format::Table if self.written > 0 => {
                let terms = table::licences(&self.context);
                format!("\n{terms}{NOTICE}\n")
            }
            _ => String::new(),
        }
    }
}

/// Returns true if every number of a prediction is finite. The formats refuse any other prediction.
pub fn is_finite(p: &Prediction) -> bool {
    let spans = p.voice.speech.iter().chain([&p.voice.analysed]);
    let of_age = |age: &Age| {
        let ends = age.interval.map(|i| [i.low, i.high, i.coverage]);
        let optional = age.spread.into_iter().chain(age.error);
        optional
            .chain(ends.into_iter().flatten())
            .chain([age.years])
    };
    let of_emotions = |emotions: &[Estimate]| {
        let numbers = emotions.iter().flat_map(|e| [e.mean, e.std]);
        numbers.collect::<Vec<_>>()
    };
    of_emotions(&p.emotions)
        .into_iter()
        .chain([p.voice.duration, p.voice.voiced])
        .chain(of_age(&p.age))
        .chain(p.gender.iter().copied())
        .chain(p.speaker.map(|s| s.seconds))
        .chain(p.segments.iter().flat_map(|s| {
            [s.time.start, s.time.end, s.voiced]
                .into_iter()
                .chain(of_emotions(&s.emotions))
                .chain(of_age(&s.age))
                .chain(s.gender.iter().copied())
        }))
        .chain(spans.flat_map(|s| [s.start, s.end]))
        .chain(p.windows.iter().flat_map(|w| {
            [w.time.start, w.time.end]
                .into_iter()
                .chain(w.age)
                .chain(w.emotions.iter().copied())
                .chain(w.gender.iter().copied())
                .chain(w.attention.iter().flat_map(|a| a.weights.iter().copied()))
        }))
        .all(f64::is_finite)
}

/// Returns the error for a prediction with a number that is not finite.
pub(crate) fn not_finite(subject: &str) -> RecordingError {
    let message = format!(
        "{subject}: the model gives numbers that are not finite for this recording; use another model"
    );
    RecordingError::new(ErrorCode::UnusableAudio, message)
}

impl Context {
    /// Creates the context of the model that `info` describes.
    pub(crate) fn new(info: &ModelInfo, identity: &str) -> Self {
        Self {
            model: info.name.clone(),
            identity: identity.into(),
            emotions: info.emotions.clone(),
            genders: info.genders.clone(),
            licences: info.licences.clone(),
            has_segments: info.front_end == Some(FrontEndKind::Utterance),
            segment_rows: false,
        }
    }

    /// Returns the emotion labels in the model's order.
    pub(crate) fn emotions(&self) -> &[String] {
        &self.emotions
    }

    /// Returns the gender labels in the model's order.
    pub(crate) fn genders(&self) -> &[String] {
        &self.genders
    }

    /// Returns the label of the largest emotion weight.
    fn strongest(&self, prediction: &Prediction) -> &str {
        self.emotions
            .get(prediction.strongest_emotion())
            .map_or("", |name| name)
    }
}

/// Returns the label of the largest mean, and that mean.
fn largest<'a>(labels: &'a [String], estimates: &[Estimate]) -> (&'a str, f64) {
    let named = labels.iter().zip(estimates);
    let largest = named.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    largest.map_or(("", 0.0), |(name, estimate)| (name, estimate.mean))
}

/// Returns the label of an age group, in every format.
fn group_name(age: Age) -> &'static str {
    match age.group() {
        AgeGroup::Under20 => "under 20",
        AgeGroup::From20To29 => "20-29",
        AgeGroup::From30To39 => "30-39",
        AgeGroup::From40 => "40+",
    }
}

/// Returns `text` without the characters that control a terminal.
///
/// Control characters become replacement characters. Line breaks and characters that change the
/// text direction, which could disguise a name, are written as escapes.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Marks, embeddings, overrides and isolates (Unicode Standard Annex #9), and separators.
            '\u{61C}'
            | '\u{200E}'
            | '\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}' => out.extend(c.escape_unicode()),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_are_replaced() {
        assert_eq!(printable("목소리 é 🎙.wav"), "목소리 é 🎙.wav");
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\u{FFFD}[2J\u{FFFD}b");
        // Displayed unescaped, this name would end in "wav.exe" spelt backwards.
        assert_eq!(printable("a\u{202E}vaw.exe"), "a\\u{202e}vaw.exe");
        let controls = [
            '\u{61C}', '\u{200E}', '\u{200F}', '\u{2028}', '\u{2029}', '\u{202A}', '\u{202B}',
            '\u{202C}', '\u{202D}', '\u{202E}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
        ];
        for c in controls {
            let wanted = format!("<{}>", c.escape_unicode());
            assert_eq!(printable(&format!("<{c}>")), wanted);
        }
    }
}
