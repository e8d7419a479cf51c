//! Summaries of each log-mel band over time: cosine and sine transforms, histogram and moments.
//!
//! The transforms need only 40 coefficients, so they are summed directly, in time linear in the
//! number of frames. Frames `n` and `T-1-n` have the same cosine (and sine) up to a sign that
//! depends only on the coefficient's parity. Their sum therefore serves the even coefficients and
//! their difference the odd coefficients, which halves the work.

use std::f64::consts::PI;

use super::{COEFFICIENTS, HISTOGRAM_BIN_WIDTH, HISTOGRAM_BINS, MOMENTS};
use crate::front_end::{LogMel, N_MELS, pairwise};

/// Number of frame pairs per block. A block stays in the first-level cache, and block sums lose
/// less precision than one running sum.
const BLOCK: usize = 64;
/// Number of bands that are summed at a time, in registers.
const LANES: usize = 8;
const _: () = assert!(N_MELS.is_multiple_of(LANES));

/// Computes the type-II cosine transform along time, divided by the number of frames `T`, as
/// `[N_MELS][COEFFICIENTS]`.
///
/// Coefficient `k` in `0..40` is `2/T * sum over n of x[n] cos(pi k (2n+1) / 2T)`. Coefficients
/// from `T` on are 0.
#[must_use]
pub fn dct(log: &LogMel) -> Vec<f64> {
    dct_dst(log).0
}

/// Computes the type-II sine transform along time, divided by the number of frames `T`, in the
/// layout of [`dct`]: `2/T * sum over n of x[n] sin(pi (k+1) (2n+1) / 2T)`.
#[must_use]
pub fn dst(log: &LogMel) -> Vec<f64> {
    dct_dst(log).1
}

/// Computes [`dct`] and [`dst`] in one pass, in this order.
#[must_use]
pub fn dct_dst(log: &LogMel) -> (Vec<f64>, Vec<f64>) {
    let frames = log.frames();
    let rows = COEFFICIENTS.min(frames);
    let circle = Circle::new(frames);
    let mut sums = vec![[[0.0; N_MELS]; 2]; rows];
    let mut sum = [[0.0; N_MELS]; BLOCK];
    let mut difference = [[0.0; N_MELS]; BLOCK];
    let mut cosine = [0.0; BLOCK];
    let mut sine = [0.0; BLOCK];
    let pairs = frames.div_ceil(2);
    for start in (0..pairs).step_by(BLOCK) {
        let len = BLOCK.min(pairs - start);
        for (band, values) in log.bands().enumerate() {
            for i in 0..len {
                let (n, mirror) = (start + i, frames - 1 - start - i);
                // The middle frame of an odd number has no partner. Its cosine or sine is 0 for the
                // coefficients that use the difference.
                let partner = if n == mirror { 0.0 } else { values[mirror] };
                sum[i][band] = values[n] + partner;
                difference[i][band] = values[n] - partner;
            }
        }
        for (k, [dct, dst]) in sums.iter_mut().enumerate() {
            circle.cosines(k, start, &mut cosine[..len]);
            circle.sines(k + 1, start, &mut sine[..len]);
            let folded = if k % 2 == 0 { &sum } else { &difference };
            accumulate(&folded[..len], &cosine, &sine, dct, dst);
        }
    }
    let scale = 2.0 / frames as f64;
    let mut out = [
        vec![0.0; N_MELS * COEFFICIENTS],
        vec![0.0; N_MELS * COEFFICIENTS],
    ];
    for (k, transforms) in sums.iter().enumerate() {
        for (out, sums) in out.iter_mut().zip(transforms) {
            for (band, sum) in sums.iter().enumerate() {
                out[band * COEFFICIENTS + k] = sum * scale;
            }
        }
    }
    let [dct, dst] = out;
    (dct, dst)
}

/// Adds `x * cosine` to `dct` and `x * sine` to `dst`, per band.
fn accumulate(
    x: &[[f64; N_MELS]],
    cosine: &[f64],
    sine: &[f64],
    dct: &mut [f64; N_MELS],
    dst: &mut [f64; N_MELS],
) {
    for first in (0..N_MELS).step_by(LANES) {
        let (mut c, mut s) = ([0.0; LANES], [0.0; LANES]);
        for ((x, cos), sin) in x.iter().zip(cosine).zip(sine) {
            for (lane, x) in x[first..first + LANES].iter().enumerate() {
                c[lane] += cos * x;
                s[lane] += sin * x;
            }
        }
        for lane in 0..LANES {
            dct[first + lane] += c[lane];
            dst[first + lane] += s[lane];
        }
    }
}

/// Returns `cos(pi i / 2T)` for `i` in `0..=T`.
pub(crate) fn quarter_circle(frames: usize) -> Vec<f64> {
    let step = PI / (2.0 * frames as f64);
    (0..=frames)
        .map(|i| {
            if 2 * i <= frames {
                (step * i as f64).cos()
            } else {
                (step * (frames - i) as f64).sin()
            }
        })
        .collect()
}

/// Cosines of all multiples of `pi / 2T`. Angles are integers modulo the `4T` steps of the circle,
/// so they carry no rounding error for any duration.
struct Circle {
    frames: usize,
    quarter: Vec<f64>,
}

