//! Matrix product with weights of 8 bits.
//!
//! A product of one row reads every weight once, so its duration is that of reading them from the memory or an outer
//! cache: with 8 bits a quarter of it.

use super::gemm::K_BLOCK;
use super::packed::{pack, store};
use crate::nn::quantised::{self, Quantised};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

/// Weight matrix `[k, n]` of levels, packed as `[channel block][k][lane]`, with scales and bias as `[channel
/// block][lane]`. Lanes past the last channel hold zeros.
#[derive(Debug)]
pub(crate) struct QuantisedMatrix {
    pub k: usize,
    pub n: usize,
    levels: Vec<[i8; LANES]>,
    scales: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
}

impl QuantisedMatrix {
    /// Packs row-major weights `[k, n]` and an optional bias `[n]`, if levels and scales give exactly these weights.
    pub fn new(weights: &[f32], channels: usize, bias: Option<&[f32]>) -> Option<Self> {
        let Quantised { levels, scales } = quantised::narrow(weights, channels)?;
        let k = weights.len() / channels;
        let mut packed = vec![[0; LANES]; channels.div_ceil(LANES) * k];
        for (term, row) in levels.chunks_exact(channels).enumerate() {
            for (block, part) in row.chunks(LANES).enumerate() {
                packed[block * k + term][..part.len()].copy_from_slice(part);
            }
        }
        let zeros = vec![0.0; channels];
        // The sum turns a bias of -0 into +0, as in `Packed`.
        let bias: Vec<f32> = bias.unwrap_or(&zeros).iter().map(|b| b + 0.0).collect();
        Some(Self {
            k,
            n: channels,
            levels: packed,
            scales: pack(&scales).collect(),
            bias: pack(&bias).collect(),
        })
    }

    /// Multiplies `input`, `[m, k]`, into `output`, `[m, n]`. The bits are those of [`matmul`](super::gemm::matmul) with the
    /// same weights.
    pub fn multiply(&self, isa: Isa, input: &[f32], output: &mut [f32], relu: bool) {
        isa.dispatch(Product {
            matrix: self,
            input,
            output,
            relu,
        });
    }
}

struct Product<'a> {
    matrix: &'a QuantisedMatrix,
    input: &'a [f32],
    output: &'a mut [f32],
    relu: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(mut self) {
        let QuantisedMatrix { k, n, .. } = *self.matrix;
        let rows = self.input.len() / k;
        let blocks = n.div_ceil(LANES);
        let mut row = 0;
        while row < rows {
            let is_tile = row + ROWS <= rows;
            let mut block = 0;
            while block < blocks {
                // Two accumulators: the sum of one would wait for each of its terms.
                block += match (is_tile, block + 2 <= blocks) {
                    (true, _) => self.tile::<V, ROWS, 1>(row, block),
                    (false, true) => self.tile::<V, 1, 2>(row, block),
                    (false, false) => self.tile::<V, 1, 1>(row, block),
                };
            }
            row += if is_tile { ROWS } else { 1 };
        }
    }
}

/// Rows of a tile. Each weight is converted once for all of them.
const ROWS: usize = 4;

impl Product<'_> {
    /// Computes `BLOCKS` channel blocks of `MR` rows; returns `BLOCKS`.
    #[inline(always)]
    fn tile<V: Lanes, const MR: usize, const BLOCKS: usize>(
        &mut self,
        row: usize,
        block: usize,
    ) -> usize {
        let matrix = self.matrix;
        let (k, n) = (matrix.k, matrix.n);
        let lines: [&[f32]; MR] = std::array::from_fn(|p| &self.input[(row + p) * k..][..k]);
        let levels: [&[[i8; LANES]]; BLOCKS] =
            std::array::from_fn(|s| &matrix.levels[(block + s) * k..][..k]);
        let scales: [V; BLOCKS] = std::array::from_fn(|s| V::load(&matrix.scales[block + s]));
        let mut sums = [[V::zero(); MR]; BLOCKS];
        for s in 0..BLOCKS {
            sums[s] = [V::load(&matrix.bias[block + s]); MR];
        }
        // The order of `gemm`: sums of blocks of terms, then their sum.
        let mut from = 0;
        while from < k {
            let to = (from + K_BLOCK).min(k);
            let lines = lines.map(|line| &line[from..to]);
            let levels = levels.map(|levels| &levels[from..to]);
            let mut partial = [[V::zero(); MR]; BLOCKS];
            for t in 0..to - from {
                for s in 0..BLOCKS {
                    let weights = V::load_i8(&levels[s][t]).mul(scales[s]);
                    for p in 0..MR {
                        partial[s][p] = weights.mul_add(lines[p][t], partial[s][p]);
                    }
                }
            }
            for s in 0..BLOCKS {
                for p in 0..MR {
                    sums[s][p] = sums[s][p].add(partial[s][p]);
                }
            }
            from = to;
        }
        for s in 0..BLOCKS {
            let first = (block + s) * LANES;
            let lanes = LANES.min(n - first);
            for p in 0..MR {
                let sum = if self.relu {
                    sums[s][p].relu()
                } else {
                    sums[s][p]
                };
                store(sum, &mut self.output[(row + p) * n + first..][..lanes]);
            }
        }
        BLOCKS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::gemm::{Init, Packed, matmul};
    use super::*;

    proptest! {
        #[test]
        fn products_have_the_bits_of_those_with_weights_of_32_bits(
            rows in 0usize..10,
            k in 1usize..70,
            n in 1usize..70,
            has_bias: bool,
            relu: bool,
            seed: u64,
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as u32
            };
            let mut levels: Vec<i8> = (0..k * n).map(|_| (next() % 255) as i8).collect();
            levels.iter_mut().for_each(|level| *level = (*level).max(-127));
            levels[..n].fill(127);
            // Scales of at most 17 bits, whose products with levels are exact.
            let scales: Vec<f32> = (0..n).map(|_| (1 + (next() >> 7)) as f32 / 65_536.0).collect();
            let weights = quantised::widen(levels.into_iter(), &scales);
            let bias: Vec<f32> = (0..n).map(|_| next() as f32 / 1e7 - 0.8).collect();
            let bias = has_bias.then_some(&*bias);
            let input: Vec<f32> = (0..rows * k).map(|_| next() as f32 / 1e7 - 0.8).collect();
            let packed = Packed::new(&weights, n, bias);
            let quantised = QuantisedMatrix::new(&weights, n, bias).expect("exact levels");
            for isa in Isa::available() {
                let mut wanted = vec![f32::NAN; rows * n];
                matmul(isa, &input, rows, &packed, Init::Bias, &mut wanted, relu);
                let mut got = vec![f32::NAN; rows * n];
                quantised.multiply(isa, &input, &mut got, relu);
                let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|x| x.to_bits()).collect() };
                prop_assert_eq!(bits(&got), bits(&wanted), "{}", isa.name());
            }
        }
    }

    #[test]
    fn other_weights_stay_as_they_are() {
        assert!(QuantisedMatrix::new(&[1.0, 0.3, -0.7], 1, None).is_none());
    }
}
