//! Implicit GEMM: the matrix product of convolutions, dense layers and recurrent layers.

use std::ops::Range;

use tile::Tiles;

pub(crate) use super::packed::{Affine, Epilogue, Packed};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

mod tile;

/// Terms of K that are summed separately before they join an output's total. Short sums keep the
/// rounding error of long dot products (up to 1,600 terms here) near that of the blocked sums of
/// Keras' BLAS. A fixed length keeps the order of summation the same everywhere.
pub(super) const BLOCK: usize = 32;

/// Initial value of the accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Bias,
    /// Values already in the output.
    Output,
}

/// Terms of one kernel row and the position of their inputs: terms `terms` of each of `columns`
/// runs of `run` terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taps {
    pub columns: Range<usize>,
    /// Input elements from one run to the next.
    pub column_step: usize,
    pub run: usize,
    pub terms: Range<usize>,
}

impl Taps {
    /// Returns a kernel row of one run of `run` terms.
    pub fn all(run: usize) -> Self {
        Self {
            columns: 0..1,
            column_step: 0,
            run,
            terms: 0..run,
        }
    }

    /// Returns the elements from the first input that is read to the last, inclusive.
    pub fn span(&self) -> usize {
        match self.columns.len() {
            0 => 0,
            n => (n - 1) * self.column_step + self.terms.len(),
        }
    }
}

/// GEMM with implicit im2col: `output[m, n] = init + sum over k of input(m)[k] * weights[k, n]`. M
/// counts output pixels, N output channels and K the terms of all kernel rows. Each run of terms is
/// summed in blocks of [`K_BLOCK`] terms, counted from the run's first term even if that is skipped
/// as padding; the totals of the blocks are added in order.
pub(crate) struct Product<'a> {
    /// Rows of `pitch` elements.
    pub input: &'a [f32],
    pub pitch: usize,
    /// M: `columns` pixels in each of `rows` rows.
    pub rows: usize,
    pub columns: usize,
    /// Offset of the first pixel's inputs within its row, and distance to those of the next pixel.
    pub first: usize,
    pub step: usize,
    /// Rows of zero padding above the input. Rows past the end of the input are padding below.
    pub top: usize,
    /// Input rows from one output row to the next.
    pub row_stride: usize,
    /// Kernel rows per pixel and the distance between them in input rows.
    pub kernel_rows: usize,
    pub row_dilation: usize,
    pub taps: &'a Taps,
    /// Zeros, at least as many as a kernel row spans; read in place of padding rows.
    pub zeros: &'a [f32],
    pub packed: &'a Packed,
    pub start: Start,
    /// Output from the first pixel's channels on; pixels are contiguous, rows `output_pitch` apart.
    pub output: &'a mut [f32],
    pub output_pitch: usize,
    pub epilogue: &'a Epilogue,
}

/// Query of the largest tile height M of an instruction set.
pub(super) struct Pixels;

impl Kernel for Pixels {
    type Output = usize;

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) -> usize {
        PIXELS
    }
}

/// Output rows that read the same kernel rows, and so share tiles.
struct Part {
    rows: Range<usize>,
    /// Kernel rows read at each position, counted from the first input row under the kernel.
    reads: Range<usize>,
    /// True if some of these rows are padding, read as zeros.
    mixed: bool,
}

impl Product<'_> {
    pub fn compute(mut self, isa: Isa) {
        if self.columns == 0 {
            return;
        }
        let blocks = self.packed.channels.div_ceil(LANES);
        let pixels = isa.dispatch(Pixels);
        let pairs = pixels >= MANY
            && self.kernel_rows > 1
            && (self.row_stride, self.row_dilation) == (1, 1);
        let mut block = 0;
        while block < blocks {
            // With 32 registers one input load feeds two accumulators: two channel blocks, or one
            // block of two rows. This many positions and their partial sums nearly fill the
            // registers.
            if pixels >= MANY && block + 2 <= blocks {
                self.parts::<2, false>(isa, 7, block, 0..self.rows);
                block += 2;
                continue;
            }
            let paired = if pairs { self.rows / 2 * 2 } else { 0 };
            self.parts::<2, true>(isa, 6, block, 0..paired);
            self.parts::<1, false>(isa, pixels, block, paired..self.rows);
            block += 1;
        }
    }

    /// Computes rows `rows` of `ACCS` channel blocks from `block` on, or of one block if `PAIRED`.
    /// Rows at the edges get tiles of their own if they fill them, which saves products with zero
    /// padding.
    fn parts<const SUMS: usize, const PAIRED: bool>(
        &mut self,
        isa: Isa,
        most: usize,
        block: usize,
        rows: Range<usize>,
    ) {
        let high = if PAIRED { 2 } else { 1 };
        let rows_in = self.input.len() / self.pitch;
        let all = 0..self.kernel_rows + high - 1;
        let (top, stride, dilation) = (self.top, self.row_stride, self.row_dilation);
        // Kernel rows within the input for a position in row `y`.
        let reads = |y: usize| {
            let row = |below: usize| {
                let distance = below.saturating_sub(y * stride);
                distance.div_ceil(dilation).min(all.end)
            };
            row(top)..row(top + rows_in).max(row(top))
        };
        let mut from = rows.start;
        while from < rows.end {
            let mut part = Part {
                rows: from..rows.end,
                reads: reads(from),
                mixed: false,
            };
            if self.columns < ALONE {
                part.mixed = part.reads != all || reads(rows.end - high) != all;
                part.reads = all.clone();
            } else if part.reads == all {
                while reads(part.rows.end - high) != all {
                    part.rows.end -= high;
                }
            } else {
                part.rows.end = from + high;
            }
            from = part.rows.end;
            self.tiles::<SUMS, PAIRED>(isa, most, block, &part);
        }
    }

    /// Computes a band of rows in tiles of nearly equal size.
    fn tiles<const SUMS: usize, const PAIRED: bool>(
        &mut self,
        isa: Isa,
        most: usize,
        block: usize,
        part: &Part,
    ) {
        let places = part.rows.len() / if PAIRED { 2 } else { 1 } * self.columns;
        let tiles = places.div_ceil(most).max(1);
        let large = places % tiles;
        let mut first = 0;
        for (size, count) in [
            (places.div_ceil(tiles), large),
            (places / tiles, tiles - large),
        ] {
            macro_rules! of_size {
                ($($n:literal)*) => {
                    match size {
                        _ if count == 0 => {}
                        $($n => isa.dispatch(Tiles::<$n, SUMS, PAIRED> {
                            of: self,
                            block,
                            part,
                            first,
                            count,
                        }),)*
                        _ => unreachable!("no tile has more than 12 pixels"),
                    }
                };
            }
            of_size!(1 2 3 4 5 6 7 8 9 10 11 12);
            first += size * count;
        }
    }
}

/// Smallest tile height of instruction sets whose registers hold two accumulators per position.
pub(super) const MANY: usize = 12;
/// Columns from which on a row at the edge fills tiles of its own.
const ALONE: usize = 4;

/// Multiplies `[rows, k]` by packed weights into `[rows, n]`.
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
        input: &input[..rows * terms],
        pitch: terms,
        rows,
        columns: 1,
        first: 0,
        step: 0,
        top: 0,
        row_stride: 1,
        kernel_rows: 1,
        row_dilation: 1,
        taps: &Taps::all(terms),
        zeros: &[],
        packed,
        start,
        output,
        output_pitch: packed.channels,
        epilogue: &Epilogue {
            relu,
            ..Epilogue::default()
        },
    }
    .compute(isa);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the `matrixmultiply` crate, whose order of summation differs.
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
