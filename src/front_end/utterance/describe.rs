//! Descriptive statistics as numpy defines them. Statistics of an empty slice are 0.

use std::ops::Range;

use crate::front_end::pairwise;

/// Returns the mean.
#[inline(always)]
pub(super) fn mean(values: &[f64]) -> f64 {
    mean_of(values, |x| x)
}

/// Returns the mean of `term(x)` over `values`.
#[inline(always)]
pub(super) fn mean_of<T: Copy>(values: &[T], term: impl Fn(T) -> f64 + Copy) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    pairwise::sum(values, term) / values.len() as f64
}

/// Returns the mean and population deviation.
#[inline(always)]
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    pairwise::mean_and_deviation(values)
}

/// Returns the population deviation.
#[inline(always)]
pub(super) fn deviation(values: &[f64]) -> f64 {
    mean_and_deviation(values).1
}

/// Returns percentiles, with linear interpolation between order statistics.
pub(super) fn percentiles<const N: usize>(values: &[f64], percents: [f64; N]) -> [f64; N] {
    if values.is_empty() {
        return [0.0; N];
    }
    let last = values.len() - 1;
    let positions = percents.map(|percent| last as f64 * (percent / 100.0));
    let below = positions.map(|at| (at as usize).min(last));
    let ranks: Vec<usize> = below.iter().flat_map(|&i| [i, (i + 1).min(last)]).collect();
    let ordered = order_statistics(values, &ranks);
    std::array::from_fn(|i| {
        let (below, fraction) = (ordered[2 * i], positions[i] - below[i] as f64);
        let above = ordered[2 * i + 1];
        let step = above - below;
        // Like numpy, interpolates from the nearer side, which makes the ends exact.
        if fraction < 0.5 {
            below + step * fraction
        } else {
            above - step * (1.0 - fraction)
        }
    })
}

/// Intervals of equal width that [`order_statistics`] divides the range of the values into.
const INTERVALS: usize = 256;

/// Returns the values that would be at these places if `values` were sorted.
///
/// Counts the values per interval, and sorts only those of the intervals with a wanted value.
fn order_statistics(values: &[f64], ranks: &[usize]) -> Vec<f64> {
    let first = values[0];
    let [least, largest] = values.iter().fold([first; 2], |[least, largest], &x| {
        [
            if x < least { x } else { least },
            if x > largest { x } else { largest },
        ]
    });
    let scale = INTERVALS as f64 / (largest - least);
    // The conversion saturates; it never decreases from a value to a larger one.
    let interval = |x: f64| ((x - least) * scale).min((INTERVALS - 1) as f64) as u8;
    let intervals: Vec<u8> = values.iter().map(|x| interval(*x)).collect();
    let mut counts = [0; INTERVALS];
    for i in &intervals {
        counts[usize::from(*i)] += 1;
    }
    // Number of values before each interval, among all values and among the sorted values.
    let mut before = [0; INTERVALS + 1];
    for (i, count) in counts.iter().enumerate() {
        before[i + 1] = before[i] + count;
    }
    let interval_of = |rank: usize| before.partition_point(|before| *before <= rank) - 1;
    let mut is_wanted = [false; INTERVALS];
    for rank in ranks {
        is_wanted[interval_of(*rank)] = true;
    }
    let mut sorted: Vec<f64> = Vec::new();
    for (x, i) in values.iter().zip(&intervals) {
        if is_wanted[usize::from(*i)] {
            sorted.push(*x);
        }
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let place = |rank: &usize| {
        let interval = interval_of(*rank);
        let wanted = is_wanted.iter().zip(&counts).take(interval);
        let sorted_before: usize = wanted
            .map(|(wanted, count)| usize::from(*wanted) * count)
            .sum();
        sorted[sorted_before + rank - before[interval]]
    };
    ranks.iter().map(place).collect()
}

/// Returns the middle value, or the mean of the two middle values.
pub(super) fn median(values: &[f64]) -> f64 {
    percentiles(values, [50.0])[0]
}

/// Returns the mean of the last third of the values (at least one) minus that of the first.
#[inline(always)]
pub(super) fn thirds(values: &[f64]) -> f64 {
    let third = (values.len() / 3).max(1).min(values.len());
    mean(&values[values.len() - third..]) - mean(&values[..third])
}

/// Computes the slope over five frames, with the first and last value repeated: `sum over k of k
/// (v[t+k] - v[t-k]) / 10`, k = 1, 2.
#[inline(always)]
pub(super) fn delta(values: &[f64], out: &mut Vec<f64>) {
    let slope = |v: [f64; 5]| ((v[3] - v[1]) + 2.0 * (v[4] - v[0])) / 10.0;
    let count = values.len();
    let at = |t: usize| values[t.min(count - 1)];
    let at_end =
        |t: usize| slope([t.saturating_sub(2), t.saturating_sub(1), t, t + 1, t + 2].map(at));
    out.clear();
    out.resize(count, 0.0);
    if count > 4 {
        let inner = &mut out[2..count - 2];
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|first| &values[first..first + count - 4]);
        for (t, out) in inner.iter_mut().enumerate() {
            *out = slope([a[t], b[t], c[t], d[t], e[t]]);
        }
    }
    for t in (0..count.min(2)).chain(count.saturating_sub(2)..count) {
        out[t] = at_end(t);
    }
}

