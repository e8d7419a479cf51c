//! A label track as Audacity imports it: start, end and text of a label, separated by tabs. Labels
//! may overlap (Audacity's manual, "Importing and exporting labels").

use std::fmt::Write;
use std::ops::Range;

use super::{Context, printable, short, timeline};
use crate::prediction::Prediction;

/// The document of one recording: the answer, each of several segments,
/// each window and each stretch of speech, in the order
/// of their beginnings.
pub fn document(context: &Context, p: &Prediction) -> String {
    let mut labels: Vec<(Range<f64>, String)> =
        vec![(p.voice.analysed.clone(), short::answer(context, p))];
    let segments = timeline::segments(context, p);
    // A single one has the answer for the recording.
    if segments.len() > 1 {
        let labels_of = segments.into_iter();
        labels.extend(labels_of.map(|(time, s)| (time, short::segment(context, s))));
    }
    let windows = p.windows.iter();
    labels.extend(windows.map(|w| (w.time.clone(), short::window(context, w))));
    let speech = timeline::speech(p).into_iter();
    labels.extend(speech.map(|s| (s, "speech".to_owned())));
    for (time, _) in &mut labels {
        time.start = time.start.clamp(0.0, p.voice.duration.max(0.0));
        time.end = time.end.clamp(time.start, p.voice.duration.max(time.start));
    }
    // Stable: of labels that begin together the answer comes first.
    labels.sort_by(|a, b| a.0.start.total_cmp(&b.0.start));
    let mut text = String::new();
    for (time, label) in labels {
        let label = printable(&label);
        writeln!(text, "{:.6}\t{:.6}\t{label}", time.start, time.end)
            .expect("a string takes everything");
    }
    text
}
