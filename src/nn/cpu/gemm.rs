//! The product that convolutions, dense layers and recurrent layers are made of.

use super::isa::{Isa, Kernel};
use super::lanes::{LANES, Lanes};

/// Terms that are summed up apart before they join an output's sum. Short sums keep the rounding
/// error of long dot products (up to 1,600 terms here) near that of the blocked sums that Keras
/// was run with; a fixed length keeps the order the same everywhere.
const BLOCK: usize = 32;

/// A weight matrix `[terms, channels]`, packed as `[channel block][term][lane]` with zeros in the
/// lanes past the last channel, and its bias as `[channel block][lane]`.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub terms: usize,
    pub channels: usize,
    weights: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
}

impl Packed {
    /// `weights` is row-major `[terms, channels]`; `bias`, if any, `[channels]`.
    pub fn new(weights: &[f32], channels: usize, bias: Option<&[f32]>) -> Self {
        let terms = weights.len() / channels;
        let blocks = channels.div_ceil(LANES);
        let mut packed = vec![[0.0; LANES]; blocks * terms];
        for (term, row) in weights.chunks_exact(channels).enumerate() {
            for (block, part) in row.chunks(LANES).enumerate() {
                packed[block * terms + term][..part.len()].copy_from_slice(part);
            }
        }
        let mut packed_bias = vec![[0.0; LANES]; blocks];
        for (block, part) in bias.unwrap_or(&[]).chunks(LANES).enumerate() {
            packed_bias[block][..part.len()].copy_from_slice(part);
        }
        Self {
            terms,
            channels,
            weights: packed,
            bias: packed_bias,
        }
    }
}

/// What the accumulators start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Bias,
    /// What the output holds already.
    Output,
}

/// How the terms of one output lie in the input: `rows` times `columns` runs of `run` consecutive
/// numbers, the rows `row_step` apart, the columns `column_step`. Their product is the number of
/// terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Runs {
    pub rows: usize,
    pub row_step: usize,
    pub columns: usize,
    pub column_step: usize,
    pub run: usize,
}

/// `output[p, c] = start + sum over terms t of input[at(p) + t] * weights[t, c]` for `p` in
/// `0..pixels`: each run in blocks of [`BLOCK`] terms, the blocks' sums added in their order.
pub(crate) struct Product<'a, F> {
    pub input: &'a [f32],
    /// Where the terms of output `p` begin in the input.
    pub at: F,
    pub pixels: usize,
    pub runs: Runs,
    pub packed: &'a Packed,
    pub start: Start,
    pub output: &'a mut [f32],
    pub relu: bool,
}

impl<F: Fn(usize) -> usize> Product<'_, F> {
    pub fn compute(self, isa: Isa) {
        let Runs {
            rows, columns, run, ..
        } = self.runs;
        assert_eq!(rows * columns * run, self.packed.terms);
        assert!(self.output.len() >= self.pixels * self.packed.channels);
        isa.dispatch(self);
    }

    /// `N` outputs of one channel block, from output `first` on.
    #[inline(always)]
    fn tile<V: Lanes, const N: usize>(&mut self, first: usize, block: usize) {
        let channels = self.packed.channels;
        let from = block * LANES;
        let lanes = LANES.min(channels - from);
        let weights = &self.packed.weights[block * self.packed.terms..][..self.packed.terms];
        let origins: [usize; N] = std::array::from_fn(|p| (self.at)(first + p));
        let mut sums = [V::load(&self.packed.bias[block]); N];
        if self.start == Start::Output {
            for (p, sum) in sums.iter_mut().enumerate() {
                let mut row = [0.0; LANES];
                let at = (first + p) * channels + from;
                row[..lanes].copy_from_slice(&self.output[at..][..lanes]);
                *sum = V::load(&row);
            }
        }
        let Runs {
            columns,
            row_step,
            column_step,
            run,
            ..
        } = self.runs;
        for (segment, weights) in weights.chunks_exact(run).enumerate() {
            let offset = (segment / columns) * row_step + (segment % columns) * column_step;
            for (part, weights) in weights.chunks(BLOCK).enumerate() {
                let rows: [&[f32]; N] = std::array::from_fn(|p| {
                    &self.input[origins[p] + offset + part * BLOCK..][..weights.len()]
                });
                let mut partial = [V::zero(); N];
                for (t, w) in weights.iter().enumerate() {
                    let w = V::load(w);
                    for p in 0..N {
                        // SAFETY: every row is as long as this part of the weights.
                        let x = unsafe { *rows[p].get_unchecked(t) };
                        partial[p] = w.mul_add(x, partial[p]);
                    }
                }
                for p in 0..N {
                    sums[p] = sums[p].add(partial[p]);
                }
            }
        }
        for (p, &sum) in sums.iter().enumerate() {
            let sum = if self.relu { sum.relu() } else { sum };
            let mut row = [0.0; LANES];
            sum.store(&mut row);
            let at = (first + p) * channels + from;
            if lanes == LANES {
                self.output[at..at + LANES].copy_from_slice(&row);
            } else {
                self.output[at..at + lanes].copy_from_slice(&row[..lanes]);
            }
        }
    }
}

