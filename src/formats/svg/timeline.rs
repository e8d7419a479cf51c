//! Upper half of the picture: emotions, attention and speech over time.

use std::ops::Range;

use super::canvas::{Anchor, Canvas, width};
use super::{COLOURS, LEFT, RIGHT, SMALL_SIZE, TEXT_SIZE};
use crate::formats::Context;
use crate::formats::timeline;
use crate::formats::timeline::Cell;
use crate::prediction::Prediction;

const AREA_HEIGHT: f64 = 200.0;
const STRIP_HEIGHT: f64 = 36.0;
const TRACK_HEIGHT: f64 = 14.0;
const GAP: f64 = 12.0;
/// Height of the axis labels and caption.
const AXIS_HEIGHT: f64 = 50.0;
/// Maximum number of steps of a curve: one per two pixels.
const MAX_STEPS: usize = 418;
/// Smallest height of an area that holds its name.
const LABEL_HEIGHT: f64 = 15.0;
/// Candidate intervals between axis labels, in seconds.
const TICKS: [f64; 16] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    21_600.0,
];
const MAX_TICKS: f64 = 12.0;

/// Time axis, by the recording's duration in seconds.
struct Axis(f64);

impl Axis {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.0).clamp(0.0, 1.0)
    }
}

/// Draws from `top` downwards. Returns the lower edge.
pub fn draw(canvas: &mut Canvas, context: &Context, p: &Prediction, top: f64) -> f64 {
    let axis = Axis(p.voice.duration);
    let cells = at_most(timeline::cells(p), MAX_STEPS);
    let mut y = top;
    label(canvas, "emotion", y + AREA_HEIGHT / 4.0 + 4.0);
    canvas.rect("plot", LEFT, y, RIGHT - LEFT, AREA_HEIGHT);
    for (share, text) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let at = y + AREA_HEIGHT * (1.0 - share);
        canvas.text(
            "small",
            Anchor::End,
            LEFT - 6.0,
            (at + 4.0).max(y + 10.0),
            text,
        );
    }
    areas(canvas, context, &cells, &axis, y);
    y += AREA_HEIGHT + GAP;
    let attention = attention(p);
    if !attention.is_empty() {
        label(canvas, "attention", y + STRIP_HEIGHT / 2.0 + 4.0);
        canvas.rect("plot", LEFT, y, RIGHT - LEFT, STRIP_HEIGHT);
        strip(canvas, &attention, &axis, y);
        y += STRIP_HEIGHT + GAP;
    }
    label(canvas, "speech", y + TRACK_HEIGHT - 3.0);
    canvas.rect("plot", LEFT, y, RIGHT - LEFT, TRACK_HEIGHT);
    let mut track = |class, span: &Range<f64>, inset: f64| {
        let (from, to) = (axis.x(span.start), axis.x(span.end));
        canvas.rect(
            class,
            from,
            y + inset,
            to - from,
            TRACK_HEIGHT - 2.0 * inset,
        );
    };
    track("part", &p.voice.analysed, 0.0);
    timeline::speech(p)
        .iter()
        .for_each(|s| track("speech", s, 3.0));
    let segments = timeline::segments(context, p);
    for (time, _) in segments.iter().skip(1) {
        let x = axis.x(time.start);
        canvas.line("halo", (x, y), (x, y + TRACK_HEIGHT));
        canvas.line("whisker", (x, y), (x, y + TRACK_HEIGHT));
    }
    y += TRACK_HEIGHT;
    ticks(canvas, &axis, top, y);
    y + AXIS_HEIGHT
}

fn label(canvas: &mut Canvas, text: &str, y: f64) {
    canvas.text("head", Anchor::End, LEFT - 6.0, y, text);
}

