//! Mel power of eight frames at once, one per lane.

use super::columns::{Columns, FRAME};
use crate::front_end::fourier::{Bin, RealPower, Transform, ZERO};
use crate::front_end::mel::{Filter, filters, periodic_hann};
use crate::front_end::{BINS, FRAME_SAMPLES, N_MELS};
use crate::simd::doubles::{DOUBLES, Doubles, Row};

/// Transform of the even samples plus `i` times the odd samples.
type HalfTransform = Transform<8, 5, 5>;

const _: () = assert!(2 * HalfTransform::LENGTH == FRAME_SAMPLES);

/// Window, transform and filters.
#[derive(Clone)]
pub(super) struct MelAnalysis {
    hann: Vec<f64>,
    transform: HalfTransform,
    power: RealPower,
    /// Filters for four times the power.
    filters: Vec<Filter>,
}

/// Buffers of the analysis.
pub(super) struct Buffers {
    data: Vec<Bin>,
    power: [Row; BINS],
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self {
            data: vec![ZERO; HalfTransform::LENGTH],
            power: [Row::ZERO; BINS],
        }
    }
}

impl MelAnalysis {
    pub(super) fn new() -> Self {
        let mut filters = filters();
        for filter in &mut filters {
            // Division by a power of two is exact.
            filter.weights.iter_mut().for_each(|w| *w /= 4.0);
        }
        let transform = HalfTransform::new();
        Self {
            hann: periodic_hann(FRAME_SAMPLES),
            power: RealPower::of(&transform),
            transform,
            filters,
        }
    }

    /// Computes the mel power of a group of frames of a block into `out`, `[frames][N_MELS]`, which has
    /// at most eight frames.
    #[inline(always)]
    pub(super) fn run<D: Doubles>(
        &self,
        columns: &Columns,
        group: usize,
        b: &mut Buffers,
        out: &mut [f64],
    ) {
        let start = (FRAME - FRAME_SAMPLES) / 2;
        for (i, (bin, hann)) in b.data.iter_mut().zip(self.hann.as_chunks().0).enumerate() {
            let hann: &[f64; 2] = hann;
            for part in 0..2 {
                let x = columns.emphasised(group, start + 2 * i + part);
                let x = D::load(x).mul(D::splat(hann[part]));
                x.store(&mut bin[part].0);
            }
        }
        self.transform.run::<D>(&mut b.data, HalfTransform::LENGTH);
        self.power.run::<D>(&b.data, &mut b.power);
        for (band, filter) in self.filters.iter().enumerate() {
            let powers = &b.power[filter.first..][..filter.weights.len()];
            let mut sum = D::splat(0.0);
            for (power, weight) in powers.iter().zip(&filter.weights) {
                sum = sum.add(D::load(&power.0).mul(D::splat(*weight)));
            }
            let mut bands = [0.0; DOUBLES];
            sum.store(&mut bands);
            for (frame, value) in out.chunks_exact_mut(N_MELS).zip(bands) {
                frame[band] = value;
            }
        }
    }
}
