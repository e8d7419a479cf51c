//! Activation functions with the same bits on every machine.
//!
//! `exp` and `tanh` consist of fused multiply-adds and bit operations, so they do not depend on the
//! platform's maths library. The rarer functions go through `f64`.

use crate::nn::layers::Activation;
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel, mul_add};

/// Returns `exp(x)` within 1 ULP; 0 below -104, infinity above 88.8.
///
/// Range reduction by `ln 2` in two parts (Cody and Waite), then the Taylor polynomial of degree 7,
/// whose remainder on `|r| <= ln(2) / 2` is below 6e-9.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    // A NaN passes both comparisons unchanged.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let rounded = mul_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add(-n, LN2_HIGH, x);
    let r = mul_add(-n, LN2_LOW, r);
    let p = mul_add(r, 1.0 / 5040.0, 1.0 / 720.0);
    let p = mul_add(r, p, 1.0 / 120.0);
    let p = mul_add(r, p, 1.0 / 24.0);
    let p = mul_add(r, p, 1.0 / 6.0);
    let p = mul_add(r, p, 0.5);
    let p = mul_add(r, p, 1.0);
    let p = mul_add(r, p, 1.0);
    // 2^n as two factors, which gives correct subnormal results and overflow to infinity. The
    // integer is read from the low bits of the sum: a saturating conversion does not vectorise.
    // Only NaN yields no valid integer, and the product stays NaN.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    p * power(half) * power(n - half)
}

/// Returns `1 / (1 + exp(-x))` within 2 ULP of 1.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns `clip(0.2 * x + 0.5, 0, 1)`; the product is rounded before the sum, which matches
/// TensorFlow.
#[inline(always)]
pub(crate) fn hard_sigmoid(x: f32) -> f32 {
    (0.2 * x + 0.5).clamp(0.0, 1.0)
}

/// Returns the hyperbolic tangent within 3 ULP: below 0.625 in magnitude the odd polynomial of
/// Cephes' `tanhf` (Moshier), above it `1 - 2 / (exp(2x) + 1)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let p = mul_add(z, -5.704_988_7e-3, 2.063_909e-2);
    let p = mul_add(z, p, -5.373_971_5e-2);
    let p = mul_add(z, p, 1.333_144_2e-1);
    let p = mul_add(z, p, -3.333_328e-1);
    let small = mul_add(p * z, x, x);
    let large = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 {
        small
    } else {
        large.copysign(x)
    }
}

/// Applies an element-wise function, or softmax to each row of `last` elements.
pub(crate) fn activate(isa: Isa, function: Activation, last: usize, values: &mut [f32]) {
    match function {
        Activation::Linear => {}
        Activation::Softmax => softmax(isa, last, values),
        _ => isa.dispatch(Apply { function, values }),
    }
}

struct Apply<'a> {
    function: Activation,
    values: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        apply(self.function, self.values);
    }
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for v in values {
        *v = f(*v);
    }
}

/// Applies an element-wise function to `values`. Softmax is excluded: it needs rows.
#[inline(always)]
pub(crate) fn apply(function: Activation, values: &mut [f32]) {
    let in_f64 = |f: fn(f64) -> f64| move |x: f32| f(f64::from(x)) as f32;
    match function {
        Activation::Linear => {}
        Activation::Softmax => unreachable!("softmax is not element-wise"),
        Activation::Relu => each(values, |x| if x > 0.0 { x } else { 0.0 }),
        Activation::ReluWith {
            max,
            slope,
            threshold,
        } => {
            let max = max.unwrap_or(f32::INFINITY);
            each(values, |x| {
                if x >= max {
                    max
                } else if x >= threshold {
                    x
                } else {
                    slope * (x - threshold)
                }
            });
        }
        Activation::ThresholdedRelu { theta } => {
            each(values, |x| if x > theta { x } else { 0.0 });
        }
        Activation::LeakyRelu { alpha } => each(values, |x| if x > 0.0 { x } else { alpha * x }),
        Activation::Elu { alpha } => each(values, |x| {
            if x > 0.0 {
                x
            } else {
                (f64::from(alpha) * f64::from(x).exp_m1()) as f32
            }
        }),
        Activation::Selu => each(
            values,
            in_f64(|x| {
                let elu = if x > 0.0 {
                    x
                } else {
                    1.673_263_242_354_377_2 * x.exp_m1()
                };
                1.050_700_987_355_480_5 * elu
            }),
        ),
        Activation::Sigmoid => each(values, sigmoid),
        Activation::HardSigmoid => each(values, hard_sigmoid),
        Activation::HardSigmoid6 => each(values, |x| (x + 3.0).clamp(0.0, 6.0) / 6.0),
        Activation::Tanh => each(values, tanh),
        Activation::Softplus => each(values, in_f64(softplus)),
        Activation::Softsign => each(values, |x| x / (1.0 + x.abs())),
        Activation::Exponential => each(values, exp),
        Activation::Swish => each(values, |x| x * sigmoid(x)),
        Activation::Gelu => each(
            values,
            in_f64(|x| 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))),
        ),
        Activation::Mish => each(values, in_f64(|x| x * softplus(x).tanh())),
    }
}