impl<F: Fn(usize) -> usize> Kernel for Product<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(mut self) {
        for block in 0..self.packed.channels.div_ceil(LANES) {
            let mut p = 0;
            while p + PIXELS <= self.pixels {
                self.tile::<V, PIXELS>(p, block);
                p += PIXELS;
            }
            while p + 4 <= self.pixels {
                self.tile::<V, 4>(p, block);
                p += 4;
            }
            while p < self.pixels {
                self.tile::<V, 1>(p, block);
                p += 1;
            }
        }
    }
}

/// Rows of `packed.terms` numbers times the weights: `[rows, terms]` to `[rows, channels]`.
pub(crate) fn matmul(
    isa: Isa,
    input: &[f32],
    rows: usize,
    packed: &Packed,
    start: Start,
    output: &mut [f32],
    relu: bool,
) {
    let terms = packed.terms;
    Product {
        input,
        at: |p| p * terms,
        pixels: rows,
        runs: Runs {
            rows: 1,
            row_step: 0,
            columns: 1,
            column_step: 0,
            run: terms,
        },
        packed,
        start,
        output,
        relu,
    }
    .compute(isa);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Independent opinion: the `matrixmultiply` crate, whose summation order differs.
    #[test]
    fn matmul_agrees_with_matrixmultiply_on_every_instruction_set() {
        for (rows, terms, channels) in [(1, 1, 1), (13, 160, 256), (5, 64, 7), (27, 33, 40)] {
            let number = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
            let input: Vec<f32> = (0..rows * terms).map(number).collect();
            let weights: Vec<f32> = (0..terms * channels).map(|i| number(i + 77)).collect();
            let bias: Vec<f32> = (0..channels).map(|i| number(i + 5)).collect();
            let mut wanted: Vec<f32> = (0..rows).flat_map(|_| bias.clone()).collect();
            // SAFETY: the pointers are to row-major matrices of exactly the given sizes.
            unsafe {
                matrixmultiply::sgemm(
                    rows,
                    terms,
                    channels,
                    1.0,
                    input.as_ptr(),
                    terms as isize,
                    1,
                    weights.as_ptr(),
                    channels as isize,
                    1,
                    1.0,
                    wanted.as_mut_ptr(),
                    channels as isize,
                    1,
                );
            }
            let packed = Packed::new(&weights, channels, Some(&bias));
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut got = vec![f32::NAN; rows * channels];
                matmul(isa, &input, rows, &packed, Start::Bias, &mut got, false);
                for (g, w) in got.iter().zip(&wanted) {
                    // Sums of up to 160 terms of magnitude 1 in different orders.
                    assert!((g - w).abs() < 1e-4, "{} {g} {w}", isa.name());
                }
                let first = first.get_or_insert_with(|| got.clone());
                assert_eq!(*first, got, "{}", isa.name());
            }
        }
    }
}
