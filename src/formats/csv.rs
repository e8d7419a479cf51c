//! CSV: one row per recording, fields quoted by RFC 4180.
//!
//! Spreadsheets evaluate a cell as a formula if its text begins with certain characters, and file
//! names are untrusted. Such a text gets an apostrophe in front, by the advice of the Open
//! Worldwide Application Security Project (CSV Injection). Numbers stay unchanged.

use super::{Context, RecordingError, STANDARD_INPUT, group_name, largest};
use crate::prediction::{Age, Estimate, Prediction};

/// Variant of the text encoding and line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Lines end with a line feed alone.
    Plain,
    /// Excel: a byte order mark identifies UTF-8, and lines end with CR LF (RFC 4180).
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

/// Age columns, between the emotion and the gender columns.
const AGE: [&str; 3] = ["age", "age_spread", "age_group"];
/// Additional columns of a segment's row.
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

/// Columns at the end. The last two are filled only for a failed recording.
const LAST: [&str; 5] = [
    "age_low",
    "age_high",
    "speaker_recordings",
    "error_code",
    "error",
];

/// Returns the header line.
pub fn header(dialect: Dialect, context: &Context) -> String {
    let mut fields = vec!["file".to_owned()];
    if context.segment_rows {
        fields.extend(SEGMENT.map(str::to_owned));
    }
    fields.push("strongest".to_owned());
    fields.extend(context.emotions.iter().map(|e| text(e)));
    fields.extend(context.emotions.iter().map(|e| text(&format!("{e}_std"))));
    fields.extend(AGE.map(str::to_owned));
    fields.extend(context.genders.iter().map(|g| text(g)));
    fields.extend(VOICE.map(str::to_owned));
    fields.extend(LAST.map(str::to_owned));
    dialect.start().to_owned() + &join(dialect, &fields)
}

/// Returns a recording's row, or one row per segment.
///
/// A failed recording has one row, in which only the file and the two error columns are filled.
pub fn row(
    dialect: Dialect,
    context: &Context,
    file: &str,
    outcome: Result<&Prediction, &RecordingError>,
) -> String {
    match outcome {
        Ok(p) if context.segment_rows && !p.segments.is_empty() => {
            let rows = p.segments.iter().enumerate().map(|(i, s)| {
                let place = [
                    (i + 1).to_string(),
                    s.time.start.to_string(),
                    s.time.end.to_string(),
                ];
                let estimates = Estimates {
                    emotions: &s.emotions,
                    age: s.age,
                    gender: &s.gender,
                    voiced: s.voiced,
                };
                estimate_row(dialect, context, file, &place, &estimates, p)
            });
            rows.collect()
        }
        Ok(p) => {
            let place = match context.segment_rows {
                true => vec![
                    "1".to_owned(),
                    p.voice.analysed.start.to_string(),
                    p.voice.analysed.end.to_string(),
                ],
                false => Vec::new(),
            };
            let estimates = Estimates {
                emotions: &p.emotions,
                age: p.age,
                gender: &p.gender,
                voiced: p.voice.voiced,
            };
            estimate_row(dialect, context, file, &place, &estimates, p)
        }
        Err(error) => {
            let segment = if context.segment_rows {
                SEGMENT.len()
            } else {
                0
            };
            let labels = 2 * context.emotions.len() + context.genders.len();
            let empty = segment + 1 + labels + AGE.len() + VOICE.len() + LAST.len() - 2;
            let mut fields = vec![text(file)];
            fields.resize(1 + empty, String::new());
            fields.extend([error.code.name().to_owned(), text(&error.message)]);
            join(dialect, &fields)
        }
    }
}

/// Estimates for a recording or for one of its segments.
struct Estimates<'a> {
    emotions: &'a [Estimate],
    age: Age,
    gender: &'a [f64],
    voiced: f64,
}

fn estimate_row(
    dialect: Dialect,
    context: &Context,
    file: &str,
    place: &[String],
    estimates: &Estimates<'_>,
    p: &Prediction,
) -> String {
    let optional = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let (voice, age) = (&p.voice, estimates.age);
    let warnings: Vec<&str> = p.warnings.iter().map(|w| w.code()).collect();
    let mut fields = vec![text(file)];
    fields.extend_from_slice(place);
    fields.push(text(largest(&context.emotions, estimates.emotions).0));
    fields.extend(estimates.emotions.iter().map(|e| e.mean.to_string()));
    fields.extend(estimates.emotions.iter().map(|e| e.std.to_string()));
    fields.push(age.years.to_string());
    fields.push(optional(age.spread));
    fields.push(group_name(age).to_owned());
    fields.extend(estimates.gender.iter().map(f64::to_string));
    fields.extend([
        voice.duration.to_string(),
        voice.sample_rate.to_string(),
        voice.channels.to_string(),
        text(&voice.format),
        voice.analysed.start.to_string(),
        voice.analysed.end.to_string(),
        estimates.voiced.to_string(),
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

/// Returns `field` with an apostrophe in front if spreadsheets would evaluate it as a formula.
fn text(field: &str) -> String {
    let is_formula =
        field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    // The name of standard input is a dash alone, which is no formula.
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
    fn texts_that_look_like_formulas_are_escaped() {
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
