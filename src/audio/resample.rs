//! Sample rate conversion by windowed sinc interpolation.
//!
//! Method: J. O. Smith, "Digital Audio Resampling" (band-limited interpolation with a tabulated
//! filter), with the filter and the arithmetic of resampy 0.2.1's `kaiser_best`: every output
//! sample is a float32 accumulator that each tap is added to in float64 and rounded again. That
//! order of rounding is kept here, so the results are the same to the last bit.

use std::f64::consts::PI;
use std::sync::OnceLock;

/// The rate that everything after the front end works at, in Hz.
pub const TARGET_RATE: u32 = 16_000;
/// The rate that every recording passes through on its way, in Hz (the reference loads at it).
pub const INTERMEDIATE_RATE: u32 = 22_050;

/// Zero crossings of the sinc on each side.
const ZEROS: usize = 64;
/// Table entries per zero crossing.
const ENTRIES_PER_ZERO: usize = 512;
/// Index of the last entry of one wing.
const LAST: usize = ZEROS * ENTRIES_PER_ZERO;
/// Shape of the Kaiser window (resampy's `kaiser_best`).
const BETA: f64 = 14.769656459379492;
/// Cut-off as a fraction of the Nyquist frequency (resampy's `kaiser_best`).
const ROLLOFF: f64 = 0.9475937167399596;

/// Output samples computed side by side. Each is a chain of dependent roundings, so only
/// independent chains keep the processor busy.
const LANES: usize = 8;

/// Brings a mono signal to [`TARGET_RATE`] the way the reference does: to [`INTERMEDIATE_RATE`]
/// first, then down, a step whose rates are equal being skipped.
pub fn to_target_rate(x: &[f32], rate: u32) -> Vec<f32> {
    let intermediate = resample(x, rate, INTERMEDIATE_RATE);
    resample(&intermediate, INTERMEDIATE_RATE, TARGET_RATE)
}

/// Number of samples [`resample`] returns for `n`: `ceil(n * to / from)`, in float64.
pub fn resampled_len(n: usize, from: u32, to: u32) -> usize {
    (n as f64 * ratio(from, to)).ceil() as usize
}

/// Resamples a mono signal from rate `from` to rate `to` (both in Hz and above zero).
///
/// `floor(n * to / from)` samples are computed and zeros are appended up to [`resampled_len`].
/// Equal rates give the signal back. Time is linear in the longer of the two signals (in taps:
/// about `128 * max(1, from / to)` per output sample); memory is the output and two small tables.
pub fn resample(x: &[f32], from: u32, to: u32) -> Vec<f32> {
    assert!(from > 0 && to > 0, "sample rates must be above zero");
    if from == to {
        return x.to_vec();
    }
    let ratio = ratio(from, to);
    let computed = (x.len() as f64 * ratio) as usize;
    let mut out = vec![0.0; resampled_len(x.len(), from, to)];
    Filter::new(ratio).run(x, &mut out[..computed]);
    out
}

fn ratio(from: u32, to: u32) -> f64 {
    f64::from(to) / f64::from(from)
}

/// The right half of the filter: `rolloff * sinc * kaiser` at `0..=LAST`.
fn half_filter() -> &'static [f64] {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let norm = bessel_i0(BETA);
        (0..=LAST)
            .map(|i| {
                let crossings = i as f64 / ENTRIES_PER_ZERO as f64;
                let sinc = match PI * (ROLLOFF * crossings) {
                    0.0 => 1.0,
                    angle => angle.sin() / angle,
                };
                let edge = i as f64 / LAST as f64;
                let window = bessel_i0(BETA * (1.0 - edge * edge).sqrt()) / norm;
                ROLLOFF * sinc * window
            })
            .collect()
    })
}

/// Modified Bessel function of the first kind, order 0, by its power series
/// (Abramowitz & Stegun 9.6.12). All terms are positive, so nothing cancels.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * (f64::EPSILON / 8.0) {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