/// Returns `ln(1 + exp(x))` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Returns the error function: its Maclaurin series below 3, the continued fraction of `erfc` above
/// (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erf(x: f64) -> f64 {
    let a = x.abs();
    let erf = if a < 3.0 {
        let mut term = a;
        let mut sum = a;
        let mut n = 0.0;
        while term > 1e-17 * sum {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else {
        let tail = (1..=60).rev().fold(a, |f, k| a + f64::from(k) / 2.0 / f);
        1.0 - (-a * a).exp() / (tail * std::f64::consts::PI.sqrt())
    };
    erf.copysign(x)
}

/// Applies softmax to each row of `last` elements.
pub(crate) fn softmax(isa: Isa, last: usize, values: &mut [f32]) {
    isa.dispatch(Softmax { last, values });
}

struct Softmax<'a> {
    last: usize,
    values: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        // Short rows share one call of `exp`, which keeps the vectors full.
        for rows in self
            .values
            .chunks_mut(SOFTMAX_BATCH.div_ceil(self.last) * self.last)
        {
            for row in rows.chunks_exact_mut(self.last) {
                subtract_max(row);
            }
            each(rows, exp);
            for row in rows.chunks_exact_mut(self.last) {
                divide_by_sum(row);
            }
        }
    }
}

/// Minimum number of elements per call of `exp`: fills the vectors and stays in the L1 cache.
const SOFTMAX_BATCH: usize = 1024;

#[inline(always)]
pub(crate) fn softmax_row(row: &mut [f32]) {
    subtract_max(row);
    each(row, exp);
    divide_by_sum(row);
}

/// Subtracts the maximum; it does not depend on the order of comparison.
#[inline(always)]
fn subtract_max(row: &mut [f32]) {
    let larger = |max: f32, x: f32| if x > max { x } else { max };
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut max = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        max = std::array::from_fn(|i| larger(max[i], block[i]));
    }
    let max = max.iter().chain(rest).copied();
    let max = max.fold(f32::NEG_INFINITY, larger);
    each(row, |x| x - max);
}

#[inline(always)]
fn divide_by_sum(row: &mut [f32]) {
    let mut sum = 0.0;
    for &x in &*row {
        sum += x;
    }
    each(row, |x| x / sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ulps(got: f32, want: f64) -> f64 {
        let near = want as f32;
        let next = f32::from_bits(near.abs().to_bits() + 1);
        let ulp = f64::from(next) - f64::from(near.abs());
        (f64::from(got) - want).abs() / ulp
    }

    fn sweep(from: f32, to: f32) -> impl Iterator<Item = f32> {
        let steps = 2_000_003;
        (0..=steps).map(move |i| from + (to - from) * (i as f32 / steps as f32))
    }

    #[test]
    fn exp_is_within_one_ulp() {
        let worst = sweep(-87.0, 88.7)
            .map(|x| ulps(exp(x), f64::from(x).exp()))
            .fold(0.0, f64::max);
        assert!(worst <= 1.0, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results lose relative precision but not absolute.
        for x in sweep(-105.0, -87.0) {
            assert!(
                (f64::from(exp(x)) - f64::from(x).exp()).abs() <= 1.5e-45,
                "{x}"
            );
        }
    }

    #[test]
    fn tanh_is_within_three_ulp() {
        for (from, to) in [(-12.0, 12.0), (-0.7, 0.7), (-1e-3, 1e-3)] {
            let worst = sweep(from, to)
                .map(|x| ulps(tanh(x), f64::from(x).tanh()))
                .fold(0.0, f64::max);
            assert!(worst <= 3.0, "{worst}");
        }
        assert_eq!(tanh(100.0), 1.0);
        assert_eq!(tanh(-100.0), -1.0);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn erf_gives_tabulated_values() {
        // Abramowitz and Stegun, table 7.1, and erf(3.5), erf(-2).
        for (x, want) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
            (3.5, 0.999_999_256_9),
            (-2.0, -0.995_322_265_0),
        ] {
            assert!((erf(x) - want).abs() < 1e-10, "{x}: {}", erf(x));
        }
        assert!((erf(3.0 - 1e-12) - erf(3.0)).abs() < 1e-12);
    }

    #[test]
    fn sigmoid_and_softmax_stay_in_range() {
        for x in sweep(-120.0, 120.0) {
            let s = sigmoid(x);
            assert!((0.0..=1.0).contains(&s));
            assert!((f64::from(s) - 1.0 / (1.0 + f64::from(-x).exp())).abs() < 1.3e-7);
        }
        let mut row = [1000.0, 1000.0, -1000.0, 999.0];
        softmax(Isa::best(), 4, &mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(row[0], row[1]);
        assert_eq!(row[2], 0.0);
    }
}
