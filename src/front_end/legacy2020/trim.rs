//! Detector input, and trimming of a signal to its voiced part.
//!
//! Method: pyvad 0.0.8 (`vad` and `trim`), including its completion of decisions that begin or end
//! within speech.

use std::ops::Range;

/// Samples per detector frame: 30 ms at 16 kHz.
pub const FRAME: usize = 480;

/// Minimum RMS (exclusive) of a speech interval, in the peak-normalised signal.
const MIN_RMS: f64 = 0.01;

/// Peak of the detector input for a signal that reaches full scale.
const DETECTOR_PEAK: f64 = 0.9;

/// Converts a peak-normalised signal to the 16-bit input of the voice detector.
///
/// If the largest magnitude is 1 or more, the signal is scaled to 0.9. Samples are truncated toward
/// zero.
pub fn detector_input(x: &[f64]) -> Vec<i16> {
    let to_detector_sample = detector_conversion(magnitude(x));
    x.iter().map(|&x| to_detector_sample(x)).collect()
}

/// Iterates over the [`frames`] of [`detector_input`] without storing the 16-bit signal.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn detector_frames(x: &[f64]) -> impl Iterator<Item = [i16; FRAME]> + '_ {
    let to_detector_sample = detector_conversion(magnitude(x));
    (0..=x.len() / FRAME).map(move |i| {
        let mut frame = [0; FRAME];
        for (out, &x) in frame.iter_mut().zip(&x[i * FRAME..]) {
            *out = to_detector_sample(x);
        }
        frame
    })
}

/// Returns the conversion of a sample to detector input, given the signal's largest magnitude.
pub(crate) fn detector_conversion(magnitude: f64) -> impl Fn(f64) -> i16 {
    move |x| {
        let x = if magnitude >= 1.0 {
            x / magnitude * DETECTOR_PEAK
        } else {
            x
        };
        (x * 32768.0) as f32 as i16
    }
}

fn magnitude(x: &[f64]) -> f64 {
    x.iter().fold(0.0f64, |peak, x| peak.max(x.abs()))
}

/// Splits the signal into frames of [`FRAME`] samples; the last one is padded with zeros.
///
/// There are `floor(n / 480) + 1` frames: if `n` is a multiple of 480, the last one is all zeros.
pub fn frames(x: &[i16]) -> impl Iterator<Item = [i16; FRAME]> + '_ {
    (0..=x.len() / FRAME).map(|i| {
        let rest = &x[i * FRAME..];
        let mut frame = [0; FRAME];
        let filled = rest.len().min(FRAME);
        frame[..filled].copy_from_slice(&rest[..filled]);
        frame
    })
}

/// Returns the part of a peak-normalised signal to keep: from the first loud enough speech interval
/// to the end of the last one. `None` if there is nothing to trim: the decisions never change, or
/// no interval is loud enough.
///
/// `decisions` holds one entry per sample of `x`. An interval starts at the last silent sample
/// before speech and ends before the last voiced one.
pub fn trim(decisions: &[bool], x: &[f64]) -> Option<Range<usize>> {
    assert_eq!(decisions.len(), x.len(), "one decision per sample");
    trim_by(decisions, 1, x)
}

/// Does the same as [`trim`] with one decision per [`FRAME`] samples; the last may cover fewer.
pub(crate) fn trim_frames(decisions: &[bool], x: &[f64]) -> Option<Range<usize>> {
    trim_by(decisions, FRAME, x)
}

/// Does the same as [`trim`] with one decision per `hold` samples.
fn trim_by(decisions: &[bool], hold: usize, x: &[f64]) -> Option<Range<usize>> {
    let last = x.len().checked_sub(1)?;
    let decisions = &decisions[..decisions.len().min(last / hold + 1)];
    let edges = |from: bool| -> Vec<usize> {
        let edge = |pair: &[bool]| pair[0] == from && pair[1] != from;
        decisions
            .windows(2)
            .enumerate()
            .filter(|(_, p)| edge(p))
            .map(|(i, _)| (i + 1) * hold - 1)
            .collect()
    };
    let mut starts = edges(false);
    let mut ends = edges(true);
    if starts.is_empty() && ends.is_empty() {
        return None;
    }
    if starts.is_empty() {
        starts = ends.clone();
        starts.push(0);
    }
    if ends.is_empty() {
        ends.push(last);
    }
    if ends[0] <= starts[0] {
        starts.insert(0, 0);
    }
    if starts.len() > ends.len() {
        ends.push(last);
    }
    let stretches = starts.into_iter().zip(ends).map(|(start, end)| start..end);
    let mut loud = stretches.filter(|s| s.start < s.end && rms(&x[s.clone()]) > MIN_RMS);
    let first = loud.next()?;
    let end = loud.next_back().map_or(first.end, |s| s.end);
    Some(first.start..end)
}