/// Replaces `out` by the values in `runs`.
pub(super) fn select_runs(values: &[f64], runs: &[Range<usize>], out: &mut Vec<f64>) {
    out.clear();
    for run in runs {
        out.extend_from_slice(&values[run.clone()]);
    }
}

/// Returns the values at which `mask` is true.
pub(super) fn select(values: &[f64], mask: &[bool]) -> Vec<f64> {
    let pairs = values.iter().zip(mask);
    pairs.filter(|(_, on)| **on).map(|(v, _)| *v).collect()
}

/// Returns the number of true entries of `mask`.
pub(super) fn count(mask: &[bool]) -> usize {
    mask.iter().filter(|on| **on).count()
}

/// Returns the maximal ranges over which `mask` is true.
pub(super) fn runs(mask: &[bool]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = None;
    for (t, on) in mask.iter().copied().chain([false]).enumerate() {
        match (on, start) {
            (true, None) => start = Some(t),
            (false, Some(first)) => {
                runs.push(first..t);
                start = None;
            }
            _ => {}
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_order_statistics() {
        assert_eq!(
            percentiles(&[3.0, 1.0, 2.0, 4.0], [0.0, 25.0, 50.0, 100.0]),
            [1.0, 1.75, 2.5, 4.0]
        );
        assert_eq!(percentiles(&[7.0], [10.0, 95.0]), [7.0, 7.0]);
        assert_eq!(percentiles(&[], [10.0]), [0.0]);
        assert_eq!(median(&[5.0, 1.0, 3.0]), 3.0);
        let values: Vec<f64> = (0..1009).map(|i| f64::from(i * 377 % 1009)).collect();
        let percents = [95.0, 5.0, 50.0, 50.1, 100.0];
        let expected = percents.map(|p| 1008.0 * p / 100.0);
        for (ours, expected) in percentiles(&values, percents).into_iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-12, "{ours} against {expected}");
        }
    }

    #[test]
    fn order_statistics_are_those_of_sorted_values() {
        let mut state = 1_u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f64
        };
        let noise: Vec<f64> = (0..700).map(|_| next().ln()).collect();
        let few: Vec<f64> = (0..90).map(|_| (next() % 4.0) - 1.0).collect();
        let mut outlier = noise.clone();
        outlier[300] = 1e300;
        let extremes = [f64::MAX, -0.0, f64::MIN, 0.0, -0.0, 1.0];
        let unusual = [1.0, f64::INFINITY, f64::NEG_INFINITY, 0.0];
        let tiny = [f64::from_bits(1), 0.0, f64::from_bits(2), -0.0];
        for values in [
            &noise[..],
            &few,
            &outlier,
            &extremes,
            &unusual,
            &tiny,
            &[3.0; 40],
        ] {
            let mut sorted = values.to_vec();
            sorted.sort_by(f64::total_cmp);
            let ranks: Vec<usize> = (0..values.len()).rev().collect();
            let ours = order_statistics(values, &ranks);
            for (rank, ours) in ranks.into_iter().zip(ours) {
                assert_eq!(
                    ours.to_bits(),
                    sorted[rank].to_bits(),
                    "{rank} of {sorted:?}"
                );
            }
        }
    }

    #[test]
    fn delta_is_the_slope_of_a_line_away_from_the_ends() {
        let line: Vec<f64> = (0..7).map(|t| 3.0 * f64::from(t)).collect();
        let mut slopes = Vec::new();
        delta(&line, &mut slopes);
        assert_eq!(slopes[2..5], [3.0; 3]);
        // (3 - 0) + 2 (6 - 0), over 10, and (3 - 0) + 2 (9 - 0).
        assert_eq!(slopes[..2], [1.5, 2.4]);
        assert_eq!(slopes[5..], [2.4, 1.5]);
        for (values, expected) in [
            (&[][..], &[][..]),
            (&[4.0], &[0.0]),
            (&[4.0, 5.0], &[0.3, 0.3]),
            (&[0.0, 1.0, 2.0], &[0.5, 0.6, 0.5]),
            (&[0.0, 1.0, 2.0, 3.0], &[0.5, 0.8, 0.8, 0.5]),
        ] {
            delta(values, &mut slopes);
            assert_eq!(slopes, expected);
        }
    }

    #[test]
    fn runs_are_found_at_both_ends() {
        let mask = [true, false, true, true, false, true];
        assert_eq!(runs(&mask), [0..1, 2..4, 5..6]);
        assert_eq!(runs(&[false; 3]), []);
    }
}
