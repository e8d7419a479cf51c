//! Evaluation as aligned text tables.

use std::fmt::Write;

use super::measure::{Calibration, Confusion};
use super::{Classification, Evaluation, Group, Results};
use crate::formats::printable;

/// Placeholder for a missing value.
const MISSING: &str = "-";

pub fn text(e: &Evaluation) -> String {
    let mut out = String::new();
    let split = match &e.split {
        Some(split) => format!("split {split}"),
        None => "all splits".into(),
    };
    line(&mut out, &format!("Evaluation on {}, {split}", e.manifest));
    line(&mut out, &format!("Model      {}", e.model));
    line(&mut out, &format!("SHA-256    {}", e.sha256));
    let counts = format!(
        "Recordings {}, of which {} have no answer; {} speakers",
        e.recordings,
        e.failures.len(),
        e.pooled.speakers
    );
    line(&mut out, &counts);

    let mut overall: Vec<(&str, &Results)> = e.corpora.iter().map(of_group).collect();
    overall.push(("pooled", &e.pooled));
    quality(&mut out, &overall);
    for (name, results) in &overall {
        if let Some(emotion) = &results.emotion {
            heading(
                &mut out,
                &format!("Emotions, {name}: rows are the truth, columns the answers"),
            );
            confusion(&mut out, &emotion.confusion, &emotion.recalls);
        }
    }
    further_measures(&mut out, &overall);
    profile_curves(&mut out, e);
    let (_, pooled) = overall[overall.len() - 1];
    for (title, genders) in [
        ("Genders, pooled, 12 years and more", &pooled.gender),
        ("Genders, pooled, under 12 years", &pooled.gender_under_12),
    ] {
        if let Some(genders) = genders {
            heading(&mut out, title);
            confusion(&mut out, &genders.confusion, &genders.recalls);
        }
    }
    if let Some(calibration) = &e.pooled.calibration {
        reliability(&mut out, calibration);
    }
    for (title, groups) in [
        ("By gender", &e.by_gender),
        ("By age", &e.by_age),
        ("By age band of the manifest", &e.by_age_band),
        ("By language", &e.by_language),
        ("By condition", &e.by_condition),
        ("By speaker", &e.by_speaker),
    ] {
        if !groups.is_empty() {
            heading(&mut out, title);
            group_table(&mut out, &Vec::from_iter(groups.iter().map(of_group)));
        }
    }
    if !e.failures.is_empty() {
        heading(&mut out, "Without an answer");
        for failure in &e.failures {
            line(&mut out, &failure.error);
        }
    }
    heading(&mut out, e.notice);
    out
}

fn of_group(group: &Group) -> (&str, &Results) {
    (&group.name, &group.results)
}

fn quality(out: &mut String, sets: &[(&str, &Results)]) {
    heading(
        out,
        "Emotion: unweighted average recall (UAR), share right, expected calibration error (ECE)",
    );
    let mut rows = vec![strings(&["", "n", "UAR", "right", "ECE"])];
    for (name, r) in sets {
        let mut row = vec![(*name).to_owned()];
        row.extend(classification(&r.emotion));
        row.push(number(r.calibration.as_ref().map(|c| c.expected_error), 3));
        rows.push(row);
    }
    table(out, &rows);
    for (name, r) in sets {
        if let Some([low, high]) = r.emotion.as_ref().and_then(|e| e.uar_interval) {
            let interval =
                format!("  95 % interval of UAR over speakers, {name}: {low:.3} to {high:.3}");
            line(out, &interval);
        }
    }

    heading(
        out,
        "Gender: 12 years and more or of unknown age, then children under 12",
    );
    let header = ["", "n", "UAR", "right", "children", "UAR", "right"];
    let mut rows = vec![strings(&header)];
    for (name, r) in sets {
        let mut row = vec![(*name).to_owned()];
        row.extend(classification(&r.gender));
        row.extend(classification(&r.gender_under_12));
        rows.push(row);
    }
    table(out, &rows);

    heading(
        out,
        "Age in years: absolute error, mean and median; bias (estimate minus truth)",
    );
    let mut rows = vec![strings(&["", "n", "mean", "median", "bias"])];
    for (name, r) in sets {
        let age = r.age.as_ref();
        rows.push(vec![
            (*name).to_owned(),
            age.map_or(0, |a| a.recordings).to_string(),
            number(age.map(|a| a.mean_absolute), 1),
            number(age.map(|a| a.median_absolute), 1),
            number(age.map(|a| a.bias), 1),
        ]);
    }
    table(out, &rows);
}

/// Returns count, unweighted average recall and accuracy.
fn classification(c: &Option<Classification>) -> [String; 3] {
    let c = c.as_ref();
    [
        c.map_or(0, |c| c.recordings).to_string(),
        number(c.map(|c| c.uar), 3),
        number(c.map(|c| c.accuracy), 3),
    ]
}

