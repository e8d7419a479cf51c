//! From the resampled signal to a denoised, peak-normalised one.
//!
//! The stages in order: [`lift_zeros`], [`wiener`], [`pre_emphasis`], [`largest_sample`] (by which
//! the caller divides).

/// What a sample that is exactly zero becomes.
pub const ZERO_REPLACEMENT: f32 = 1e-10;

/// Share of the previous sample that pre-emphasis takes away.
const PRE_EMPHASIS: f64 = 0.97;

/// Replaces every sample equal to zero by [`ZERO_REPLACEMENT`], so that later divisions have
/// something to divide by.
pub fn lift_zeros(x: &mut [f32]) {
    for x in x {
        if *x == 0.0 {
            *x = ZERO_REPLACEMENT;
        }
    }
}

/// Wiener filter over windows of three samples, zeros beyond both ends.
///
/// Method: J. S. Lim, "Two-Dimensional Signal and Image Processing" (1990), as in
/// `scipy.signal.wiener(x, 3)`: the local variance `v` is compared with the noise (the mean of
/// `v` over the signal); where there is less, the local mean `m` is the answer, elsewhere
/// `m + (x - m) * (1 - noise / v)`. Squares are rounded to float32 as the reference does, so `v`
/// can come out zero or slightly negative; where the formula then has no finite value (0/0), the
/// window is flat and its mean is the answer.
pub fn wiener(x: &[f32]) -> Vec<f64> {
    let sample = |i: usize| f64::from(x[i]);
    let square = |i: usize| f64::from(x[i] * x[i]);
    let third = |f: &dyn Fn(usize) -> f64, i: usize| {
        let before = if i > 0 { f(i - 1) } else { 0.0 };
        let after = if i + 1 < x.len() { f(i + 1) } else { 0.0 };
        (before + f(i) + after) / 3.0
    };
    let mut mean = Vec::with_capacity(x.len());
    let mut variance = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        let m = third(&sample, i);
        mean.push(m);
        variance.push(third(&square, i) - m * m);
    }
    let noise = pairwise_sum(&variance) / x.len().max(1) as f64;
    let mut out = mean;
    for ((m, v), x) in out.iter_mut().zip(&variance).zip(x) {
        if *v >= noise {
            let kept = (f64::from(*x) - *m) * (1.0 - noise / v);
            if kept.is_finite() {
                *m += kept;
            }
        }
    }
    out
}

/// Sum in numpy's order (`pairwise_sum` in its `loops.c.src`): halves down to 128 numbers, those in
/// eight interleaved sums. Where the local variance is much smaller than the noise, the filter's
/// answer depends on the last bits of this.
fn pairwise_sum(x: &[f64]) -> f64 {
    const BLOCK: usize = 128;
    const LANES: usize = 8;
    if x.len() > BLOCK {
        let half = x.len() / 2 / LANES * LANES;
        return pairwise_sum(&x[..half]) + pairwise_sum(&x[half..]);
    }
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

/// `y[i] = x[i] - 0.97 x[i-1]`, the first sample unchanged; in place.
pub fn pre_emphasis(x: &mut [f64]) {
    let mut previous = 0.0;
    for x in x {
        let current = *x;
        *x = current - PRE_EMPHASIS * previous;
        previous = current;
    }
}

/// The largest sample, by value and not by magnitude; `None` when the signal is empty, or when
/// the largest is zero and nothing can be divided by it.
///
/// A signal without any positive sample gives its negative sample nearest to zero, as the
/// reference does: dividing by it turns the signal upside down, multiplying by it later turns it
/// back.
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
    fn zeros_of_both_signs_are_lifted() {
        let mut x = [0.0, -0.0, 1e-20, -1.0];
        lift_zeros(&mut x);
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
            prop_assert!((pairwise_sum(&x) - x.iter().sum::<f64>()).abs() < 1e-11);
        }
    }
}