/// Joins neighbours until at most `most` cells remain; a joined cell has the mean over its time.
fn at_most(cells: Vec<Cell>, most: usize) -> Vec<Cell> {
    let together = cells.len().div_ceil(most).max(1);
    if together == 1 {
        return cells;
    }
    let joined = cells.chunks(together).map(|chunk| {
        let seconds: Vec<f64> = chunk.iter().map(|c| c.time.end - c.time.start).collect();
        let whole: f64 = seconds.iter().sum();
        let emotions = (0..chunk[0].emotions.len()).map(|i| {
            let weighted = chunk.iter().zip(&seconds);
            weighted.map(|(c, s)| c.emotions[i] * s).sum::<f64>() / whole
        });
        Cell {
            time: chunk[0].time.start..chunk[chunk.len() - 1].time.end,
            emotions: emotions.collect(),
            age: None,
            gender: Vec::new(),
        }
    });
    joined.collect()
}

/// Draws one band per emotion, stacked in the model's order from the bottom, with its name where
/// the band is thick enough.
///
/// A cell has one value for its whole time, hence steps instead of slopes.
fn areas(canvas: &mut Canvas, context: &Context, cells: &[Cell], axis: &Axis, top: f64) {
    let bands: Vec<Vec<f64>> = cells.iter().map(|c| stacked(&c.emotions)).collect();
    let y = |share: f64| top + AREA_HEIGHT * (1.0 - share);
    for (i, name) in context.emotions.iter().enumerate() {
        let mut upper = Vec::new();
        let mut lower = Vec::new();
        let class = format!("area c{}", i % COLOURS);
        for (k, (cell, band)) in cells.iter().zip(&bands).enumerate() {
            let (from, to) = (axis.x(cell.time.start), axis.x(cell.time.end));
            upper.extend([(from, y(band[i + 1])), (to, y(band[i + 1]))]);
            lower.extend([(from, y(band[i])), (to, y(band[i]))]);
            let last = cells
                .get(k + 1)
                .is_none_or(|next| next.time.start > cell.time.end);
            if last {
                upper.extend(lower.drain(..).rev());
                canvas.area(&class, &upper, name);
                upper.clear();
            }
        }
    }
    for (i, name) in context.emotions.iter().enumerate() {
        if let Some((x, share)) = place(cells, &bands, i, axis, width(name, SMALL_SIZE)) {
            let class = format!("on on{}", i % COLOURS);
            canvas.text(&class, Anchor::Middle, x, y(share) + 4.0, name);
        }
    }
}

/// Returns the band bounds of `weights` scaled to the sum 1: one bound more than weights.
fn stacked(weights: &[f64]) -> Vec<f64> {
    let positive = |w: &f64| w.max(0.0);
    let sum: f64 = weights.iter().map(positive).sum();
    let mut bounds = vec![0.0];
    let mut below = 0.0;
    for weight in weights {
        below += positive(weight);
        bounds.push(if sum > 0.0 { below / sum } else { 0.0 });
    }
    bounds
}

/// Returns the centre of the thickest part of band `i` that fits a text `wide` pixels wide: its x
/// in pixels and its height as a share.
fn place(
    cells: &[Cell],
    bands: &[Vec<f64>],
    i: usize,
    axis: &Axis,
    wide: f64,
) -> Option<(f64, f64)> {
    let mut best: Option<(f64, f64, f64)> = None;
    for cell in cells {
        let middle = f64::midpoint(axis.x(cell.time.start), axis.x(cell.time.end));
        let (from, to) = (middle - wide / 2.0, middle + wide / 2.0);
        let mut low = 0.0f64;
        let mut high = 1.0f64;
        let mut covered = 0.0;
        for (other, band) in cells.iter().zip(bands) {
            let start = axis.x(other.time.start).max(from);
            let end = axis.x(other.time.end).min(to);
            if start < end {
                (low, high) = (low.max(band[i]), high.min(band[i + 1]));
                covered += end - start;
            }
        }
        // Half a pixel allows for rounding.
        let inside = covered + 0.5 >= wide;
        let thick = high - low;
        if inside
            && thick * AREA_HEIGHT >= LABEL_HEIGHT
            && best.is_none_or(|(thickest, ..)| thick > thickest)
        {
            best = Some((thick, middle, f64::midpoint(low, high)));
        }
    }
    best.map(|(_, x, share)| (x, share))
}

