//! One row per recording; fields are quoted as RFC 4180 says where they need it.
//!
//! A spreadsheet takes a cell for a formula if its text begins with certain characters, and the
//! names of files come from anywhere. Such a text is given an apostrophe in front, as the Open
//! Worldwide Application Security Project advises (CSV Injection). Numbers stay as they are.

use super::{Context, NoAnswer, STANDARD_INPUT, group_name, largest};
use crate::prediction::{Age, Estimate, Prediction};

/// What the rows are read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Lines end with a line feed alone.
    Plain,
    /// Excel: a byte order mark says that the text is UTF-8, and lines end as RFC 4180 has it.
    Excel,
}

impl Dialect {
    fn start(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Excel => "\u{FEFF}",
        }
    }

    fn line_end(self) -> &'static str {
        match self {
            Self::Plain => "\n",
            Self::Excel => "\r\n",
        }
    }
}

/// Columns that every answer has, between those that the model names.
const AGE: [&str; 3] = ["age", "age_spread", "age_group"];
/// Columns that a row of a segment has besides.
const SEGMENT: [&str; 3] = ["segment", "start", "end"];
const VOICE: [&str; 8] = [
    "duration",
    "sample_rate",
    "channels",
    "format",
    "analysed_start",
    "analysed_end",
    "voiced",
    "warnings",
];

/// Columns at the end, the last two for a recording without an answer.
const LATER: [&str; 5] = [
    "age_low",
    "age_high",
    "speaker_recordings",
    "error_code",
    "error",
];

/// The first line.
pub fn header(dialect: Dialect, context: &Context) -> String {
    let mut fields = vec!["file".to_owned()];
    if context.by_segment {
        fields.extend(SEGMENT.map(str::to_owned));
    }
    fields.push("strongest".to_owned());
    fields.extend(context.emotions.iter().map(|e| text(e)));
    fields.extend(context.emotions.iter().map(|e| text(&format!("{e}_std"))));
    fields.extend(AGE.map(str::to_owned));
    fields.extend(context.genders.iter().map(|g| text(g)));
    fields.extend(VOICE.map(str::to_owned));
    fields.extend(LATER.map(str::to_owned));
    dialect.start().to_owned() + &join(dialect, &fields)
}

/// A recording's line, or a line for each of its segments. Without an answer all fields but the
/// first and the last two are empty.
pub fn row(
    dialect: Dialect,
    context: &Context,
    file: &str,
    outcome: Result<&Prediction, &NoAnswer>,
) -> String {
    match outcome {
        Ok(p) if context.by_segment && !p.segments.is_empty() => {
            let rows = p.segments.iter().enumerate().map(|(i, s)| {
                let place = [
                    (i + 1).to_string(),
                    s.time.start.to_string(),
                    s.time.end.to_string(),
                ];
                let said = Said {
                    emotions: &s.emotions,
                    age: s.age,
                    gender: &s.gender,
                    voiced: s.voiced,
                };
                answered(dialect, context, file, &place, &said, p)
            });
            rows.collect()
        }
        Ok(p) => {
            let place = match context.by_segment {
                true => vec![
                    "1".to_owned(),
                    p.voice.analysed.start.to_string(),
                    p.voice.analysed.end.to_string(),
                ],
                false => Vec::new(),
            };
            let said = Said {
                emotions: &p.emotions,
                age: p.age,
                gender: &p.gender,
                voiced: p.voice.voiced,
            };
            answered(dialect, context, file, &place, &said, p)
        }
        Err(error) => {
            let segment = if context.by_segment { SEGMENT.len() } else { 0 };
            let labels = 2 * context.emotions.len() + context.genders.len();
            let empty = segment + 1 + labels + AGE.len() + VOICE.len() + LATER.len() - 2;
            let mut fields = vec![text(file)];
            fields.resize(1 + empty, String::new());
            fields.extend([error.code.name().to_owned(), text(&error.message)]);
            join(dialect, &fields)
        }
    }
}

/// The answer for a recording or for one of its segments.
struct Said<'a> {
    emotions: &'a [Estimate],
    age: Age,
    gender: &'a [f64],
    voiced: f64,
}

fn answered(
    dialect: Dialect,
    context: &Context,
    file: &str,
    place: &[String],
    said: &Said<'_>,
    p: &Prediction,
) -> String {
    let optional = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let (voice, age) = (&p.voice, said.age);
    let warnings: Vec<&str> = p.warnings.iter().map(|w| w.code()).collect();
    let mut fields = vec![text(file)];
    fields.extend_from_slice(place);
    fields.push(text(largest(&context.emotions, said.emotions).0));
    fields.extend(said.emotions.iter().map(|e| e.mean.to_string()));
    fields.extend(said.emotions.iter().map(|e| e.std.to_string()));
    fields.push(age.years.to_string());
    fields.push(optional(age.spread));
    fields.push(group_name(age).to_owned());
    fields.extend(said.gender.iter().map(f64::to_string));
    fields.extend([
        voice.duration.to_string(),
        voice.sample_rate.to_string(),
        voice.channels.to_string(),
        text(&voice.format),
        voice.analysed.start.to_string(),
        voice.analysed.end.to_string(),
        said.voiced.to_string(),
        warnings.join(" "),
        optional(age.interval.map(|i| i.low)),
        optional(age.interval.map(|i| i.high)),
        (p.speaker).map_or_else(String::new, |s| s.recordings.to_string()),
        String::new(),
        String::new(),
    ]);
    join(dialect, &fields)
}

fn join(dialect: Dialect, fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|f| quote(f)).collect();
    fields.join(",") + dialect.line_end()
}

/// A text that no spreadsheet takes for a formula.
fn text(field: &str) -> String {
    let is_formula =
        field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    // Standard input, whose name is no formula.
    match is_formula && field != STANDARD_INPUT {
        true => format!("'{field}"),
        false => field.to_owned(),
    }
}

fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_look_like_formulas_are_kept_from_being_any() {
        for harmful in [
            "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "--",
        ] {
            assert_eq!(text(harmful), format!("'{harmful}"));
        }
        for harmless in ["a=1", "", "-", "'=1", "목소리.wav", "1-2"] {
            assert_eq!(text(harmless), harmless);
        }
    }
}
