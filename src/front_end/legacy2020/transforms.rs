//! Cosine and sine transforms of each band over time.
//!
//! Only 40 coefficients are needed however long the recording, so they are summed directly, in
//! time linear in the number of frames. Frames `n` and `T-1-n` meet the same cosine (and sine) up
//! to a sign that depends only on the coefficient's parity, so their sum serves the even
//! coefficients and their difference the odd ones: half the work.

use std::f64::consts::PI;

use super::COEFFICIENTS;
use crate::front_end::{LogMel, N_MELS};

/// Pairs of frames that are summed at a time; keeps them in the first-level cache, and the sum of
/// block sums loses less than one running sum would.
const BLOCK: usize = 64;
/// Bands that are summed at a time, in registers.
const LANES: usize = 8;
const _: () = assert!(N_MELS.is_multiple_of(LANES));

/// Type-II cosine transform along time divided by the number of frames `T`:
/// `2/T * sum over n of x[n] cos(pi k (2n+1) / 2T)`, for `k` in `0..40`, as
/// `[N_MELS][COEFFICIENTS]`. Coefficients from `T` on are 0.
#[must_use]
pub fn dct(log: &LogMel) -> Vec<f64> {
    dct_dst(log).0
}

/// Type-II sine transform along time divided by the number of frames `T`:
/// `2/T * sum over n of x[n] sin(pi (k+1) (2n+1) / 2T)`, otherwise as [`dct`].
#[must_use]
pub fn dst(log: &LogMel) -> Vec<f64> {
    dct_dst(log).1
}

/// [`dct`] and [`dst`] in one go, in this order.
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
                // The middle frame of an odd number has no partner; its sine or cosine is 0
                // where the difference is asked for.
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

/// Adds `x` times `cosine` to `dct` and `x` times `sine` to `dst`, per band.
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

/// `cos(pi i / 2T)` for `i` in `0..=T`.
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

/// Cosines of all multiples of `pi / 2T`; angles are whole numbers modulo the circle's `4T`
/// steps, so they carry no rounding however long the recording.
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

    /// `cos(pi k (2n+1) / 2T)` for `n` from `start` on.
    fn cosines(&self, k: usize, start: usize, out: &mut [f64]) {
        self.fill(k * (2 * start + 1), 2 * k, out);
    }

    /// `sin(pi k (2n+1) / 2T)` for `n` from `start` on.
    fn sines(&self, k: usize, start: usize, out: &mut [f64]) {
        // A sine is the cosine a quarter (T steps) before.
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
