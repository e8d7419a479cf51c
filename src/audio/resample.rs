//! Sample rate conversion by windowed sinc interpolation.
//!
//! Method: J. O. Smith, "Digital Audio Resampling" (band-limited interpolation with a tabulated
//! filter), with the filter and the arithmetic of resampy 0.2.1's `kaiser_best`. Each output sample
//! is a float32 accumulator; every tap is added in float64 and the sum is rounded to float32. The
//! same order of rounding is kept here, so the results match resampy to the last bit.

mod exact;
mod filter;
mod polyphase;

pub(crate) use filter::Filter;
pub(crate) use polyphase::Polyphase;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

use crate::parallelism::Parallelism;
use crate::simd::Isa;

/// Sample rate after the front end's conversion, in Hz.
pub const TARGET_RATE: u32 = 16_000;
/// Intermediate sample rate in Hz: the system of 2020 loads every recording at this rate.
pub const INTERMEDIATE_RATE: u32 = 22_050;

/// Method of conversion to [`TARGET_RATE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resampling {
    /// Bit-exact with resampy, in the two steps of the system of 2020 ([`resample`]).
    #[default]
    Exact,
    /// Several times faster, in one step ([`resample_directly`]).
    Fast,
}

impl Resampling {
    /// Returns the name in bundles and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }

    /// Converts a mono signal to [`TARGET_RATE`]: in two bit-exact steps ([`to_target_rate`]), or
    /// in one fast step.
    pub fn to_target_rate(self, x: &[f32], rate: u32) -> Vec<f32> {
        self.convert(Cow::Borrowed(x), rate, Parallelism::No)
    }

    /// Does the same as [`Self::to_target_rate`], but frees an owned `x` after the first step.
    pub(crate) fn convert(
        self,
        x: Cow<'_, [f32]>,
        rate: u32,
        parallelism: Parallelism,
    ) -> Vec<f32> {
        match self {
            Self::Exact => {
                let intermediate = resample_if_needed(x, rate, INTERMEDIATE_RATE, parallelism);
                resample_if_needed(intermediate, INTERMEDIATE_RATE, TARGET_RATE, parallelism)
                    .into_owned()
            }
            Self::Fast => resample_directly(&x, rate, TARGET_RATE),
        }
    }

    /// Converts a mono signal to [`TARGET_RATE`] in one step with either method. A signal at this
    /// rate is returned unchanged.
    pub(crate) fn convert_in_one_step(
        self,
        x: Cow<'_, [f32]>,
        rate: u32,
        parallelism: Parallelism,
    ) -> Cow<'_, [f32]> {
        match self {
            Self::Fast if rate != TARGET_RATE => {
                Cow::Owned(resample_directly(&x, rate, TARGET_RATE))
            }
            _ => resample_if_needed(x, rate, TARGET_RATE, parallelism),
        }
    }

    /// Returns the number of samples that [`Self::convert_in_one_step`] outputs for `n`.
    #[cfg(feature = "cuda")]
    pub(crate) fn one_step_len(self, n: usize, rate: u32) -> usize {
        match self {
            _ if rate == TARGET_RATE => n,
            Self::Exact => resampled_len(n, rate, TARGET_RATE),
            Self::Fast => Polyphase::len(n, rate, TARGET_RATE),
        }
    }

    /// Returns the number of samples that [`Self::to_target_rate`] outputs for `n`.
    pub fn target_len(self, n: usize, rate: u32) -> usize {
        match self {
            Self::Exact => {
                let intermediate = resampled_len(n, rate, INTERMEDIATE_RATE);
                resampled_len(intermediate, INTERMEDIATE_RATE, TARGET_RATE)
            }
            Self::Fast => Polyphase::len(n, rate, TARGET_RATE),
        }
    }
}

/// Converts a mono signal to [`TARGET_RATE`] like the system of 2020: first to
/// [`INTERMEDIATE_RATE`], then down. A step between equal rates is skipped.
pub fn to_target_rate(x: &[f32], rate: u32) -> Vec<f32> {
    Resampling::Exact.to_target_rate(x, rate)
}

/// Resamples like [`resample`], but does not copy a signal that already has the rate.
pub(crate) fn resample_if_needed(
    x: Cow<'_, [f32]>,
    from: u32,
    to: u32,
    parallelism: Parallelism,
) -> Cow<'_, [f32]> {
    match from == to {
        true => x,
        false => Cow::Owned(resample_on(Isa::best(), &x, from, to, parallelism)),
    }
}

/// Returns the number of samples that [`resample`] outputs for `n`: `ceil(n * to / from)`, in
/// float64.
pub fn resampled_len(n: usize, from: u32, to: u32) -> usize {
    (n as f64 * ratio(from, to)).ceil() as usize
}

/// Resamples a mono signal from rate `from` to rate `to` (both in Hz and above zero).
///
/// `floor(n * to / from)` samples are computed and zeros are appended up to [`resampled_len`].
/// Equal rates return the signal unchanged. Time is linear in the longer of the two signals (about
/// `128 * max(1, from / to)` taps per output sample); memory is the output and two small tables.
pub fn resample(x: &[f32], from: u32, to: u32) -> Vec<f32> {
    assert!(from > 0 && to > 0, "sample rates must be above zero");
    resample_if_needed(Cow::Borrowed(x), from, to, Parallelism::No).into_owned()
}

