//! Estimates over time, in stretches that do not overlap.

use std::ops::Range;

use super::Context;
use crate::prediction::{Prediction, Segment, Window};

/// Largest distance of window bounds that count as one, in seconds: two analysis frames.
///
/// This is far below the 1 s between windows and above the rounding of window times to frames.
const SAME_BOUND: f64 = 0.02;

/// Mean of the windows that cover a stretch of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Start and end in seconds.
    pub time: Range<f64>,
    /// Emotion weights in the model's order.
    pub emotions: Vec<f64>,
    /// Age in years; `None` if the windows have none.
    pub age: Option<f64>,
    /// Gender weights in the model's order; empty if the windows have none.
    pub gender: Vec<f64>,
}

/// Divides the time that the windows cover at every start and end of a window.
///
/// Windows of 2 s that start every second give cells of 1 s. Cells are in order, within the
/// recording and without overlaps. Time without a window has no cell.
pub fn cells(p: &Prediction) -> Vec<Cell> {
    let within = |t: f64| t.clamp(0.0, p.voice.duration.max(0.0));
    let mut windows: Vec<(Range<f64>, &Window)> = p
        .windows
        .iter()
        .map(|w| (within(w.time.start)..within(w.time.end), w))
        .filter(|(time, _)| time.end - time.start > SAME_BOUND)
        .collect();
    windows.sort_by(|a, b| a.0.start.total_cmp(&b.0.start));
    let mut bounds: Vec<f64> = windows.iter().flat_map(|(t, _)| [t.start, t.end]).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup_by(|later, earlier| *later - *earlier < SAME_BOUND);

    let mut cells = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut next = 0;
    for pair in bounds.windows(2) {
        let middle = f64::midpoint(pair[0], pair[1]);
        while next < windows.len() && windows[next].0.start <= middle {
            open.push(next);
            next += 1;
        }
        open.retain(|&i| windows[i].0.end > middle);
        if !open.is_empty() {
            let covering: Vec<&Window> = open.iter().map(|&i| windows[i].1).collect();
            cells.push(mean(pair[0]..pair[1], &covering));
        }
    }
    cells
}

fn mean(time: Range<f64>, windows: &[&Window]) -> Cell {
    let ages: Vec<f64> = windows.iter().filter_map(|w| w.age).collect();
    Cell {
        time,
        emotions: column_means(windows.iter().map(|w| &*w.emotions)),
        age: (!ages.is_empty()).then(|| ages.iter().sum::<f64>() / ages.len() as f64),
        gender: column_means(windows.iter().map(|w| &*w.gender)),
    }
}

/// Returns the column means of rows of equal length; empty without rows.
fn column_means<'a>(rows: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    let mut count = 0.0;
    for row in rows {
        sums.resize(sums.len().max(row.len()), 0.0);
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        count += 1.0;
    }
    sums.iter().map(|sum| sum / count).collect()
}

/// Returns the largest weight and its name.
pub fn strongest<'a>(names: &'a [String], weights: &[f64]) -> Option<(&'a str, f64)> {
    let named = names.iter().zip(weights.iter().copied());
    let largest = named.max_by(|a, b| a.1.total_cmp(&b.1));
    largest.map(|(name, weight)| (&**name, weight))
}

/// Returns the stretches of speech: in order, within the recording, not overlapping, not empty.
pub fn speech(p: &Prediction) -> Vec<Range<f64>> {
    let mut spans = p.voice.speech.clone();
    spans.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut joined: Vec<Range<f64>> = Vec::new();
    for span in spans {
        let (start, end) = (span.start.max(0.0), span.end.min(p.voice.duration));
        match joined.last_mut() {
            _ if start >= end => {}
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => joined.push(start..end),
        }
    }
    joined
}

/// Returns the segments of a model that divides recordings: in order, within the recording, not
/// overlapping, not empty.
pub fn segments<'p>(context: &Context, p: &'p Prediction) -> Vec<(Range<f64>, &'p Segment)> {
    if !context.has_segments {
        return Vec::new();
    }
    let mut order: Vec<&Segment> = p.segments.iter().collect();
    order.sort_by(|a, b| a.time.start.total_cmp(&b.time.start));
    let mut at = 0.0;
    let apart = order.into_iter().filter_map(|segment| {
        let start = segment.time.start.max(at);
        let end = segment.time.end.min(p.voice.duration);
        (start < end).then(|| {
            at = end;
            (start..end, segment)
        })
    });
    apart.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::DropoutMode;
    use crate::prediction::{Age, Voice};

    fn cells_of(windows: &[(f64, f64, f64)]) -> Vec<Cell> {
        let windows = windows.iter().map(|&(start, end, weight)| Window {
            time: start..end,
            emotions: vec![weight, 1.0 - weight],
            age: None,
            gender: Vec::new(),
            attention: None,
        });
        let age = Age {
            years: 30.0,
            spread: None,
            error: None,
            interval: None,
        };
        let voice = Voice {
            duration: 10.0,
            sample_rate: 16_000,
            channels: 1,
            channel: None,
            format: String::new(),
            analysed: 0.0..10.0,
            trimmed: false,
            speech: Vec::new(),
            voiced: 0.0,
        };
        cells(&Prediction {
            emotions: Vec::new(),
            age,
            gender: Vec::new(),
            windows: windows.collect(),
            segments: Vec::new(),
            speaker: None,
            voice,
            warnings: Vec::new(),
            dropout: DropoutMode::Off,
        })
    }

    #[test]
    fn windows_that_overlap_by_half_give_cells_of_a_second() {
        // Rounding to frames may move a window's end by one frame from a later window's start.
        let cells = cells_of(&[
            (0.5, 2.5, 0.25),
            (1.5, 3.51, 0.75),
            (2.5, 4.5, 0.5),
            (3.5, 5.5, 0.0),
        ]);
        let times: Vec<Range<f64>> = cells.iter().map(|c| c.time.clone()).collect();
        assert_eq!(times, [0.5..1.5, 1.5..2.5, 2.5..3.5, 3.5..4.5, 4.5..5.5]);
        let first: Vec<f64> = cells.iter().map(|c| c.emotions[0]).collect();
        assert_eq!(first, [0.25, 0.5, 0.625, 0.25, 0.0]);
    }

    #[test]
    fn time_without_a_window_has_no_cell() {
        let cells = cells_of(&[(6.0, 12.0, 0.5), (1.0, 2.0, 0.5), (9.0, 9.01, 0.5)]);
        let times: Vec<Range<f64>> = cells.iter().map(|c| c.time.clone()).collect();
        assert_eq!(times, [1.0..2.0, 6.0..10.0]);
    }
}
