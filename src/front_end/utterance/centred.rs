//! A signal without its mean, at a level that can be squared.

use std::ops::Range;

use super::describe;
use crate::front_end::mel::Mel;
use crate::front_end::{FRAME_SAMPLES, FeatureError, HOP, pairwise};

/// Samples beyond this are scaled down first, so that no square overflows.
const HUGE: f64 = 1e100;
/// Exponent of the largest power of two; the logarithm of a number near the largest rounds up.
const LARGEST_EXPONENT: f64 = (f64::MAX_EXP - 1) as f64;

/// What a signal may be made of.
pub(super) trait Sample: Copy + PartialEq + Into<f64> {}
impl Sample for f32 {}
impl Sample for f64 {}

/// Whether a signal of so many samples can be analysed, told from the first that is not a finite
/// number, and from whether all are the same.
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

/// A signal whose samples are centred as they are read: a long recording is not copied.
pub(super) struct Centred<'a, T> {
    signal: &'a [T],
    /// A power of two, by which a product changes no digit.
    factor: f64,
    mean: f64,
}

impl<'a, T: Sample> Centred<'a, T> {
    /// # Errors
    /// See [`UtteranceExtractor::analyse`](super::UtteranceExtractor::analyse).
    pub(super) fn new(signal: &'a [T]) -> Result<Self, FeatureError> {
        let is_finite = |x: &T| (*x).into().is_finite();
        let not_finite = || {
            // All of them first, without a branch in between.
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
        let factor = if peak > HUGE {
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

    /// A signal that has no mean.
    #[cfg(test)]
    pub(super) fn as_it_is(signal: &'a [T]) -> Self {
        Self {
            signal,
            factor: 1.0,
            mean: 0.0,
        }
    }

    pub(super) fn frames(&self) -> usize {
        1 + self.signal.len() / HOP
    }

    /// Writes the samples around the middle of `frame` into `out`, zeros outside the signal.
    /// Returns which part lies inside, and the sample before that part if there is one.
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
