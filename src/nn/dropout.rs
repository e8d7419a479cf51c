//! Reproducible dropout at inference.
//!
//! The decision to keep a unit is a function of the seed, the draw, the layer and the unit, by the
//! counter-based generator Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
//! 3", SC 2011). It is the same on every machine and in any order of computation.

use std::collections::HashMap;
use std::num::NonZeroU32;

/// Treatment of forced dropout in a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum DropoutMode {
    /// No dropout: the weights as trained.
    #[default]
    Off,
    /// Every row is computed `n` times with different decisions. The outputs hold `n` rows for each
    /// row of the input, in the order of the draws. (The engine computes a network without forced
    /// dropout once.)
    Draws {
        /// Draws per row of the input.
        n: NonZeroU32,
        /// Seed of the generator; equal seeds give equal decisions on every machine.
        seed: u64,
    },
    /// Given decisions, for tests.
    Masks(Masks),
}

impl DropoutMode {
    /// Returns the mode with `n` draws.
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn draws(n: u32, seed: u64) -> Self {
        Self::Draws {
            n: NonZeroU32::new(n).expect("at least one draw"),
            seed,
        }
    }

    /// Returns the number of output rows per input row.
    pub fn rows(&self) -> usize {
        match self {
            Self::Draws { n, .. } => n.get() as usize,
            Self::Off | Self::Masks(_) => 1,
        }
    }
}

/// Decisions of each forced dropout node, by name: one per row and unit, 1 to keep and 0 to drop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Masks(pub HashMap<String, Vec<u8>>);

/// Returns ten rounds of Philox4x32.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let a = MULTIPLIERS[0] * u64::from(counter[0]);
        let b = MULTIPLIERS[1] * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Fills `factors` with each unit's factor: 0, or `1 / (1 - rate)` if it is kept.
///
/// `layer` is the index of the node among the graph's forced dropouts. A unit is kept when its
/// uniform 24-bit number in [0, 1) is at least `rate`.
pub fn draw_factors(seed: u64, draw: u32, layer: u32, rate: f32, factors: &mut [f32]) {
    let key = [seed as u32, (seed >> 32) as u32];
    let kept = 1.0 / (1.0 - rate);
    for (block, chunk) in factors.chunks_mut(4).enumerate() {
        // 64 bits on every target: a shift by 32 would overflow a 32-bit `usize`.
        let block = block as u64;
        let words = philox4x32([block as u32, layer, draw, (block >> 32) as u32], key);
        for (factor, word) in chunk.iter_mut().zip(words) {
            let uniform = (word >> 8) as f32 * (1.0 / 16_777_216.0);
            *factor = if uniform >= rate { kept } else { 0.0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of the Random123 library (kat_vectors, philox4x32 10).
    #[test]
    fn philox_gives_the_published_numbers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn units_are_kept_at_the_stated_rate_and_independently_of_their_number() {
        let mut many = vec![0.0; 100_000];
        draw_factors(7, 3, 2, 0.3, &mut many);
        let kept = many.iter().filter(|&&f| f != 0.0).count() as f64 / many.len() as f64;
        // Five standard deviations of a binomial.
        assert!((kept - 0.7).abs() < 5.0 * (0.21f64 / 1e5).sqrt(), "{kept}");
        assert!(many.iter().all(|&f| f == 0.0 || f == 1.0 / (1.0 - 0.3)));
        let mut few = vec![0.0; 5];
        draw_factors(7, 3, 2, 0.3, &mut few);
        assert_eq!(few, many[..5]);
        draw_factors(7, 4, 2, 0.3, &mut few);
        let mut other = vec![0.0; 100];
        draw_factors(7, 3, 3, 0.3, &mut other);
        assert_ne!(other, many[..100]);
    }
}
