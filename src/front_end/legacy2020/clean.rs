//! Noise reduction, pre-emphasis and peak measurement of the resampled signal.
//!
//! The stages in order: [`replace_zeros`], [`wiener`], [`pre_emphasis`], [`largest_sample`] (the
//! caller divides by it).

use std::ops::Range;

/// Value that replaces a sample of exactly zero.
pub const ZERO_REPLACEMENT: f32 = 1e-10;

/// Coefficient of pre-emphasis.
const PRE_EMPHASIS: f64 = 0.97;

/// Replaces every sample equal to zero by [`ZERO_REPLACEMENT`], which avoids later divisions by
/// zero.
pub fn replace_zeros(x: &mut [f32]) {
    for x in x {
        if *x == 0.0 {
            *x = ZERO_REPLACEMENT;
        }
    }
}

/// Wiener filter over windows of three samples, zeros beyond both ends.
///
/// Method: J. S. Lim, "Two-Dimensional Signal and Image Processing" (1990), as in
/// `scipy.signal.wiener(x, 3)`. The noise is the mean of the local variance `v` over the signal. If
/// `v` is below the noise, the output is the local mean `m`; otherwise it is `m + (x - m) * (1 -
/// noise / v)`.
///
/// Squares are rounded to float32, as in scipy on float32 input, so `v` can be zero or slightly
/// negative. If the formula then has no finite value (0/0), the window is flat and the output is
/// its mean.
pub fn wiener(x: &[f32]) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    let noise = noise(x);
    for (block, out) in out.chunks_mut(BLOCK).enumerate() {
        wiener_block(x, block * BLOCK, noise, out);
    }
    out
}

/// Applies [`wiener`] and [`pre_emphasis`], and measures the level. The memory of a long `x` is
/// released part by part from its end, so that input and output do not fully coexist.
pub(crate) fn denoise(mut x: Vec<f32>) -> (Vec<f64>, SignalLevel) {
    /// Maximum number of parts, and the minimum number of samples per part.
    const MAX_PARTS: usize = 8;
    const MIN_PART: usize = 1 << 20;
    let noise = noise(&x);
    let mut level = SignalLevel::default();
    let mut out = vec![0.0; x.len()];
    let size = x.len().div_ceil(MAX_PARTS).max(MIN_PART);
    let mut filtered = [0.0; BLOCK + 1];
    for (part, out) in out.chunks_mut(size).enumerate().rev() {
        let start = part * size;
        match start.checked_sub(1) {
            Some(before) => wiener_block(&x, before, noise, &mut filtered[..1]),
            None => filtered[0] = 0.0,
        }
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            wiener_block(
                &x,
                start + block * BLOCK,
                noise,
                &mut filtered[1..=out.len()],
            );
            for (y, pair) in out.iter_mut().zip(filtered.windows(2)) {
                *y = pair[1] - PRE_EMPHASIS * pair[0];
            }
            level.update(out);
            filtered[0] = filtered[out.len()];
        }
        // Filtering the preceding part still needs the first sample of this part.
        x.truncate(start + 1);
        x.shrink_to_fit();
    }
    (out, level)
}

/// SignalLevel of a signal: largest sample, largest magnitude, and whether all samples are finite.
#[derive(Debug, Clone)]
pub(crate) struct SignalLevel {
    /// Largest sample by value, per lane of every eighth sample.
    largest: [f64; LANES],
    /// Largest magnitude, per lane.
    magnitude: [f64; LANES],
    finite: bool,
}

impl Default for SignalLevel {
    fn default() -> Self {
        Self {
            largest: [f64::NEG_INFINITY; LANES],
            magnitude: [0.0; LANES],
            finite: true,
        }
    }
}

impl SignalLevel {
    fn update(&mut self, x: &[f64]) {
        let larger = |a: f64, b: f64| if b > a { b } else { a };
        let (groups, rest) = x.as_chunks::<LANES>();
        for x in groups {
            for (lane, x) in x.iter().enumerate() {
                self.largest[lane] = larger(self.largest[lane], *x);
                self.magnitude[lane] = larger(self.magnitude[lane], x.abs());
            }
        }
        for (lane, x) in rest.iter().enumerate() {
            self.largest[lane] = larger(self.largest[lane], *x);
            self.magnitude[lane] = larger(self.magnitude[lane], x.abs());
        }
        self.finite &= x.iter().fold(true, |finite, x| finite & x.is_finite());
    }

