//! Output formats: pure functions of a [`Prediction`].
//!
//! A table and a picture for people, JSON and CSV for programs, labels for programs that show sound,
//! and the object that the system of 2020 answered with. [`Reporter`] turns each outcome into text.

mod audacity;
pub mod codes;
mod csv;
mod format;
pub(crate) mod json;
pub mod names;
mod no_answer;
mod rttm;
mod short;
mod svg;
mod table;
mod textgrid;
mod timeline;

pub use format::{Format, UnknownFormat};
pub use no_answer::{Code, NoAnswer};

use crate::model::{FrontEndKind, Licence, ModelInfo};
use crate::prediction::{Age, AgeGroup, Estimate, Prediction};

/// What every answer has to be read with.
pub const NOTICE: &str = "A voice-based estimate of how a recording sounds; \
                          not to be used for decisions about people.";

/// The name of a recording that comes from standard input.
pub const STANDARD_INPUT: &str = "-";

/// Why a model's answers cannot be written in a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
        /// The label that is needed.
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
        /// The name of both.
        label: String,
    },
}

/// Writes the answers of one model in one format.
///
/// The text of [`Reporter::begin`], of [`Reporter::recording`] for each recording in order and of
/// [`Reporter::end`], one after the other, is the whole output. In a format that
/// [is per recording](Format::is_per_recording) the text of each [`Reporter::recording`] is an
/// output of its own, empty if there is no answer, and the other two are empty.
#[derive(Debug, Clone)]
pub struct Reporter {
    format: Format,
    context: Context,
    codes: Option<codes::Codes>,
    names: names::Names,
    written: usize,
}

/// What answers are written with besides themselves.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    model: String,
    identity: String,
    emotions: Vec<String>,
    genders: Vec<String>,
    licences: Vec<Licence>,
    /// Whether the model answers each stretch of speech by itself.
    divides: bool,
    /// Whether a row of CSV is a segment.
    by_segment: bool,
}

impl Reporter {
    /// For the answers of the model that `info` describes; `identity` is [`Model::identity`].
    ///
    /// # Errors
    /// When two of the model's labels are the same, or it has no such label as the format needs.
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

    /// Gives each segment a row of its own in [`Format::Csv`]; the other formats hold all segments
    /// anyway.
    #[must_use]
    pub fn with_segment_rows(mut self) -> Self {
        self.context.by_segment = true;
        self
    }

    /// What comes before the first recording.
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

    /// One recording: its answer, or why there is none. The formats that have no place for that
    /// ([`Format::TextGrid`], [`Format::Audacity`], [`Format::Rttm`], [`Format::Svg`]) give an empty
    /// text then.
    pub fn recording(&mut self, file: &str, outcome: Result<&Prediction, &NoAnswer>) -> String {
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
            (Format::TextGrid, Ok(p)) => textgrid::document(&self.context, p),
            (Format::Audacity, Ok(p)) => audacity::document(&self.context, p),
            (Format::Rttm, Ok(p)) => rttm::lines(&self.context, &self.names.next(file), p),
            (Format::Svg, Ok(p)) => svg::document(&self.context, file, p),
            (Format::TextGrid | Format::Audacity | Format::Rttm | Format::Svg, Err(_)) => {
                String::new()
            }
        }
    }

    /// What comes after the last recording.
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

/// Whether every number of an answer is finite: the only kind that is written.
pub(crate) fn is_finite(p: &Prediction) -> bool {
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

pub(crate) fn not_finite(subject: &str) -> NoAnswer {
    let message = format!(
        "{subject}: the model gives numbers that are not finite for this recording; use another model"
    );
    NoAnswer::new(Code::UnusableAudio, message)
}

impl Context {
    /// Context of the answers of the model that `info` describes.
    pub(crate) fn new(info: &ModelInfo, identity: &str) -> Self {
        Self {
            model: info.name.clone(),
            identity: identity.into(),
            emotions: info.emotions.clone(),
            genders: info.genders.clone(),
            licences: info.licences.clone(),
            divides: info.front_end == Some(FrontEndKind::Utterance),
            by_segment: false,
        }
    }

    /// Emotion labels in the model's order.
    pub(crate) fn emotions(&self) -> &[String] {
        &self.emotions
    }

    /// Gender labels in the model's order.
    pub(crate) fn genders(&self) -> &[String] {
        &self.genders
    }

    /// The name of an answer's largest emotion weight.
    fn strongest(&self, prediction: &Prediction) -> &str {
        self.emotions
            .get(prediction.strongest_emotion())
            .map_or("", |name| name)
    }
}

/// The label of the largest mean, and that mean.
fn largest<'a>(labels: &'a [String], estimates: &[Estimate]) -> (&'a str, f64) {
    let named = labels.iter().zip(estimates);
    let largest = named.max_by(|a, b| a.1.mean.total_cmp(&b.1.mean));
    largest.map_or(("", 0.0), |(name, estimate)| (name, estimate.mean))
}

/// The name of an age group, for people and programs alike.
fn group_name(age: Age) -> &'static str {
    match age.group() {
        AgeGroup::Under20 => "under 20",
        AgeGroup::From20To29 => "20-29",
        AgeGroup::From30To39 => "30-39",
        AgeGroup::From40 => "40+",
    }
}

/// `text` without characters that steer a terminal: control characters become replacement
/// characters; those that change the direction of text around them or break lines, which could make
/// a name look like another, are written as their code.
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
    fn nothing_that_steers_is_printed() {
        assert_eq!(printable("목소리 é 🎙.wav"), "목소리 é 🎙.wav");
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\u{FFFD}[2J\u{FFFD}b");
        // Shown as it is, this ends in "wav.exe" spelt backwards.
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
