//! Label formats for speech tools: Audacity label tracks, Praat's TextGrid and NIST's RTTM.

use std::fmt::Write;
use std::ops::Range;

use super::timeline::{self, Cell, strongest};
use super::{Context, group_name, printable};
use crate::prediction::{Prediction, Segment, Window};

/// Returns the Audacity label track of one recording: start, end and text of each label, separated by
/// tabs and ordered by start time.
///
/// The labels are the result for the recording, each segment if there are several, each window and
/// each stretch of speech. They may overlap. Source: Audacity's manual, "Importing and exporting
/// labels".
pub fn audacity(context: &Context, p: &Prediction) -> String {
    let mut labels: Vec<(Range<f64>, String)> =
        vec![(p.voice.analysed.clone(), recording_label(context, p))];
    let segments = timeline::segments(context, p);
    // A single segment repeats the result for the recording.
    if segments.len() > 1 {
        let labels_of = segments.into_iter();
        labels.extend(labels_of.map(|(time, s)| (time, segment_label(context, s))));
    }
    let windows = p.windows.iter();
    labels.extend(windows.map(|w| (w.time.clone(), window_label(context, w))));
    let speech = timeline::speech(p).into_iter();
    labels.extend(speech.map(|s| (s, "speech".to_owned())));
    for (time, _) in &mut labels {
        time.start = time.start.clamp(0.0, p.voice.duration.max(0.0));
        time.end = time.end.clamp(time.start, p.voice.duration.max(time.start));
    }
    // The sort is stable: the label of the whole recording comes first among equal starts.
    labels.sort_by(|a, b| a.0.start.total_cmp(&b.0.start));
    let mut text = String::new();
    for (time, label) in labels {
        let label = printable(&label);
        writeln!(text, "{:.6}\t{:.6}\t{label}", time.start, time.end)
            .expect("a string takes everything");
    }
    text
}

/// Interval tier of a TextGrid.
struct Tier {
    name: &'static str,
    intervals: Vec<(Range<f64>, String)>,
}

/// Returns the TextGrid of one recording in Praat's long text form, including the blanks that Praat
/// writes at line ends.
///
/// The intervals of a tier cover the recording without gaps, and a quotation mark in a text is
/// doubled. Source: Praat's manual, "TextGrid file formats".
pub fn textgrid(context: &Context, p: &Prediction) -> String {
    let tiers = tiers(context, p);
    let end = p.voice.duration;
    let mut text = String::from("File type = \"ooTextFile\"\nObject class = \"TextGrid\"\n\n");
    write!(
        text,
        "xmin = 0 \nxmax = {end} \ntiers? <exists> \nsize = {} \nitem []: \n",
        tiers.len()
    )
    .expect("a string takes everything");
    for (i, tier) in tiers.iter().enumerate() {
        write_tier(&mut text, i + 1, tier, end).expect("a string takes everything");
    }
    text
}

fn write_tier(text: &mut String, number: usize, tier: &Tier, end: f64) -> std::fmt::Result {
    writeln!(text, "    item [{number}]:")?;
    writeln!(text, "        class = \"IntervalTier\" ")?;
    writeln!(text, "        name = \"{}\" ", tier.name)?;
    writeln!(text, "        xmin = 0 \n        xmax = {end} ")?;
    writeln!(text, "        intervals: size = {} ", tier.intervals.len())?;
    for (i, (time, label)) in tier.intervals.iter().enumerate() {
        let label = printable(label).replace('"', "\"\"");
        writeln!(text, "        intervals [{}]:", i + 1)?;
        writeln!(text, "            xmin = {} ", time.start)?;
        writeln!(text, "            xmax = {} ", time.end)?;
        writeln!(text, "            text = \"{label}\" ")?;
    }
    Ok(())
}

/// Returns the tiers, without those that the model has no values for.
fn tiers(context: &Context, p: &Prediction) -> Vec<Tier> {
    let cells = timeline::cells(p);
    let speech = timeline::speech(p);
    let speech = speech.into_iter().map(|s| (s, "speech".to_owned()));
    let mut tiers = vec![
        tier("speech", p, "silence", speech.collect()),
        tier(
            "answer",
            p,
            "",
            vec![(p.voice.analysed.clone(), recording_label(context, p))],
        ),
    ];
    let mut add_tier = |name, label: &dyn Fn(&Cell) -> Option<String>| {
        let labelled = cells
            .iter()
            .filter_map(|c| Some((c.time.clone(), label(c)?)));
        let labelled: Vec<(Range<f64>, String)> = labelled.collect();
        if !labelled.is_empty() {
            tiers.push(tier(name, p, "", labelled));
        }
    };
    add_tier("emotion", &|c| weight_label(&context.emotions, &c.emotions));
    add_tier("age", &|c| c.age.map(|years| format!("{years:.1}")));
    add_tier("gender", &|c| weight_label(&context.genders, &c.gender));
    let segments = timeline::segments(context, p);
    if !segments.is_empty() {
        let labelled = segments
            .into_iter()
            .map(|(time, s)| (time, segment_label(context, s)));
        tiers.push(tier("segments", p, "", labelled.collect()));
    }
    tiers
}

