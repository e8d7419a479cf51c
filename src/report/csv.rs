//! One row per recording; fields are quoted as RFC 4180 says where they need it, lines end with a
//! line feed alone.

use super::{Context, NoAnswer, group_name, largest};
use crate::prediction::{Age, Estimate, Prediction};

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
pub fn header(context: &Context) -> String {
    let mut fields = vec!["file".to_owned()];
    if context.by_segment {
        fields.extend(SEGMENT.map(str::to_owned));
    }
    fields.push("strongest".to_owned());
    fields.extend(context.emotions.iter().cloned());
    fields.extend(context.emotions.iter().map(|e| format!("{e}_std")));
    fields.extend(AGE.map(str::to_owned));
    fields.extend(context.genders.iter().cloned());
    fields.extend(VOICE.map(str::to_owned));
    fields.extend(LATER.map(str::to_owned));
    join(&fields)
}

/// A recording's line, or a line for each of its segments. Without an answer all fields but the
/// first and the last two are empty.
pub fn row(context: &Context, file: &str, outcome: Result<&Prediction, &NoAnswer>) -> String {
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
                answered(context, file, &place, &said, p)
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
            answered(context, file, &place, &said, p)
        }
        Err(error) => {
            let segment = if context.by_segment { SEGMENT.len() } else { 0 };
            let labels = 2 * context.emotions.len() + context.genders.len();
            let empty = segment + 1 + labels + AGE.len() + VOICE.len() + LATER.len() - 2;
            let mut fields = vec![file.to_owned()];
            fields.resize(1 + empty, String::new());
            fields.extend([error.code.name().to_owned(), error.message.clone()]);
            join(&fields)
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
    context: &Context,
    file: &str,
    place: &[String],
    said: &Said<'_>,
    p: &Prediction,
) -> String {
    let optional = |x: Option<f64>| x.map_or_else(String::new, |x| x.to_string());
    let (voice, age) = (&p.voice, said.age);
    let warnings: Vec<&str> = p.warnings.iter().map(|w| w.code()).collect();
    let mut fields = vec![file.to_owned()];
    fields.extend_from_slice(place);
    fields.push(largest(&context.emotions, said.emotions).0.to_owned());
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
        voice.format.clone(),
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
    join(&fields)
}

fn join(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|f| quote(f)).collect();
    fields.join(",") + "\n"
}

fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
