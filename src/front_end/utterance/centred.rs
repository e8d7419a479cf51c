//! Signal with its mean removed, scaled so that squares do not overflow.

use super::describe;
use crate::front_end::mel::Mel;
use crate::front_end::{FRAME_SAMPLES, FeatureError, HOP, pairwise};
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Magnitude above which samples are scaled down, so that no square overflows.
const MAX_MAGNITUDE: f64 = 1e100;
/// Exponent of the largest power of two. Without this limit, the logarithm of a value near
/// `f64::MAX` rounds up.
const LARGEST_EXPONENT: f64 = (f64::MAX_EXP - 1) as f64;

/// Sample type of a signal.
pub(super) trait Sample: Copy + PartialEq + Into<f64> {}
impl Sample for f32 {}
impl Sample for f64 {}

/// Checks that a signal can be analysed, given its length, its first non-finite sample and whether
/// all samples are equal.
///
/// # Errors
/// See [`UtteranceExtractor::analyse`](super::UtteranceExtractor::analyse).
pub(crate) fn check(
    samples: usize,
    not_finite: impl FnOnce() -> Option<(usize, f64)>,
    constant: impl FnOnce() -> bool,
) -> Result<(), FeatureError> {
    if samples < FRAME_SAMPLES {
        return Err(FeatureError::TooShort { samples });
    }
    if let Some((index, value)) = not_finite() {
        return Err(FeatureError::NotFinite { index, value });
    }
    let frames = 1 + samples / HOP;
    if frames > Mel::MAX_FRAMES {
        return Err(FeatureError::Shape {
            frames,
            values: samples,
        });
    }
    match constant() {
        true => Err(FeatureError::Constant { value: 0.0 }),
        false => Ok(()),
    }
}

/// Returns whether all samples are finite, and the largest magnitude if they are.
struct Scan<'a, T>(&'a [T]);

impl<T: Sample> Kernel for Scan<'_, T> {
    type Output = (bool, f64);

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) -> (bool, f64) {
        /// Samples that are looked at side by side.
        const SIDE: usize = 16;
        let (groups, rest) = self.0.as_chunks::<SIDE>();
        let (mut is_finite, mut peaks) = ([true; SIDE], [0.0_f64; SIDE]);
        for group in groups {
            for i in 0..SIDE {
                let magnitude = group[i].into().abs();
                is_finite[i] &= magnitude < f64::INFINITY;
                peaks[i] = if magnitude > peaks[i] {
                    magnitude
                } else {
                    peaks[i]
                };
            }
        }
        let mut all = (
            is_finite.iter().all(|x| *x),
            peaks.into_iter().fold(0.0, f64::max),
        );
        for x in rest {
            let magnitude = (*x).into().abs();
            all = (all.0 & magnitude.is_finite(), all.1.max(magnitude));
        }
        all
    }
}

/// Returns the mean of the scaled samples.
struct Mean<'a, T> {
    signal: &'a [T],
    factor: f64,
}

impl<T: Sample> Kernel for Mean<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) -> f64 {
        let factor = self.factor;
        describe::mean_of(self.signal, |x| x.into() * factor)
    }
}

/// A signal whose mean is subtracted on access, so that a long recording is not copied.
pub(super) struct Centred<'a, T> {
    signal: &'a [T],
    /// Power of two; multiplying by it is exact.
    factor: f64,
    mean: f64,
}

impl<'a, T: Sample> Centred<'a, T> {
    /// # Errors
    /// See [`UtteranceExtractor::analyse`](super::UtteranceExtractor::analyse).
    pub(super) fn new(signal: &'a [T]) -> Result<Self, FeatureError> {
        let isa = Isa::chosen_or_best();
        let (is_finite, peak) = isa.dispatch(Scan(signal));
        let not_finite = || {
            let index = match is_finite {
                true => None,
                false => signal.iter().position(|x| !(*x).into().is_finite()),
            };
            index.map(|index| (index, signal[index].into()))
        };
        let constant = || pairwise::constant(signal).is_some();
        check(signal.len(), not_finite, constant)?;
        let factor = if peak > MAX_MAGNITUDE {
            peak.log2().floor().min(LARGEST_EXPONENT).exp2().recip()
        } else {
            1.0
        };
        let mean = isa.dispatch(Mean { signal, factor });
        Ok(Self {
            signal,
            factor,
            mean,
        })
    }

    /// Wraps a signal that already has zero mean.
    #[cfg(test)]
    pub(super) fn with_zero_mean(signal: &'a [T]) -> Self {
        Self {
            signal,
            factor: 1.0,
            mean: 0.0,
        }
    }

    pub(super) fn frames(&self) -> usize {
        1 + self.signal.len() / HOP
    }

    pub(super) fn len(&self) -> usize {
        self.signal.len()
    }

    /// Writes the samples from `start` on into `out`, zeros outside the signal.
    pub(super) fn copy(&self, start: isize, out: &mut [f64]) {
        let before = start.min(0).unsigned_abs().min(out.len());
        let (outside, out) = out.split_at_mut(before);
        outside.fill(0.0);
        let signal = self.signal.get(start.max(0) as usize..).unwrap_or(&[]);
        let (inside, behind) = out.split_at_mut(signal.len().min(out.len()));
        for (out, x) in inside.iter_mut().zip(signal) {
            *out = (*x).into() * self.factor - self.mean;
        }
        behind.fill(0.0);
    }
}
