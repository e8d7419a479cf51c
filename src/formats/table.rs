//! Text table: one block per recording.

use std::fmt::Write;
use std::ops::Range;

use super::timeline::strongest;
use super::{Context, ErrorCode, RecordingError, group_name, largest, printable};
use crate::nn::DropoutMode;
use crate::prediction::{Prediction, Speaker};

/// Length of a bar of 100 %, in characters.
const BAR: usize = 40;
/// Left edge of the values, after the headings.
const INDENT: usize = 11;

/// Returns the block of one recording; an empty line separates blocks.
pub fn block(
    context: &Context,
    file: &str,
    outcome: Result<&Prediction, &RecordingError>,
    first: bool,
) -> String {
    let mut text = String::new();
    if !first {
        text.push('\n');
    }
    text.push_str(&printable(file));
    text.push('\n');
    match outcome {
        Ok(prediction) => estimates(&mut text, context, prediction),
        Err(RecordingError {
            code: ErrorCode::NoSpeech,
            ..
        }) => row(&mut text, "answer", "no speech"),
        Err(error) => row(&mut text, "error", &printable(&error.message)),
    }
    text
}

/// Returns the terms of use, one line per licence.
pub fn licences(context: &Context) -> String {
    let mut text = String::new();
    for licence in &context.licences {
        writeln!(
            text,
            "{}: {} ({})",
            printable(&licence.estimates.join(", ")),
            printable(&licence.terms),
            printable(&licence.licence)
        )
        .expect("a string takes everything");
    }
    text
}

fn row(text: &mut String, heading: &str, value: &str) {
    writeln!(text, "  {heading:<width$}{value}", width = INDENT - 2)
        .expect("a string takes everything");
}

fn estimates(text: &mut String, context: &Context, p: &Prediction) {
    emotions(text, context, p);
    row(text, "age", &age(p));
    row(text, "gender", &gender(context, p));
    row(text, "voice", &voice(p));
    if let Some(speaker) = &p.speaker {
        row(text, "speaker", &speaker_profile(speaker));
    }
    segments(text, context, p);
    for warning in &p.warnings {
        row(text, "warning", &warning.to_string());
    }
}

/// Returns the age in years, or its range, with the age group.
pub fn age(p: &Prediction) -> String {
    let mut age = format!("{:.1} years", p.age.years);
    if let (Some(spread), windows @ 2..) = (p.age.spread, p.windows.len()) {
        age += &format!(" ± {spread:.1} over {windows} windows");
    }
    if let Some(error) = p.age.error {
        let (low, high) = ((p.age.years - error).max(0.0), p.age.years + error);
        age = format!("{low:.0} to {high:.0} years (typical error {error:.1})");
    }
    if let Some(interval) = p.age.interval {
        age = format!(
            "{:.1} years, {:.0} to {:.0} for {:.0} % of speakers",
            p.age.years,
            interval.low.max(0.0),
            interval.high,
            interval.coverage * 100.0,
        );
    }
    format!("{age}, group {}", group_name(p.age))
}

/// Returns the description of the speaker profile that the emotions are relative to.
pub fn speaker_profile(speaker: &Speaker) -> String {
    let recordings = match speaker.recordings {
        1 => "1 recording".into(),
        n => format!("{n} recordings"),
    };
    format!(
        "emotions are relative to this speaker's {recordings} ({:.0} s)",
        speaker.seconds
    )
}

/// Writes one row per segment if there are several.
fn segments(text: &mut String, context: &Context, p: &Prediction) {
    if p.segments.len() < 2 {
        return;
    }
    for (i, segment) in p.segments.iter().enumerate() {
        let heading = if i == 0 { "segments" } else { "" };
        let (emotion, weight) = largest(&context.emotions, &segment.emotions);
        let gender = strongest(&context.genders, &segment.gender);
        let gender = gender.map_or_else(String::new, |(name, share)| {
            format!(", {} {:.1} %", printable(name), share * 100.0)
        });
        let value = format!(
            "{:.2} to {:.2} s: {} {:.1} %, {:.1} years{gender}",
            segment.time.start,
            segment.time.end,
            printable(emotion),
            weight * 100.0,
            segment.age.years,
        );
        row(text, heading, &value);
    }
}

/// Returns every gender's weight, the largest first.
pub fn gender(context: &Context, p: &Prediction) -> String {
    let mut genders: Vec<(&String, f64)> = context
        .genders
        .iter()
        .zip(p.gender.iter().copied())
        .collect();
    genders.sort_by(|a, b| b.1.total_cmp(&a.1));
    let genders: Vec<String> = genders
        .iter()
        .map(|(name, share)| format!("{} {:.1} %", printable(name), share * 100.0))
        .collect();
    let genders = genders.join(", ");
    format!("{genders} (voice-based estimate)")
}

/// Returns the number of random draws behind the mean weights, if there are several.
pub fn draws(p: &Prediction) -> Option<u32> {
    match &p.dropout {
        DropoutMode::Draws { n, .. } if n.get() > 1 => Some(n.get()),
        _ => None,
    }
}

/// Writes the emotion weights, the largest first.
fn emotions(text: &mut String, context: &Context, p: &Prediction) {
    let names: Vec<String> = context.emotions.iter().map(|n| printable(n)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..p.emotions.len()).collect();
    order.sort_by(|&a, &b| p.emotions[b].mean.total_cmp(&p.emotions[a].mean));
    let draws = draws(p);
    for (place, &i) in order.iter().enumerate() {
        let estimate = p.emotions[i];
        let percent = estimate.mean * 100.0;
        let deviation = match draws {
            Some(_) => format!(" ± {:>4.1}", estimate.std * 100.0),
            None => String::new(),
        };
        let heading = if place == 0 { "emotion" } else { "" };
        let value = format!(
            "{:<width$}  {percent:>5.1} %{deviation}  {}",
            names[i],
            bar(estimate.mean)
        );
        row(text, heading, value.trim_end());
    }
    if let Some(n) = draws {
        row(
            text,
            "",
            &format!("(± over {n} random draws of the network)"),
        );
    }
}

/// Returns a bar in steps of an eighth of a character.
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// Returns the voiced and analysed durations and the audio format.
pub fn voice(p: &Prediction) -> String {
    let voice = &p.voice;
    let span = |s: &Range<f64>| format!("{:.2} to {:.2} s", s.start, s.end);
    let analysed = match voice.trimmed {
        true => format!("analysed {}", span(&voice.analysed)),
        false => "analysed all of it".into(),
    };
    let mut channels = match voice.channels {
        1 => "mono".into(),
        2 => "stereo".into(),
        n => format!("{n} channels"),
    };
    if let Some(channel) = voice.channel {
        channels += &format!(", channel {channel}");
    }
    format!(
        "{:.2} s voiced of {:.2} s, {analysed}; {}, {} Hz, {channels}",
        voice.voiced,
        voice.duration,
        printable(&voice.format),
        voice.sample_rate,
    )
}
