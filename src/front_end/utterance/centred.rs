//! Signal with its mean removed, scaled so that squares do not overflow.

use std::ops::Range;

use super::describe;
use crate::front_end::mel::Mel;
use crate::front_end::{FRAME_SAMPLES, FeatureError, HOP, pairwise};

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
        let is_finite = |x: &T| (*x).into().is_finite();
        let not_finite = || {
            // One branch-free pass over all samples is faster than an early exit.
            let index = match signal.iter().fold(true, |all, x| all & is_finite(x)) {
                true => None,
                false => signal.iter().position(|x| !is_finite(x)),
            };
            index.map(|index| (index, signal[index].into()))
        };
        let constant = || pairwise::constant(signal).is_some();
        check(signal.len(), not_finite, constant)?;
        let peak = signal
            .iter()
            .fold(0.0_f64, |peak, x| peak.max((*x).into().abs()));
        let factor = if peak > MAX_MAGNITUDE {
            peak.log2().floor().min(LARGEST_EXPONENT).exp2().recip()
        } else {
            1.0
        };
        let mean = describe::mean_of(signal, |x| x.into() * factor);
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

    /// Writes the samples around the centre of `frame` into `out`, zeros outside the signal.
    /// Returns the range of `out` inside the signal, and the sample before that range if there is
    /// one.
    pub(super) fn copy_frame(&self, frame: usize, out: &mut [f64]) -> (Range<usize>, Option<f64>) {
        let (centre, half) = (frame * HOP, out.len() / 2);
        let first = centre.saturating_sub(half);
        let before = half.saturating_sub(centre);
        let inside = before..before + (self.signal.len() - first).min(out.len() - before);
        let at = |x: T| x.into() * self.factor - self.mean;
        out[..inside.start].fill(0.0);
        for (out, x) in out[inside.clone()].iter_mut().zip(&self.signal[first..]) {
            *out = at(*x);
        }
        out[inside.end..].fill(0.0);
        let previous = first.checked_sub(1).map(|i| at(self.signal[i]));
        (inside, previous)
    }
}