impl Circle {
    fn new(frames: usize) -> Self {
        Self {
            frames,
            quarter: quarter_circle(frames),
        }
    }

    /// Writes `cos(pi k (2n+1) / 2T)` for `n` from `start` on.
    fn cosines(&self, k: usize, start: usize, out: &mut [f64]) {
        self.fill(k * (2 * start + 1), 2 * k, out);
    }

    /// Writes `sin(pi k (2n+1) / 2T)` for `n` from `start` on.
    fn sines(&self, k: usize, start: usize, out: &mut [f64]) {
        // A sine is the cosine a quarter (T steps) earlier.
        self.fill(k * (2 * start + 1) + 3 * self.frames, 2 * k, out);
    }

    fn fill(&self, first: usize, step: usize, out: &mut [f64]) {
        let (t, turn) = (self.frames, 4 * self.frames);
        let step = step % turn;
        let mut angle = first % turn;
        for out in out {
            let half = angle.min(turn - angle);
            *out = if half <= t {
                self.quarter[half]
            } else {
                -self.quarter[2 * t - half]
            };
            angle += step;
            if angle >= turn {
                angle -= turn;
            }
        }
    }
}

/// Upper edge of the last histogram bin.
const HISTOGRAM_TOP: f64 = HISTOGRAM_BINS as f64 * HISTOGRAM_BIN_WIDTH;

/// Density of the logarithmic power per band.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// `[N_MELS][HISTOGRAM_BINS]`, per unit of logarithmic power.
    pub density: Vec<f64>,
    /// Bands without a value in range, ascending. Their densities are 0 here; the system of 2020
    /// divides 0 by 0 and passes NaN to its network.
    pub empty_bands: Vec<usize>,
}

/// Computes the density per band over 40 bins of 0.25 from 0 to 10.
///
/// Equals numpy's `histogram(band, bins=40, range=(0, 10), density=True)`: a bin contains its lower
/// edge, the last bin also its upper edge, values above 10 are dropped, and each band integrates to
/// 1.
#[must_use]
pub fn histogram(log: &LogMel) -> Histogram {
    let mut density = vec![0.0; N_MELS * HISTOGRAM_BINS];
    let mut empty_bands = Vec::new();
    for (band, (values, density)) in log
        .bands()
        .zip(density.chunks_exact_mut(HISTOGRAM_BINS))
        .enumerate()
    {
        let mut counts = [0_u64; HISTOGRAM_BINS];
        for value in values.iter().filter(|v| (0.0..=HISTOGRAM_TOP).contains(*v)) {
            // Edges are multiples of a power of two, so the division and the bin are exact.
            let bin = (value / HISTOGRAM_BIN_WIDTH) as usize;
            counts[bin.min(HISTOGRAM_BINS - 1)] += 1;
        }
        let total: u64 = counts.iter().sum();
        if total == 0 {
            empty_bands.push(band);
            continue;
        }
        for (density, &count) in density.iter_mut().zip(&counts) {
            *density = count as f64 / HISTOGRAM_BIN_WIDTH / total as f64;
        }
    }
    Histogram {
        density,
        empty_bands,
    }
}

/// Computes the statistics of each band, `[N_MELS][MOMENTS]`: mean, population deviation, and the
/// scaled central moments 3 to 8.
///
/// Moment n is the n-th root of the magnitude of the central moment, divided by the deviation, with
/// the moment's sign (negative for 0).
///
/// A constant band has deviation 0, and its six moments are 0 here; the system of 2020 divides by
/// the deviation and gets NaN or rounding noise.
#[must_use]
pub fn moments(log: &LogMel) -> Vec<f64> {
    let mut out = vec![0.0; N_MELS * MOMENTS];
    for (out, band) in out.chunks_exact_mut(MOMENTS).zip(log.bands()) {
        if let Some(value) = pairwise::constant(band) {
            out[0] = value;
            continue;
        }
        let (mean, deviation) = pairwise::mean_and_deviation(band);
        out[0] = mean;
        out[1] = deviation;
        if deviation == 0.0 {
            continue;
        }
        let n = band.len() as f64;
        let central = [
            pairwise::sum(band, |x| power::<3>(x - mean)),
            pairwise::sum(band, |x| power::<4>(x - mean)),
            pairwise::sum(band, |x| power::<5>(x - mean)),
            pairwise::sum(band, |x| power::<6>(x - mean)),
            pairwise::sum(band, |x| power::<7>(x - mean)),
            pairwise::sum(band, |x| power::<8>(x - mean)),
        ];
        for ((out, sum), order) in out[2..].iter_mut().zip(central).zip(3_u8..) {
            let moment = sum / n;
            let sign = if moment > 0.0 { 1.0 } else { -1.0 };
            *out = sign * moment.abs().powf(1.0 / f64::from(order)) / deviation;
        }
    }
    out
}

/// Computes `x` to the power `N` by multiplication: identical on every machine, and fast within a
/// sum.
fn power<const N: u32>(x: f64) -> f64 {
    (1..N).fold(x, |product, _| product * x)
}