/// The filter for one ratio, ordered so that the taps of one output sample are neighbours.
struct Filter {
    scale: f64,
    increment: f64,
    /// Distance of neighbouring taps in the half filter.
    step: usize,
    /// Taps per row; a row holds the entries `offset`, `offset + step`, ...
    row: usize,
    /// Value and slope (difference to the next entry) per tap, in rows by offset.
    value: Vec<f64>,
    slope: Vec<f64>,
}

/// Where one output sample sits: its row in the table and the way to the next row.
struct Wing {
    taps: usize,
    row: usize,
    eta: f64,
}

impl Filter {
    fn new(ratio: f64) -> Self {
        let base = half_filter();
        let gain = ratio.min(1.0);
        let entry = |i: usize| base[i] * gain;
        let slope_at = |i: usize| {
            if i < LAST {
                entry(i + 1) - entry(i)
            } else {
                0.0
            }
        };
        // At least one, so that absurd ratios stay finite; sane ones never come near it.
        let step = ((gain * ENTRIES_PER_ZERO as f64) as usize).max(1);
        // The step is cut to a whole number, the offset is not: it can reach past the step.
        let offsets = (gain * ENTRIES_PER_ZERO as f64) as usize + 2;
        let row = (LAST + 1) / step;
        let mut value = vec![0.0; offsets * row];
        let mut slope = vec![0.0; offsets * row];
        for offset in 0..offsets {
            for tap in 0..row {
                let i = offset + tap * step;
                if i <= LAST {
                    value[offset * row + tap] = entry(i);
                    slope[offset * row + tap] = slope_at(i);
                }
            }
        }
        Self {
            scale: gain,
            increment: 1.0 / ratio,
            step,
            row,
            value,
            slope,
        }
    }

    fn wing(&self, frac: f64, reach: usize) -> Wing {
        let index = frac * ENTRIES_PER_ZERO as f64;
        let offset = index as usize;
        Wing {
            taps: reach.min((LAST + 1 - offset) / self.step),
            row: offset * self.row,
            eta: index - offset as f64,
        }
    }

    fn run(&self, x: &[f32], out: &mut [f32]) {
        // -0.0 is the one number that changes nothing when it is added.
        let mut products = vec![[-0.0f64; LANES]; 2 * self.row];
        let mut time = 0.0f64;
        for block in out.chunks_mut(LANES) {
            let (mut left_taps, mut right_taps) = (0, 0);
            products.fill([-0.0; LANES]);
            let (left, right) = products.split_at_mut(self.row);
            for lane in 0..block.len() {
                let n = (time as usize).min(x.len() - 1);
                let frac = self.scale * (time - n as f64);
                let wing = self.wing(frac, n + 1);
                left_taps = left_taps.max(wing.taps);
                self.multiply(&wing, x[..=n].iter().rev(), left, lane);
                let wing = self.wing(self.scale - frac, x.len() - n - 1);
                right_taps = right_taps.max(wing.taps);
                self.multiply(&wing, x[n + 1..].iter(), right, lane);
                time += self.increment;
            }
            let mut acc = [0.0f32; LANES];
            for tap in left[..left_taps].iter().chain(&right[..right_taps]) {
                for (acc, p) in acc.iter_mut().zip(tap) {
                    *acc = (f64::from(*acc) + p) as f32;
                }
            }
            block.copy_from_slice(&acc[..block.len()]);
        }
    }