/// Returns the mean attention per second of the windows that cover each step; empty without
/// attention.
fn attention(p: &Prediction) -> Vec<(Range<f64>, f64)> {
    let windows = p.windows.iter();
    let attended: Vec<_> = windows
        .filter_map(|w| Some((&w.time, w.attention.as_ref()?)))
        .filter(|(_, a)| a.cell > 0.0)
        .collect();
    let start = attended
        .iter()
        .map(|(t, _)| t.start)
        .fold(f64::INFINITY, f64::min);
    let end = attended.iter().map(|(t, _)| t.end).fold(0.0, f64::max);
    let finest = attended
        .iter()
        .map(|(_, a)| a.cell)
        .fold(f64::INFINITY, f64::min);
    if start.max(0.0) >= end {
        return Vec::new();
    }
    let steps = (((end - start) / finest).ceil() as usize).clamp(1, MAX_STEPS);
    let time = |step: usize| start + (end - start) * step as f64 / steps as f64;
    let steps = (0..steps).map(|step| {
        let (from, to) = (time(step), time(step + 1));
        let middle = f64::midpoint(from, to);
        let there = attended.iter().filter(|(t, _)| t.contains(&middle));
        let densities: Vec<f64> = there
            .filter_map(|(t, a)| {
                let cell = ((middle - t.start) / a.cell) as usize;
                a.weights.get(cell).map(|weight| weight / a.cell)
            })
            .collect();
        let mean = densities.iter().sum::<f64>() / densities.len().max(1) as f64;
        (from..to, mean.max(0.0))
    });
    steps.collect()
}

/// Draws a curve scaled to its largest value.
fn strip(canvas: &mut Canvas, steps: &[(Range<f64>, f64)], axis: &Axis, top: f64) {
    let bottom = top + STRIP_HEIGHT;
    let largest = steps.iter().map(|s| s.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut points = vec![(axis.x(steps[0].0.start), bottom)];
    for (time, value) in steps {
        let y = bottom - (STRIP_HEIGHT - 2.0) * value / largest;
        points.extend([(axis.x(time.start), y), (axis.x(time.end), y)]);
    }
    points.push((axis.x(steps[steps.len() - 1].0.end), bottom));
    canvas.area("attention", &points, "where the network looked");
}

fn ticks(canvas: &mut Canvas, axis: &Axis, top: f64, bottom: f64) {
    let duration = axis.0;
    let longest = TICKS[TICKS.len() - 1];
    let step = TICKS
        .into_iter()
        .find(|step| duration / step <= MAX_TICKS)
        .unwrap_or_else(|| longest * (duration / longest / MAX_TICKS).ceil());
    let count = (duration / step).floor().clamp(0.0, MAX_TICKS) as usize;
    for i in 0..=count {
        let seconds = i as f64 * step;
        let x = axis.x(seconds);
        canvas.line("grid", (x, top), (x, bottom + 4.0));
        let text = clock(seconds, step, duration);
        canvas.text("small", Anchor::Middle, x, bottom + 18.0, &text);
    }
    let unit = if duration < 120.0 { "seconds; " } else { "" };
    let caption = format!("{unit}speech: narrow bars, analysed part: wide bar");
    let y = bottom + 18.0 + TEXT_SIZE + 3.0;
    let source = "emotion over time: by the windows' network alone";
    canvas.text("small", Anchor::Start, LEFT, y, source);
    canvas.text("small", Anchor::End, RIGHT, y, &caption);
}

/// Returns the time in the shortest form for the axis' step and duration.
fn clock(seconds: f64, step: f64, duration: f64) -> String {
    if duration < 120.0 {
        return if step < 1.0 {
            format!("{seconds:.1}")
        } else {
            format!("{seconds:.0}")
        };
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match duration < 3600.0 {
        true => format!("{minutes}:{seconds:02}"),
        false => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}