/// Returns a tier over the whole recording, with `filler` between the labelled stretches.
///
/// The stretches are in order. Overlaps and parts outside the recording are cut off.
fn tier(
    name: &'static str,
    p: &Prediction,
    filler: &str,
    labelled: Vec<(Range<f64>, String)>,
) -> Tier {
    let duration = p.voice.duration;
    let mut intervals = Vec::new();
    let mut at = 0.0;
    for (time, label) in labelled {
        let (start, end) = (time.start.max(at), time.end.min(duration));
        if start >= end {
            continue;
        }
        if start > at {
            intervals.push((at..start, filler.to_owned()));
        }
        intervals.push((start..end, label));
        at = end;
    }
    if at < duration {
        intervals.push((at..duration, filler.to_owned()));
    }
    Tier { name, intervals }
}

/// RTTM speaker name if the model has no genders.
const NO_GENDER: &str = "speaker";

/// Returns the lines in NIST's Rich Transcription Time Marked format: one per segment, with the
/// segment's most likely gender as the speaker's name.
///
/// A line has ten fields separated by blanks. `SPEAKER` lines use the file, its channel, start and
/// duration in seconds, the speaker's name and the confidence. Source: "The 2009 (RT-09) Rich
/// Transcription Meeting Recognition Evaluation Plan", appendix A.
///
/// A model that does not divide recordings has one line per stretch of speech, with the recording's
/// gender. A recording without speech has no lines. `file` is the recording's name in the lines.
/// Errors and notices have no place: RTTM has no comments that all readers skip.
pub fn rttm(context: &Context, file: &str, p: &Prediction) -> String {
    let file = rttm_field(file);
    let speech = timeline::speech(p);
    let turns: Vec<(Range<f64>, &[f64])> = match context.has_segments {
        _ if speech.is_empty() => Vec::new(),
        true => {
            let segments = timeline::segments(context, p).into_iter();
            segments.map(|(time, s)| (time, &*s.gender)).collect()
        }
        false => speech.into_iter().map(|s| (s, &*p.gender)).collect(),
    };
    let mut text = String::new();
    for (span, gender) in turns {
        let (name, confidence) = match strongest(&context.genders, gender) {
            Some((name, weight)) => (rttm_field(name), format!("{:.4}", weight.clamp(0.0, 1.0))),
            None => (NO_GENDER.into(), "<NA>".into()),
        };
        let milliseconds = |t: f64| (t * 1000.0).round() / 1000.0;
        let (start, end) = (milliseconds(span.start), milliseconds(span.end));
        // Readers refuse a turn of zero duration.
        if start < end {
            let duration = end - start;
            writeln!(
                text,
                "SPEAKER {file} 1 {start:.3} {duration:.3} <NA> <NA> {name} {confidence} <NA>"
            )
            .expect("a string takes everything");
        }
    }
    text
}

/// Returns `text` as one RTTM field, with blanks, which separate fields, and quotation marks, which some
/// readers parse, replaced.
fn rttm_field(text: &str) -> String {
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
        true => NO_GENDER.into(),
        false => field,
    }
}

/// Returns the largest weight with its name, such as `neutral 0.42`.
fn weight_label(names: &[String], weights: &[f64]) -> Option<String> {
    strongest(names, weights).map(|(name, weight)| format!("{name} {weight:.2}"))
}

/// Returns the label of a recording, such as `neutral 0.26, 28.8 years (20-29), female 1.00`.
fn recording_label(context: &Context, p: &Prediction) -> String {
    let emotions: Vec<f64> = p.emotions.iter().map(|e| e.mean).collect();
    let age = format!("{:.1} years ({})", p.age.years, group_name(p.age));
    let parts = [
        weight_label(&context.emotions, &emotions),
        Some(age),
        weight_label(&context.genders, &p.gender),
    ];
    join(parts)
}

/// Returns the label of a window, such as `neutral 0.42, 28.5 years, female 0.88`, without the
/// parts that the model does not estimate.
fn window_label(context: &Context, window: &Window) -> String {
    join([
        weight_label(&context.emotions, &window.emotions),
        window.age.map(|years| format!("{years:.1} years")),
        weight_label(&context.genders, &window.gender),
    ])
}

/// Returns the label of a segment, such as `neutral 0.42, 28.5 years, female 0.88`.
fn segment_label(context: &Context, segment: &Segment) -> String {
    let emotions: Vec<f64> = segment.emotions.iter().map(|e| e.mean).collect();
    join([
        weight_label(&context.emotions, &emotions),
        Some(format!("{:.1} years", segment.age.years)),
        weight_label(&context.genders, &segment.gender),
    ])
}

fn join(parts: [Option<String>; 3]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}