/// Writes the results among each corpus' emotions, at each coverage, of age intervals and of
/// recordings without speech.
fn further_measures(out: &mut String, sets: &[(&str, &Results)]) {
    heading(
        out,
        "Emotion among those that the corpus has; 95 % interval of UAR over speakers",
    );
    let mut rows = vec![strings(&["", "n", "UAR", "right", "from", "to"])];
    for (name, r) in sets {
        let mut row = vec![(*name).to_owned()];
        row.extend(classification(&r.emotion_in_corpus));
        row.extend(ends(
            r.emotion_in_corpus.as_ref().and_then(|e| e.uar_interval),
            3,
        ));
        rows.push(row);
    }
    table(out, &rows);

    heading(
        out,
        "Share right if only the surest 50, 70, 90 and 100 % of the recordings are answered",
    );
    let mut rows = vec![strings(&["", "50 %", "70 %", "90 %", "100 %"])];
    for (name, r) in sets {
        let mut row = vec![(*name).to_owned()];
        row.extend(r.coverage.iter().map(|c| number(Some(c.accuracy), 3)));
        rows.push(row);
    }
    table(out, &rows);

    heading(
        out,
        "Age: 95 % interval of the mean error over speakers; stated intervals, how often they hold the age, mean width in years",
    );
    let header = ["", "from", "to", "n", "stated", "hold", "width"];
    let mut rows = vec![strings(&header)];
    for (name, r) in sets {
        let mut row = vec![(*name).to_owned()];
        row.extend(ends(
            r.age.as_ref().and_then(|a| a.mean_absolute_interval),
            1,
        ));
        let interval = r.age_interval.as_ref();
        row.push(interval.map_or(0, |i| i.recordings).to_string());
        row.push(number(interval.map(|i| i.stated), 2));
        row.push(number(interval.map(|i| i.coverage), 3));
        row.push(number(interval.map(|i| i.mean_width), 1));
        rows.push(row);
    }
    table(out, &rows);

    heading(out, "Recordings without speech, which have no answer");
    let mut rows = vec![strings(&["", "n", "refused", "share"])];
    for (name, r) in sets {
        let share = (r.recordings > 0).then(|| r.refused as f64 / r.recordings as f64);
        rows.push(vec![
            (*name).to_owned(),
            r.recordings.to_string(),
            r.refused.to_string(),
            number(share, 3),
        ]);
    }
    table(out, &rows);
}

fn profile_curves(out: &mut String, e: &Evaluation) {
    if e.profiles.is_empty() {
        return;
    }
    heading(
        out,
        "UAR with profiles of so many of the speaker's other recordings, any or neutral ones",
    );
    let mut header = strings(&["", "of", "mean size", "n", "pooled"]);
    let names = e.corpora.iter().map(|c| &c.name);
    let names: Vec<&String> = names.collect();
    header.extend(names.iter().map(|n| n.to_string()));
    let mut rows = vec![header];
    for point in &e.profiles {
        let mut row = vec![
            point.size.to_string(),
            point.from.to_owned(),
            number(Some(point.mean_recordings), 1),
            point.pooled.recordings.to_string(),
            number(Some(point.pooled.uar), 3),
        ];
        row.extend(names.iter().map(|name| {
            let corpus = point.corpora.iter().find(|c| c.name == **name);
            number(corpus.map(|c| c.emotion.uar), 3)
        }));
        rows.push(row);
    }
    table(out, &rows);
}

fn ends(interval: Option<[f64; 2]>, decimals: usize) -> [String; 2] {
    match interval {
        Some(ends) => ends.map(|end| number(Some(end), decimals)),
        None => [MISSING.into(), MISSING.into()],
    }
}

fn group_table(out: &mut String, groups: &[(&str, &Results)]) {
    let header = [
        "", "n", "failed", "emotions", "UAR", "right", "genders", "right", "children", "right",
        "ages", "error",
    ];
    let mut rows = vec![strings(&header)];
    for (name, r) in groups {
        let mut row = vec![(*name).to_owned()];
        row.extend([r.recordings.to_string(), r.failed.to_string()]);
        row.extend(classification(&r.emotion));
        for gender in [&r.gender, &r.gender_under_12] {
            let [count, _, right] = classification(gender);
            row.extend([count, right]);
        }
        row.push(r.age.as_ref().map_or(0, |a| a.recordings).to_string());
        row.push(number(r.age.as_ref().map(|a| a.mean_absolute), 1));
        rows.push(row);
    }
    table(out, &rows);
}

fn confusion(out: &mut String, c: &Confusion, recalls: &[Option<f64>]) {
    let mut header = vec![String::new()];
    header.extend(c.labels.iter().cloned());
    header.extend(["n".into(), "recall".into()]);
    let mut rows = vec![header];
    for (i, label) in c.labels.iter().enumerate() {
        let mut row = vec![label.clone()];
        row.extend(c.counts[i].iter().map(u64::to_string));
        row.extend([c.count(i).to_string(), number(recalls[i], 3)]);
        rows.push(row);
    }
    table(out, &rows);
}

fn reliability(out: &mut String, c: &Calibration) {
    heading(
        out,
        "Reliability, pooled: the largest emotion weight against the share right",
    );
    let mut rows = vec![strings(&["weight", "n", "mean weight", "right"])];
    for bin in &c.bins {
        rows.push(vec![
            format!("{:.3}-{:.3}", bin.from, bin.to),
            bin.count.to_string(),
            number(bin.confidence, 3),
            number(bin.accuracy, 3),
        ]);
    }
    table(out, &rows);
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| MISSING.into(), |v| format!("{v:.decimals$}"))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&t| t.to_owned()).collect()
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{}", printable(text)).expect("a string takes everything");
}

fn heading(out: &mut String, text: &str) {
    out.push('\n');
    line(out, text);
}

/// Writes a table with a left-aligned first column and right-aligned others.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut text = format!("  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            write!(text, "  {cell:>width$}").expect("a string takes everything");
        }
        line(out, &text);
    }
}
