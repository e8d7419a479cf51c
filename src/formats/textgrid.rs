//! Praat's TextGrid in its long text form, with the blanks at the ends of lines that Praat writes.
//!
//! Praat's manual, "TextGrid file formats": intervals follow each other without gaps from the
//! tier's beginning to its end, and a quotation mark in a text is doubled.

use std::fmt::Write;
use std::ops::Range;

use super::timeline::{self, Cell};
use super::{Context, printable, short};
use crate::prediction::Prediction;

struct Tier {
    name: &'static str,
    intervals: Vec<(Range<f64>, String)>,
}

/// The document of one recording.
pub fn document(context: &Context, p: &Prediction) -> String {
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

/// Tiers about windows are left out where the model says nothing about them.
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
            vec![(p.voice.analysed.clone(), short::answer(context, p))],
        ),
    ];
    let mut of_cells = |name, label: &dyn Fn(&Cell) -> Option<String>| {
        let labelled = cells
            .iter()
            .filter_map(|c| Some((c.time.clone(), label(c)?)));
        let labelled: Vec<(Range<f64>, String)> = labelled.collect();
        if !labelled.is_empty() {
            tiers.push(tier(name, p, "", labelled));
        }
    };
    of_cells("emotion", &|c| {
        short::weight(&context.emotions, &c.emotions)
    });
    of_cells("age", &|c| c.age.map(|years| format!("{years:.1}")));
    of_cells("gender", &|c| short::weight(&context.genders, &c.gender));
    let segments = timeline::segments(context, p);
    if !segments.is_empty() {
        let labelled = segments
            .into_iter()
            .map(|(time, s)| (time, short::segment(context, s)));
        tiers.push(tier("segments", p, "", labelled.collect()));
    }
    tiers
}

/// A tier over the whole recording; `filler` stands where no labelled stretch lies. The stretches
/// are in order; what overlaps or lies outside is cut off.
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
