//! One row per recording; fields are quoted as RFC 4180 says where they need it, lines end with a
//! line feed alone.

use super::{Context, group_name};
use crate::prediction::Prediction;

/// Columns that every answer has, between those that the model names.
const AGE: [&str; 3] = ["age", "age_spread", "age_group"];
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

/// The first line.
pub fn header(context: &Context) -> String {
    let mut fields = vec!["file".to_owned(), "strongest".to_owned()];
    fields.extend(context.emotions.iter().cloned());
    fields.extend(context.emotions.iter().map(|e| format!("{e}_std")));
    fields.extend(AGE.map(str::to_owned));
    fields.extend(context.genders.iter().cloned());
    fields.extend(VOICE.map(str::to_owned));
    fields.push("error".to_owned());
    join(&fields)
}

/// One recording's line. Without an answer all fields but the first and the last are empty.
pub fn row(context: &Context, file: &str, outcome: Result<&Prediction, &str>) -> String {
    let answers = 1 + 2 * context.emotions.len() + AGE.len() + context.genders.len() + VOICE.len();
    let mut fields = vec![file.to_owned()];
    match outcome {
        Ok(p) => {
            let voice = &p.voice;
            let warnings: Vec<&str> = p.warnings.iter().map(|w| w.code()).collect();
            fields.push(context.strongest(p).to_owned());
            fields.extend(p.emotions.iter().map(|e| e.mean.to_string()));
            fields.extend(p.emotions.iter().map(|e| e.std.to_string()));
            fields.push(p.age.years.to_string());
            fields.push(p.age.spread.map_or_else(String::new, |s| s.to_string()));
            fields.push(group_name(p.age).to_owned());
            fields.extend(p.gender.iter().map(f64::to_string));
            fields.extend([
                voice.duration.to_string(),
                voice.sample_rate.to_string(),
                voice.channels.to_string(),
                voice.format.clone(),
                voice.analysed.start.to_string(),
                voice.analysed.end.to_string(),
                voice.voiced.to_string(),
                warnings.join(" "),
                String::new(),
            ]);
        }
        Err(error) => {
            fields.resize(1 + answers, String::new());
            fields.push(error.to_owned());
        }
    }
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
