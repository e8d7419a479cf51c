//! NIST's Rich Transcription Time Marked format, as "The 2009 (RT-09) Rich Transcription Meeting
//! Recognition Evaluation Plan", appendix A, defines it: ten fields separated by blanks, of which
//! `SPEAKER` lines use the file, its channel, beginning and duration in seconds, the speaker's name
//! and how sure that is.

use std::fmt::Write;
use std::ops::Range;

use super::timeline::{self, strongest};
use super::{Context, printable};
use crate::prediction::Prediction;

/// What stands in the name's place if the model says no gender.
const NAMELESS: &str = "speaker";

/// A line per segment, with the gender that it sounds like; of a model that does not divide recordings,
/// a line per stretch of speech with that of the recording. None for a recording without speech.
/// `file` is what the lines call the recording. The format has no comments or other lines that all
/// its readers pass over.
pub fn lines(context: &Context, file: &str, p: &Prediction) -> String {
    let file = field(file);
    let speech = timeline::speech(p);
    let turns: Vec<(Range<f64>, &[f64])> = match context.divides {
        _ if speech.is_empty() => Vec::new(),
        true => {
            let segments = timeline::segments(context, p).into_iter();
            segments.map(|(time, s)| (time, &*s.gender)).collect()
        }
        false => speech.into_iter().map(|s| (s, &*p.gender)).collect(),
    };
    let mut text = String::new();
    for (span, gender) in turns {
        let (name, sure) = match strongest(&context.genders, gender) {
            Some((name, weight)) => (field(name), format!("{:.4}", weight.clamp(0.0, 1.0))),
            None => (NAMELESS.into(), "<NA>".into()),
        };
        let milliseconds = |t: f64| (t * 1000.0).round() / 1000.0;
        let (start, end) = (milliseconds(span.start), milliseconds(span.end));
        // Readers refuse a turn without a duration.
        if start < end {
            let duration = end - start;
            writeln!(
                text,
                "SPEAKER {file} 1 {start:.3} {duration:.3} <NA> <NA> {name} {sure} <NA>"
            )
            .expect("a string takes everything");
        }
    }
    text
}

/// `text` as one field: neither blanks, which separate fields, nor quotation marks, which some
/// readers take for the beginning of a quoted field.
fn field(text: &str) -> String {
    let text = printable(text);
    let field: String = text
        .chars()
        .map(|c| match c {
            c if c.is_whitespace() => '_',
            '"' | '\u{FFFD}' => '_',
            c => c,
        })
        .collect();
    match field.is_empty() {
        true => NAMELESS.into(),
        false => field,
    }
}
