//! Descriptive statistics as numpy defines them. Statistics of an empty slice are 0.

use std::ops::Range;

use crate::front_end::pairwise;

/// Returns the mean.
pub(super) fn mean(values: &[f64]) -> f64 {
    mean_of(values, |x| x)
}

/// Returns the mean of `term(x)` over `values`.
pub(super) fn mean_of<T: Copy>(values: &[T], term: impl Fn(T) -> f64 + Copy) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    pairwise::sum(values, term) / values.len() as f64
}

/// Returns the mean and population deviation.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    pairwise::mean_and_deviation(values)
}

/// Returns the population deviation.
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
    let mut ordered = values.to_vec();
    let mut indices: Vec<usize> = below.iter().flat_map(|&i| [i, (i + 1).min(last)]).collect();
    indices.sort_unstable();
    // Each selection moves one value to its sorted position and the smaller values before it.
    let mut done = 0;
    for i in indices {
        if i >= done {
            ordered[done..].select_nth_unstable_by(i - done, f64::total_cmp);
            done = i + 1;
        }
    }
    std::array::from_fn(|i| {
        let (below, above) = (below[i], (below[i] + 1).min(last));
        let fraction = positions[i] - below as f64;
        let step = ordered[above] - ordered[below];
        // Like numpy, interpolates from the nearer side, which makes the ends exact.
        if fraction < 0.5 {
            ordered[below] + step * fraction
        } else {
            ordered[above] - step * (1.0 - fraction)
        }
    })
}

/// Returns the middle value, or the mean of the two middle values.
pub(super) fn median(values: &[f64]) -> f64 {
    percentiles(values, [50.0])[0]
}

/// Returns the mean of the last third of the values (at least one) minus that of the first.
pub(super) fn thirds(values: &[f64]) -> f64 {
    let third = (values.len() / 3).max(1).min(values.len());
    mean(&values[values.len() - third..]) - mean(&values[..third])
}

/// Returns the slope over five frames, with the first and last value repeated: `sum over k of k
/// (v[t+k] - v[t-k]) / 10`, k = 1, 2.
pub(super) fn delta(values: &[f64]) -> Vec<f64> {
    let last = values.len().saturating_sub(1);
    (0..values.len())
        .map(|t| {
            let ahead = |k: usize| values[(t + k).min(last)];
            let behind = |k: usize| values[t.saturating_sub(k)];
            ((ahead(1) - behind(1)) + 2.0 * (ahead(2) - behind(2))) / 10.0
        })
        .collect()
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
    fn delta_is_the_slope_of_a_line_away_from_the_ends() {
        let line: Vec<f64> = (0..7).map(|t| 3.0 * f64::from(t)).collect();
        let slopes = delta(&line);
        assert_eq!(slopes[2..5], [3.0; 3]);
        // (3 - 0) + 2 (6 - 0), over 10.
        assert_eq!(slopes[0], 1.5);
        assert_eq!(delta(&[4.0]), [0.0]);
    }

    #[test]
    fn runs_are_found_at_both_ends() {
        let mask = [true, false, true, true, false, true];
        assert_eq!(runs(&mask), [0..1, 2..4, 5..6]);
        assert_eq!(runs(&[false; 3]), []);
    }
}
