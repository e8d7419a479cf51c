//! Speech segments of a recording.
//!
//! A segment is found by its pitch, which steady noise does not have, so the noise level around
//! speech is irrelevant. Every decision is local: speech in one place of a recording does not
//! change the segments in another.

use std::ops::Range;

/// Minimum number of consecutive voiced frames of a voiced run (50 ms).
const VOICED_RUN: usize = 5;
/// Minimum number of voiced frames per segment (0.1 s); fewer are a click or a creak.
const MIN_VOICED: usize = 10;
/// Number of frames kept before the first and after the last voiced one (0.25 s), for unvoiced
/// consonants.
const MARGIN: usize = 25;
/// Longest gap between voiced runs within a segment, in frames (0.7 s).
const MAX_GAP: usize = 70;
/// Maximum number of frames per segment (15 s).
pub const LONGEST_SEGMENT: usize = 1500;
/// Minimum number of frames of either part of a divided segment (5 s).
const MIN_PART: usize = 500;

/// Returns the speech segments of a recording with these pitches (0 if unvoiced), in order and
/// disjoint.
pub(super) fn segments(f0: &[f64]) -> Vec<Range<usize>> {
    let runs = voiced_runs(f0);
    let groups = runs.chunk_by(|a, b| b.start - a.end <= MAX_GAP);
    let voiced = |runs: &[Range<usize>]| runs.iter().map(Range::len).sum::<usize>();
    let groups = groups.filter(|runs| voiced(runs) >= MIN_VOICED);
    let with_margins = groups.map(|runs| {
        let end = runs.last().map_or(0, |run| run.end);
        runs[0].start.saturating_sub(MARGIN)..(end + MARGIN).min(f0.len())
    });
    with_margins.flat_map(|range| divided(range, f0)).collect()
}

/// Returns the voiced runs of sufficient length.
fn voiced_runs(f0: &[f64]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for part in f0.chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)) {
        if part[0] > 0.0 && part.len() >= VOICED_RUN {
            runs.push(start..start + part.len());
        }
        start += part.len();
    }
    runs
}

/// Divides a range into parts of at most [`LONGEST_SEGMENT`] frames. Each part ends in the middle
/// of the longest unvoiced run between [`MIN_PART`] and [`LONGEST_SEGMENT`]; the first of equal
/// runs is used.
fn divided(mut range: Range<usize>, f0: &[f64]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    while range.len() > LONGEST_SEGMENT {
        let choice = range.start + MIN_PART..range.start + LONGEST_SEGMENT;
        let mut best = (0, choice.end);
        let mut start = choice.start;
        for part in f0[choice].chunk_by(|a, b| (*a > 0.0) == (*b > 0.0)) {
            if part[0] == 0.0 && part.len() > best.0 {
                best = (part.len(), start + part.len() / 2);
            }
            start += part.len();
        }
        parts.push(range.start..best.1);
        range.start = best.1;
    }
    parts.push(range);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pitch track with 200 Hz in these frames and no pitch elsewhere.
    fn pitch(frames: usize, voiced: &[Range<usize>]) -> Vec<f64> {
        let mut f0 = vec![0.0; frames];
        for run in voiced {
            f0[run.clone()].fill(200.0);
        }
        f0
    }

    #[test]
    fn pauses_separate_segments() {
        let f0 = pitch(1000, &[100..150, 220..260, 331..400, 950..995]);
        assert_eq!(segments(&f0), [75..285, 306..425, 925..1000]);
    }

    #[test]
    fn a_click_is_no_segment() {
        let f0 = pitch(1000, &[10..14, 400..409, 600..605, 620..625]);
        let found = segments(&f0);
        assert_eq!((found.len(), &found[0]), (1, &(575..650)));
        assert_eq!(segments(&[]), []);
    }

    #[test]
    fn long_speech_is_divided_at_pauses() {
        let f0 = pitch(4000, &[0..600, 610..900, 930..2000, 2001..4000]);
        assert_eq!(segments(&f0), [0..915, 915..2000, 2000..3500, 3500..4000]);
    }

    #[test]
    fn distant_speech_changes_nothing() {
        let near = pitch(3000, &[100..300, 340..500]);
        let both = pitch(3000, &[100..300, 340..500, 1000..2900]);
        assert_eq!(segments(&near)[0], segments(&both)[0]);
    }
}
