//! How often each logarithmic power occurs in a band.

use super::{HISTOGRAM_BIN_WIDTH, HISTOGRAM_BINS};
use crate::front_end::{LogMel, N_MELS};

/// Upper edge of the last bin.
const TOP: f64 = HISTOGRAM_BINS as f64 * HISTOGRAM_BIN_WIDTH;

/// A density per band.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// `[N_MELS][HISTOGRAM_BINS]`, per unit of logarithmic power.
    pub density: Vec<f64>,
    /// Bands without a value in range, ascending. Their densities are 0 here; the reference
    /// divides 0 by 0 and hands NaN to its network.
    pub empty_bands: Vec<usize>,
}

/// Density per band over 40 bins of 0.25 from 0 to 10, as numpy's
/// `histogram(band, bins=40, range=(0, 10), density=True)`: a bin contains its lower edge, the
/// last one also its upper edge, values above 10 are dropped, and each band integrates to 1.
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
        for value in values.iter().filter(|v| (0.0..=TOP).contains(*v)) {
            // Edges are multiples of a power of two, so the division is exact and so is the bin.
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