    /// Returns [`largest_sample`]; `None` also if the signal divided by it is not finite.
    pub(crate) fn peak(&self) -> Option<f64> {
        let peak = largest_sample(&self.largest)?;
        (self.finite && self.magnitude_by(peak).is_finite()).then_some(peak)
    }

    /// Returns the largest magnitude of the signal divided by `peak`; division preserves the order.
    pub(crate) fn magnitude_by(&self, peak: f64) -> f64 {
        let largest = self.magnitude.into_iter().fold(0.0, f64::max);
        largest / peak.abs()
    }
}

/// Returns the noise power: the mean of the local variances.
fn noise(x: &[f32]) -> f64 {
    let sum = pairwise(0..x.len(), &|part: Range<usize>| {
        let (mut mean, mut variance) = ([0.0; BLOCK], [0.0; BLOCK]);
        let variance = &mut variance[..part.len()];
        local_moments(x, part.start, &mut mean[..part.len()], variance);
        block_sum(variance)
    });
    sum / x.len().max(1) as f64
}

/// Filters at most [`BLOCK`] samples from `start` on.
fn wiener_block(x: &[f32], start: usize, noise: f64, out: &mut [f64]) {
    let mut variance = [0.0; BLOCK];
    let variance = &mut variance[..out.len()];
    local_moments(x, start, out, variance);
    for ((m, v), x) in out.iter_mut().zip(variance).zip(&x[start..]) {
        let kept = (f64::from(*x) - *m) * (1.0 - noise / *v);
        let is_signal = (*v >= noise) & kept.is_finite();
        *m = if is_signal { *m + kept } else { *m };
    }
}

/// Computes mean and variance of the three samples around each sample from `start` on.
fn local_moments(x: &[f32], start: usize, mean: &mut [f64], variance: &mut [f64]) {
    let moments = |[before, here, after]: [f32; 3]| {
        let third = |[a, b, c]: [f64; 3]| (a + b + c) / 3.0;
        let mean = third([before, here, after].map(f64::from));
        let square = third([before, here, after].map(|x| f64::from(x * x)));
        (mean, square - mean * mean)
    };
    let around = |i: usize| {
        let before = i.checked_sub(1).map_or(0.0, |i| x[i]);
        [before, x[i], x.get(i + 1).copied().unwrap_or(0.0)]
    };
    // Samples with two neighbours, relative to `start`.
    let end = (x.len() - start).saturating_sub(1).min(mean.len());
    let inner = usize::from(start == 0).min(end)..end;
    for i in (0..inner.start).chain(inner.end..mean.len()) {
        (mean[i], variance[i]) = moments(around(start + i));
    }
    if inner.is_empty() {
        return;
    }
    let at = |shift: usize| &x[start + inner.start + shift - 1..][..inner.len()];
    let outs = mean[inner.clone()]
        .iter_mut()
        .zip(&mut variance[inner.clone()]);
    for ((((m, v), a), b), c) in outs.zip(at(0)).zip(at(1)).zip(at(2)) {
        (*m, *v) = moments([*a, *b, *c]);
    }
}

/// Maximum number of terms that are summed without halving.
const BLOCK: usize = 128;

/// Sums in numpy's order (`pairwise_sum` in its `loops.c.src`): halves ranges down to [`BLOCK`]
/// terms, which `block` sums. If the local variance is far below the noise, the filter output
/// depends on the last bits of this sum.
fn pairwise(all: Range<usize>, block: &impl Fn(Range<usize>) -> f64) -> f64 {
    if all.len() <= BLOCK {
        return block(all);
    }
    let half = all.start + all.len() / 2 / LANES * LANES;
    pairwise(all.start..half, block) + pairwise(half..all.end, block)
}

const LANES: usize = 8;