    fn multiply<'a>(
        &self,
        wing: &Wing,
        x: impl Iterator<Item = &'a f32>,
        products: &mut [[f64; LANES]],
        lane: usize,
    ) {
        let value = &self.value[wing.row..][..wing.taps];
        let slope = &self.slope[wing.row..][..wing.taps];
        for (((p, v), s), x) in products.iter_mut().zip(value).zip(slope).zip(x) {
            p[lane] = (v + wing.eta * s) * f64::from(*x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tap is rounded to float32 (relative 6e-8) as it is added to a sum that stays below 2, and
    /// at most 5,000 taps take part; their errors add up like a random walk.
    const TOLERANCE: f64 = 2.0 * 6e-8 * 71.0;

    /// The filter's value between entries of the table, straight from the definition.
    fn h(index: f64, gain: f64) -> f64 {
        let entry = |i: usize| {
            let crossings = ROLLOFF * i as f64 / 512.0;
            let sinc = if i == 0 {
                1.0
            } else {
                (PI * crossings).sin() / (PI * crossings)
            };
            let edge = i as f64 / 32768.0;
            let window = bessel_i0(BETA * (1.0 - edge * edge).sqrt()) / bessel_i0(BETA);
            ROLLOFF * sinc * window * gain
        };
        let i = index as usize;
        let next = if i < 32768 { entry(i + 1) } else { entry(i) };
        entry(i) + (index - i as f64) * (next - entry(i))
    }

    fn naive(x: &[f32], from: u32, to: u32) -> Vec<f64> {
        let r = f64::from(to) / f64::from(from);
        let gain = r.min(1.0);
        let step = (gain * 512.0).floor();
        let mut out = vec![];
        let mut time = 0.0f64;
        for _ in 0..(x.len() as f64 * r).floor() as usize {
            let n = time.floor();
            let mut sum = 0.0;
            for (start, direction) in [(n, -1.0), (n + 1.0, 1.0)] {
                let frac = if direction < 0.0 {
                    time - n
                } else {
                    1.0 - (time - n)
                };
                let (mut index, mut at) = (frac * gain * 512.0, start);
                // The table ends at entry 32768; a tap is used if a whole step still fits.
                let taps = ((32769.0 - index.floor()) / step).floor() as usize;
                for _ in 0..taps {
                    if at < 0.0 || at >= x.len() as f64 {
                        break;
                    }
                    sum += h(index, gain) * f64::from(x[at as usize]);
                    index += step;
                    at += direction;
                }
            }
            out.push(sum);
            time += 1.0 / r;
        }
        out.resize((x.len() as f64 * r).ceil() as usize, 0.0);
        out
    }

    #[test]
    fn bessel_function_has_its_tabulated_values() {
        // Abramowitz & Stegun, table 9.8, and I0(14.77) as numpy.i0 gives it.
        for (x, expected) in [
            (0.0, 1.0),
            (1.0, 1.266_065_877_752_008_4),
            (10.0, 2_815.716_628_466_254),
        ] {
            let error: f64 = bessel_i0(x) / expected - 1.0;
            assert!(error.abs() < 4.0 * f64::EPSILON, "{x}: {error:e}");
        }
    }

    #[test]
    fn a_constant_stays_one_and_equal_rates_change_nothing() {
        let x = vec![0.5; 4000];
        assert_eq!(resample(&x, 16_000, 16_000), x);
        let y = resample(&x, 16_000, 22_050);
        assert!(y[1000..4000].iter().all(|y| (y - 0.5).abs() < 1e-5));
        assert!(resample(&[], 8_000, 16_000).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_the_definition(
            x in prop::collection::vec(-1.0f32..1.0, 1..300),
            from in prop::sample::select(vec![8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]),
            to in prop::sample::select(vec![22_050, 16_000]),
        ) {
            prop_assume!(from != to);
            let ours = resample(&x, from, to);
            let expected = naive(&x, from, to);
            prop_assert_eq!(ours.len(), expected.len());
            for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
                prop_assert!((f64::from(*a) - b).abs() <= TOLERANCE, "{}: {} against {}", i, a, b);
            }
        }

        #[test]
        fn length_is_the_ratio_rounded_up(n in 0usize..3000, from in 1_000u32..=768_000) {
            let x = vec![0.25; n];
            let y = resample(&x, from, 22_050);
            prop_assert_eq!(y.len(), (n as f64 * (22_050.0 / f64::from(from))).ceil() as usize);
            prop_assert_eq!(y.len(), resampled_len(n, from, 22_050));
            prop_assert!(y.iter().all(|y| y.is_finite() && y.abs() < 1.0));
        }
    }
}
