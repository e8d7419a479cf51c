//! Statistics of the logarithmic power in each band.

use super::MOMENTS;
use crate::front_end::{LogMel, N_MELS, pairwise};

/// Per band the mean, the population deviation, and for n = 3 to 8 the n-th root of the n-th
/// central moment in units of the deviation, with the moment's sign (negative for 0):
/// `[N_MELS][MOMENTS]`.
///
/// A band that is the same in every frame has deviation 0 and its six moments are 0 here; the
/// reference divides by its deviation and gets NaN or rounding noise.
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

/// `x` to the power `N`, by multiplication: the same on every machine, and fast in a sum.
fn power<const N: u32>(x: f64) -> f64 {
    (1..N).fold(x, |product, _| product * x)
}