/// Sums at most [`BLOCK`] terms in eight interleaved sums.
fn block_sum(x: &[f64]) -> f64 {
    let (groups, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for group in groups {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *lane += x;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    rest.iter()
        .fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, x| sum + x)
}

/// Computes `y[i] = x[i] - 0.97 x[i-1]` in place; the first sample is unchanged.
pub fn pre_emphasis(x: &mut [f64]) {
    let mut previous = 0.0;
    for x in x {
        let current = *x;
        *x = current - PRE_EMPHASIS * previous;
        previous = current;
    }
}

/// Returns the largest sample by value, not by magnitude; `None` if the signal is empty, or if the
/// largest sample is zero or not finite.
///
/// Without a positive sample, that is the negative sample nearest to zero, as in the system of
/// 2020. Dividing by it inverts the signal, and the later multiplication restores the sign.
pub fn largest_sample(x: &[f64]) -> Option<f64> {
    let peak = x.iter().copied().reduce(f64::max)?;
    (peak != 0.0 && peak.is_finite()).then_some(peak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flat_signal_passes_through() {
        let out = wiener(&[0.25; 100]);
        assert!(out[1..99].iter().all(|y| *y == 0.25));
        assert!(wiener(&[]).is_empty());
        assert_eq!(wiener(&[0.0; 5]), [0.0; 5]);
    }

    #[test]
    fn three_samples_by_hand() {
        // Means 1, 2, 5/3; mean squares 5/3, 14/3, 13/3; variances 2/3, 2/3, 14/9; noise 26/27.
        let out = wiener(&[1.0, 2.0, 3.0]);
        let last = 5.0 / 3.0 + (3.0 - 5.0 / 3.0) * (1.0 - (26.0 / 27.0) / (14.0 / 9.0));
        for (a, b) in out.iter().zip([1.0, 2.0, last]) {
            assert!((a - b).abs() < 1e-14, "{a} against {b}");
        }
    }

    #[test]
    fn denoising_in_parts_equals_the_whole() {
        let x: Vec<f32> = (0..(1 << 21) + 3)
            .map(|i: i32| ((i % 1000) as f32 - 500.0) / 499.0)
            .collect();
        let mut whole = wiener(&x);
        pre_emphasis(&mut whole);
        let (parts, level) = denoise(x);
        assert!(parts == whole);
        let peak = largest_sample(&whole).unwrap();
        assert_eq!(level.peak(), Some(peak));
        let magnitude = whole.iter().fold(0.0_f64, |m, x| m.max((x / peak).abs()));
        assert_eq!(level.magnitude_by(peak), magnitude);
        assert!(denoise(Vec::new()).1.peak().is_none());
    }

    #[test]
    fn a_non_finite_signal_has_no_peak() {
        for broken in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for at in [0, 9, 20] {
                let mut x = [0.5; 21];
                let mut level = SignalLevel::default();
                level.update(&x);
                assert_eq!(level.peak(), Some(0.5));
                x[at] = broken;
                level.update(&x);
                assert_eq!(level.peak(), None, "{broken} at {at}");
            }
        }
        let mut level = SignalLevel::default();
        level.update(&[1e-300, -1e300]);
        assert_eq!(level.peak(), None);
    }

    #[test]
    fn pre_emphasis_takes_most_of_the_previous_sample_away() {
        let mut x = [1.0, 1.0, 0.0, -2.0];
        pre_emphasis(&mut x);
        assert_eq!(x, [1.0, 1.0 - 0.97, -0.97, -2.0]);
    }

    #[test]
    fn the_largest_sample_is_by_value() {
        assert_eq!(largest_sample(&[-3.0, 0.5, 0.25]), Some(0.5));
        assert_eq!(largest_sample(&[-3.0, -0.5]), Some(-0.5));
        assert_eq!(largest_sample(&[-3.0, 0.0]), None);
        assert_eq!(largest_sample(&[]), None);
    }

    #[test]
    fn zeros_of_both_signs_are_replaced() {
        let mut x = [0.0, -0.0, 1e-20, -1.0];
        replace_zeros(&mut x);
        assert_eq!(x, [ZERO_REPLACEMENT, ZERO_REPLACEMENT, 1e-20, -1.0]);
    }

    proptest! {
        #[test]
        fn the_filter_is_finite_on_every_scale(
            x in prop::collection::vec(-1.0f32..1.0, 0..200),
            quiet in -45i32..0,
            hold in 1usize..20,
        ) {
            let scale = 10f32.powi(quiet);
            let x: Vec<f32> = x.iter().flat_map(|x| std::iter::repeat_n(x * scale, hold)).collect();
            prop_assert!(wiener(&x).iter().all(|y| y.is_finite()));
        }

        #[test]
        fn pairwise_sums_are_sums(x in prop::collection::vec(-1.0f64..1.0, 0..2000)) {
            let sum = pairwise(0..x.len(), &|part: Range<usize>| block_sum(&x[part]));
            prop_assert!((sum - x.iter().sum::<f64>()).abs() < 1e-11);
        }
    }
}