fn rms(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Literal transcription of pyvad's rules.
    fn naive(a: &[bool], x: &[f64]) -> Option<(usize, usize)> {
        let n = a.len();
        let (mut starts, mut ends) = (vec![], vec![]);
        for i in 0..n.saturating_sub(1) {
            if !a[i] && a[i + 1] {
                starts.push(i);
            }
            if a[i] && !a[i + 1] {
                ends.push(i);
            }
        }
        if starts.is_empty() && ends.is_empty() {
            return None;
        } else if starts.is_empty() {
            starts = [ends.as_slice(), &[0]].concat();
        } else if ends.is_empty() {
            ends = vec![n - 1];
        }
        if ends[0] <= starts[0] {
            starts = [&[0], starts.as_slice()].concat();
        }
        if starts.len() > ends.len() {
            ends = [ends.as_slice(), &[n - 1]].concat();
        }
        let mut kept = None;
        for i in 0..starts.len().min(ends.len()) {
            let (start, end) = (starts[i], ends[i]);
            let mut power = 0.0;
            for x in x.iter().take(end).skip(start) {
                power += x * x;
            }
            if end > start && (power / (end - start) as f64).sqrt() > 0.01 {
                kept = Some((kept.map_or(start, |(first, _)| first), end));
            }
        }
        kept
    }

    fn loud(pattern: &str) -> Option<Range<usize>> {
        let a: Vec<bool> = pattern.chars().map(|c| c == '#').collect();
        trim(&a, &vec![0.5; a.len()])
    }

    #[test]
    fn patterns() {
        let cases = [
            ("..##..", Some(1..3)),
            ("..#..#..", Some(1..5)),
            ("..####", Some(1..5)),
            // Speech from the first sample on has only an end. pyvad adds a second interval up to
            // the last sample, which is loud here, so everything but that sample is kept.
            ("##....", Some(0..5)),
            ("##..##", Some(0..5)),
            ("#.#.", Some(1..2)),
            ("......", None),
            ("######", None),
            ("#", None),
            ("", None),
        ];
        for (pattern, expected) in cases {
            assert_eq!(loud(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn quiet_intervals_do_not_count() {
        let a: Vec<bool> = "..##....##..".chars().map(|c| c == '#').collect();
        let mut x = vec![0.001; 12];
        assert_eq!(trim(&a, &x), None);
        x[8] = 0.5;
        assert_eq!(trim(&a, &x), Some(7..9));
    }

    #[test]
    fn detector_input_has_a_peak_of_nine_tenths() {
        assert_eq!(detector_input(&[1.0, -2.0, 0.5]), [14745, -29491, 7372]);
        assert_eq!(detector_input(&[0.5, -0.99, 0.00001]), [16384, -32440, 0]);
        assert!(detector_input(&[]).is_empty());
    }

    #[test]
    fn there_is_one_frame_more_than_full_ones() {
        for (n, expected) in [(0, 1), (1, 1), (479, 1), (480, 2), (481, 2), (960, 3)] {
            let x = vec![7; n];
            let all: Vec<_> = frames(&x).collect();
            assert_eq!(all.len(), expected, "{n}");
            let joined = all.concat();
            assert_eq!(joined[..n], x[..]);
            assert!(joined[n..].iter().all(|x| *x == 0));
            let frames: Vec<_> = detector_frames(&vec![0.5; n]).collect();
            assert_eq!(frames.len(), expected, "{n}");
            assert_eq!(frames.concat()[..n], detector_input(&vec![0.5; n]));
        }
    }

    proptest! {
        #[test]
        fn a_decision_holds_for_its_frame(
            decisions in prop::collection::vec(any::<bool>(), 1..12),
            last in 0..FRAME,
            quiet in 0..12usize,
        ) {
            let n = (decisions.len() - 1) * FRAME + last;
            let x: Vec<f64> = (0..n).map(|i| if i / FRAME < quiet { 0.001 } else { 0.5 }).collect();
            let by_sample: Vec<bool> = (0..n).map(|i| decisions[i / FRAME]).collect();
            prop_assert_eq!(trim_frames(&decisions, &x), trim(&by_sample, &x));
        }

        #[test]
        fn agrees_with_the_rules(
            runs in prop::collection::vec((1usize..8, prop::sample::select(vec![0.0, 0.005, 0.02, 1.0])), 0..12),
            first: bool,
        ) {
            let (mut a, mut x) = (vec![], vec![]);
            let mut voiced = first;
            for (length, level) in runs {
                a.extend(std::iter::repeat_n(voiced, length));
                x.extend(std::iter::repeat_n(level, length));
                voiced = !voiced;
            }
            prop_assert_eq!(trim(&a, &x), naive(&a, &x).map(|(start, end)| start..end));
        }
    }
}
