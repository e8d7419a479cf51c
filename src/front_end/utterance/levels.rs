//! Levels of the mel bands: logarithms of their relative powers.

use super::{FLOOR, FRAME_VALUES};
use crate::front_end::N_MELS;
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Frames that are transposed at a time; all bands of them stay in the cache.
const BLOCK: usize = 64;

/// Tracks of the mel bands over the frames.
pub(super) struct Levels {
    /// Powers relative to the mean power, plus [`FLOOR`].
    pub(super) powers: Vec<Vec<f64>>,
    /// Logarithms of these.
    pub(super) bands: Vec<Vec<f64>>,
}

impl Levels {
    /// Computes the levels of `[frames][N_MELS]` powers relative to `mean`.
    pub(super) fn new(isa: Isa, power: &[f64], mean: f64) -> Self {
        let tracks = || vec![vec![0.0; power.len() / N_MELS]; N_MELS];
        let mut levels = Self {
            powers: tracks(),
            bands: tracks(),
        };
        isa.dispatch(Compute {
            levels: &mut levels,
            power,
            mean,
        });
        levels
    }

    /// Writes `(level + 5) / 4` to the first [`N_MELS`] values of each of the frames,
    /// `[frames][FRAME_VALUES]`.
    pub(super) fn write_scaled(&self, frames: &mut [f32]) {
        for (block, frames) in frames.chunks_mut(BLOCK * FRAME_VALUES).enumerate() {
            for (band, track) in self.bands.iter().enumerate() {
                let values = frames.chunks_exact_mut(FRAME_VALUES);
                for (frame, level) in values.zip(&track[block * BLOCK..]) {
                    frame[band] = ((level + 5.0) / 4.0) as f32;
                }
            }
        }
    }
}

struct Compute<'a> {
    levels: &'a mut Levels,
    power: &'a [f64],
    mean: f64,
}

impl Kernel for Compute<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) {
        let Levels { powers, bands } = self.levels;
        for (block, power) in self.power.chunks(BLOCK * N_MELS).enumerate() {
            let (frames, _) = power.as_chunks::<N_MELS>();
            let range = block * BLOCK..block * BLOCK + frames.len();
            for (band, (powers, levels)) in powers.iter_mut().zip(bands.iter_mut()).enumerate() {
                let powers = &mut powers[range.clone()];
                for (to, frame) in powers.iter_mut().zip(frames) {
                    *to = frame[band];
                }
                for (level, power) in levels[range.clone()].iter_mut().zip(powers) {
                    *power = *power / self.mean + FLOOR;
                    *level = ln(*power);
                }
            }
        }
    }
}

/// Returns the natural logarithm of a normal positive number within 1 ULP.
///
/// Method: FreeBSD's `e_log.c`, an approximation by `s = f / (2 + f)` for `x = 2^k (1 + f)`. It has no
/// branches, so that the compiler vectorises loops over it, and the same bits on every machine.
#[inline(always)]
fn ln(x: f64) -> f64 {
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const L: [f64; 7] = [
        0.666_666_666_666_673_5,
        0.399_999_999_994_094_2,
        0.285_714_287_436_623_9,
        0.222_221_984_321_497_84,
        0.181_835_721_616_180_5,
        0.153_138_376_992_093_73,
        0.147_981_986_051_165_86,
    ];
    const MANTISSA: u64 = (1 << (f64::MANTISSA_DIGITS - 1)) - 1;
    const ONE: u64 = 1_f64.to_bits();
    // Half the square root of 2, to 32 bits: the least `1 + f`.
    const LEAST: u64 = 0x3fe6_a09e << 32;
    // 2^52, whose last bits hold an integer, and that with the bias of the exponent.
    const TWO_52: u64 = 1 << 52;
    let bits = x.to_bits().wrapping_add(ONE - LEAST);
    let exponent = f64::from_bits((bits >> 52) | (TWO_52 as f64).to_bits());
    let k = exponent - (TWO_52 + 1023) as f64;
    let f = f64::from_bits((bits & MANTISSA) + LEAST) - 1.0;
    let half_square = 0.5 * f * f;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let even = w * (L[1] + w * (L[3] + w * L[5]));
    let odd = z * (L[0] + w * (L[2] + w * (L[4] + w * L[6])));
    let rest = s * (half_square + (odd + even)) + k * LN2_LOW;
    rest - half_square + f + k * LN2_HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_within_an_ulp() {
        for i in 0..200_000_u32 {
            let x = FLOOR * (f64::from(i) * 1.3e-4).exp();
            let (got, wanted) = (ln(x), x.ln());
            // The reference itself is within 1 ULP.
            let error = (got - wanted).abs();
            assert!(
                error <= 2.0 * f64::EPSILON * wanted.abs(),
                "{x}: {got}, {wanted}"
            );
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(f64::MIN_POSITIVE), f64::MIN_POSITIVE.ln());
        assert_eq!(ln(f64::MAX), f64::MAX.ln());
    }

    #[test]
    fn every_instruction_set_gives_the_same_levels() {
        let power: Vec<f64> = (0..70 * N_MELS)
            .map(|i| (f64::from(i as u32 % 997) * 0.02).exp())
            .collect();
        let wanted = Levels::new(Isa::best(), &power, 3.0);
        for isa in Isa::available() {
            let levels = Levels::new(isa, &power, 3.0);
            assert_eq!(levels.bands, wanted.bands, "{}", isa.name());
        }
        assert_eq!(wanted.powers[2][65], power[65 * N_MELS + 2] / 3.0 + FLOOR);
    }
}