/// Resamples a mono signal from rate `from` to rate `to` (both in Hz and above zero) in one step,
/// with the filter of [`resample`] but without its table interpolation and float32 rounding errors.
///
/// Returns `ceil(n * to / from)` samples, each within 1e-6 of the ideal filter output for a signal
/// between -1 and 1. Frequencies above the cut-off (0.9476 of the lower Nyquist frequency) are
/// removed even at equal rates. Time is linear in the longer of the two signals; memory is the
/// output and a table of at most 1 MiB.
pub fn resample_directly(x: &[f32], from: u32, to: u32) -> Vec<f32> {
    assert!(from > 0 && to > 0, "sample rates must be above zero");
    Polyphase::of(from, to).run(Isa::best(), x)
}

fn resample_on(isa: Isa, x: &[f32], from: u32, to: u32, parallelism: Parallelism) -> Vec<f32> {
    let ratio = ratio(from, to);
    let computed = (x.len() as f64 * ratio) as usize;
    let mut out = vec![0.0; resampled_len(x.len(), from, to)];
    let divisor = gcd(from, to);
    let steps = ((to / divisor) as usize, (from / divisor) as usize);
    let filter = Filter::of(ratio);
    exact::run(isa, &filter, steps, x, &mut out[..computed], parallelism);
    out
}

/// Returns the greatest common divisor (Euclid's algorithm).
pub(crate) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(crate) fn ratio(from: u32, to: u32) -> f64 {
    f64::from(to) / f64::from(from)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::filter::{BETA, ROLLOFF, bessel_i0};
    use super::*;
    use proptest::prelude::*;

    /// A tap is rounded to float32 (relative 6e-8) when it is added to a sum that stays below 2.
    /// The errors of at most 5,000 taps accumulate like a random walk: sqrt(5000) = 71.
    const TOLERANCE: f64 = 2.0 * 6e-8 * 71.0;

    /// Filter value between table entries, computed from its definition.
    fn h(index: f64, gain: f64) -> f64 {
        let entry = |i: usize| {
            let crossings = ROLLOFF * i as f64 / 512.0;
            let sinc = if i == 0 {
                1.0
            } else {
                (PI * crossings).sin() / (PI * crossings)
            };
            let edge = i as f64 / 32768.0;
            let window = bessel_i0([BETA * (1.0 - edge * edge).sqrt()])[0] / bessel_i0([BETA])[0];
            ROLLOFF * sinc * window * gain
        };
        let i = index as usize;
        let next = if i < 32768 { entry(i + 1) } else { entry(i) };
        entry(i) + (index - i as f64) * (next - entry(i))
    }

    /// Common rate pairs of both conversion steps.
    const RATES: [(u32, u32); 9] = [
        (16_000, 22_050),
        (22_050, 16_000),
        (44_100, 22_050),
        (48_000, 22_050),
        (8_000, 22_050),
        (11_025, 22_050),
        (24_000, 22_050),
        (96_000, 22_050),
        (48_000, 16_000),
    ];

    /// Noise at a given level, interrupted by silence.
    fn noise(n: usize, seed: u64, level: f32) -> Vec<f32> {
        let mut state = seed | 1;
        (0..n)
            .map(|i| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let x = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                if i / 500 % 3 == 1 { 0.0 } else { x * level }
            })
            .collect()
    }

    /// Computes each sample separately, in the order of rounding that defines the result.
    fn by_chains(x: &[f32], from: u32, to: u32) -> Vec<f32> {
        let ratio = ratio(from, to);
        let mut out = vec![0.0; resampled_len(x.len(), from, to)];
        let computed = (x.len() as f64 * ratio) as usize;
        exact::chains(&Filter::of(ratio), x, 0.0, &mut out[..computed]);
        out
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
                // The table ends at entry 32768; a tap is used if a complete step still fits.
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
    fn a_constant_stays_constant_and_equal_rates_change_nothing() {
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
        fn parallel_lanes_are_bit_identical_to_single_chains(
            seed in any::<u64>(),
            n in 0usize..60_000,
            quiet in prop::sample::select(vec![0, 0, 0, -20, -43]),
            (from, to) in prop_oneof![
                prop::sample::select(RATES.to_vec()),
                (1_000u32..100_000, prop::sample::select(vec![22_050, 16_000])),
                (1u32..40, 1u32..40).prop_map(|(p, q)| (1000 * p, 1000 * q)),
            ],
        ) {
            prop_assume!(from != to);
            let x = noise(n, seed, 10f32.powi(quiet));
            let expected = by_chains(&x, from, to);
            for isa in Isa::available() {
                for parallelism in [Parallelism::No, Parallelism::Yes] {
                    let ours = resample_on(isa, &x, from, to, parallelism);
                    prop_assert_eq!(ours.len(), expected.len());
                    let differs = ours.iter().zip(&expected).position(|(a, b)| a.to_bits() != b.to_bits());
                    prop_assert_eq!(differs, None, "{} to {} Hz, {} samples, {}, {:?}", from, to, n, isa.name(), parallelism);
                }
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
