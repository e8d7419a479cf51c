//! One row per recording; fields are quoted as RFC 4180 says where they need it.
//!
//! A spreadsheet takes a cell for a formula if its text begins with certain characters, and the
//! names of files come from anywhere. Such a text is given an apostrophe in front, as the Open
//! Worldwide Application Security Project advises (CSV Injection). Numbers stay as they are.

use super::inputs::STANDARD_INPUT;
use super::{Context, group_name};
use crate::prediction::Prediction;

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
pub fn header(dialect: Dialect, context: &Context) -> String {
    let mut fields = vec!["file".to_owned(), "strongest".to_owned()];
    fields.extend(context.emotions.iter().map(|e| text(e)));
    fields.extend(context.emotions.iter().map(|e| text(&format!("{e}_std"))));
    fields.extend(AGE.map(str::to_owned));
    fields.extend(context.genders.iter().map(|g| text(g)));
    fields.extend(VOICE.map(str::to_owned));
    fields.push("error".to_owned());
    dialect.start().to_owned() + &join(dialect, &fields)
}

/// One recording's line. Without an answer all fields but the first and the last are empty.
pub fn row(
    dialect: Dialect,
    context: &Context,
    file: &str,
    outcome: Result<&Prediction, &str>,
) -> String {
    let answers = 1 + 2 * context.emotions.len() + AGE.len() + context.genders.len() + VOICE.len();
    let mut fields = vec![text(file)];
    match outcome {
        Ok(p) => {
            let voice = &p.voice;
            let warnings: Vec<&str> = p.warnings.iter().map(|w| w.code()).collect();
            fields.push(text(context.strongest(p)));
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
                text(&voice.format),
                voice.analysed.start.to_string(),
                voice.analysed.end.to_string(),
                voice.voiced.to_string(),
                warnings.join(" "),
                String::new(),
            ]);
        }
        Err(error) => {
            fields.resize(1 + answers, String::new());
            fields.push(text(error));
        }
    }
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
