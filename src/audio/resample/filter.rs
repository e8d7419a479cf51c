//! Tabulated filter of resampy's `kaiser_best`.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Number of zero crossings of the sinc on each side.
pub(super) const ZEROS: usize = 64;
/// Number of table entries per zero crossing.
const ENTRIES_PER_ZERO: usize = 512;
/// Index of the last entry of one wing.
const LAST: usize = ZEROS * ENTRIES_PER_ZERO;
/// Shape of the Kaiser window (resampy's `kaiser_best`).
pub(super) const BETA: f64 = 14.769656459379492;
/// Cut-off as a fraction of the Nyquist frequency (resampy's `kaiser_best`).
pub(super) const ROLLOFF: f64 = 0.9475937167399596;

/// Number of filters cached for later recordings: two conversions for each of two common rates. A
/// filter takes half a megabyte.
const CACHED_FILTERS: usize = 4;

/// Returns the right half of the filter: `rolloff * sinc * kaiser` at `0..=LAST`.
fn half_filter() -> &'static [f64] {
    static TABLE: OnceLock<Vec<f64>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let norm = bessel_i0([BETA])[0];
        let mut table = vec![0.0; LAST + 1];
        let mut first = 0;
        for part in table.chunks_mut(VALUES_AT_ONCE) {
            let window = bessel_i0::<VALUES_AT_ONCE>(std::array::from_fn(|i| {
                let edge = (first + i).min(LAST) as f64 / LAST as f64;
                BETA * (1.0 - edge * edge).sqrt()
            }));
            for (i, (entry, window)) in part.iter_mut().zip(window).enumerate() {
                let crossings = (first + i) as f64 / ENTRIES_PER_ZERO as f64;
                let sinc = match PI * (ROLLOFF * crossings) {
                    0.0 => 1.0,
                    angle => angle.sin() / angle,
                };
                *entry = ROLLOFF * sinc * (window / norm);
            }
            first += part.len();
        }
        table
    })
}

/// Number of window values computed together.
const VALUES_AT_ONCE: usize = 8;

/// Modified Bessel function of the first kind, order 0, by its power series (Abramowitz & Stegun
/// 9.6.12).
///
/// All terms are positive, so no cancellation occurs. A term below the precision of one sum leaves
/// that sum unchanged while the other sums still grow.
pub(super) fn bessel_i0<const N: usize>(x: [f64; N]) -> [f64; N] {
    let quarter = x.map(|x| x * x / 4.0);
    let (mut sum, mut term, mut k) = ([1.0; N], [1.0; N], 1.0);
    while (0..N).any(|i| term[i] > sum[i] * (f64::EPSILON / 8.0)) {
        for i in 0..N {
            term[i] *= quarter[i] / (k * k);
            sum[i] += term[i];
        }
        k += 1.0;
    }
    sum
}

/// Filter for one ratio, ordered so that the taps of one output sample are contiguous.
pub(crate) struct Filter {
    /// Output rate divided by input rate.
    pub(crate) ratio: f64,
    /// `min(1, ratio)`: time scale and gain of the filter.
    pub(crate) scale: f64,
    /// Input samples per output sample.
    pub(crate) increment: f64,
    /// Distance of adjacent taps in the half filter, in table entries.
    pub(crate) step: usize,
    /// Taps per row; a row holds the entries `offset`, `offset + step`, ...
    pub(crate) row: usize,
    /// Value and slope (difference to the next entry) of each tap, in rows by offset.
    pub(crate) taps: Vec<[f64; 2]>,
}

/// One side of an output sample: its taps (value and slope), and the interpolation factor of the
/// slope.
pub(super) struct Wing<'f> {
    pub(super) taps: &'f [[f64; 2]],
    pub(super) eta: f64,
}

/// Filter cache, least recently used first.
struct FilterCache(Mutex<Vec<Arc<Filter>>>);

impl FilterCache {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn filter(&self, ratio: f64) -> Arc<Filter> {
        let mut filters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let filter = match filters.iter().position(|f| f.ratio == ratio) {
            Some(at) => filters.remove(at),
            None => Arc::new(Filter::new(ratio)),
        };
        if filters.len() == CACHED_FILTERS {
            filters.remove(0);
        }
        filters.push(Arc::clone(&filter));
        filter
    }
}

impl Filter {
    /// Returns the filter for a ratio, from the cache if possible.
    pub(crate) fn of(ratio: f64) -> Arc<Self> {
        static FILTERS: FilterCache = FilterCache::new();
        FILTERS.filter(ratio)
    }

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
        // The lower bound keeps extreme ratios finite; realistic ratios stay far above it.
        let step = ((gain * ENTRIES_PER_ZERO as f64) as usize).max(1);
        // The step is truncated to an integer but the offset is not, so the offset can exceed the
        // step.
        let offsets = (gain * ENTRIES_PER_ZERO as f64) as usize + 2;
        let row = (LAST + 1) / step;
        let mut taps = vec![[0.0; 2]; offsets * row];
        for (offset, taps) in taps.chunks_exact_mut(row).enumerate() {
            for (tap, i) in taps.iter_mut().zip((offset..=LAST).step_by(step)) {
                *tap = [entry(i), slope_at(i)];
            }
        }
        Self {
            ratio,
            scale: gain,
            increment: 1.0 / ratio,
            step,
            row,
            taps,
        }
    }

    /// Returns the table position, in entries, for a scaled distance in inputs between a sample and
    /// its first tap.
    #[inline(always)]
    pub(super) fn index(distance: f64) -> f64 {
        distance * ENTRIES_PER_ZERO as f64
    }

    /// Returns the taps of a wing that starts at entry `offset`, up to the end of the table.
    pub(super) fn taps(&self, offset: usize) -> &[[f64; 2]] {
        &self.taps[offset * self.row..][..(LAST + 1 - offset) / self.step]
    }

    /// Returns the wing of a sample at `distance` from the nearest of `reach` inputs.
    pub(super) fn wing(&self, distance: f64, reach: usize) -> Wing<'_> {
        let index = Self::index(distance);
        let offset = index as usize;
        let taps = self.taps(offset);
        Wing {
            taps: &taps[..reach.min(taps.len())],
            eta: index - offset as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bessel_function_has_its_tabulated_values() {
        // Abramowitz & Stegun, table 9.8.
        let xs = [0.0, 1.0, 10.0];
        let expected = [1.0, 1.266_065_877_752_008_4, 2_815.716_628_466_254];
        for ((x, together), expected) in xs.into_iter().zip(bessel_i0(xs)).zip(expected) {
            let error: f64 = together / expected - 1.0;
            assert!(error.abs() < 4.0 * f64::EPSILON, "{x}: {error:e}");
            assert_eq!(bessel_i0([x]), [together], "{x}");
        }
    }

    #[test]
    fn filters_are_cached_within_bounds() {
        let filters = FilterCache::new();
        let first = filters.filter(0.25);
        for k in 1..CACHED_FILTERS {
            filters.filter(1.0 + k as f64);
        }
        assert!(Arc::ptr_eq(&first, &filters.filter(0.25)));
        for k in 0..CACHED_FILTERS {
            filters.filter(0.3 + k as f64);
        }
        let again = filters.filter(0.25);
        assert!(!Arc::ptr_eq(&first, &again));
        assert_eq!(filters.0.lock().unwrap().len(), CACHED_FILTERS);
        assert_eq!(first.taps, again.taps);
    }
}
