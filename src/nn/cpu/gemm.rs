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
pub(super) const K_BLOCK: usize = 32;

/// Initial value of the accumulators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    Bias,
    /// Values already in the output.
    Accumulate,
}

/// Terms of one kernel row and the position of their inputs: terms `terms` of each of `columns`
/// runs of `run` terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelRow {
    pub columns: Range<usize>,
    /// Input elements from one run to the next.
    pub column_step: usize,
    pub run: usize,
    pub terms: Range<usize>,
}

impl KernelRow {
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
pub(crate) struct Gemm<'a> {
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
    pub kernel_row: &'a KernelRow,
    /// Zeros, at least as many as a kernel row spans; read in place of padding rows.
    pub zeros: &'a [f32],
    pub packed: &'a Packed,
    pub init: Init,
    /// Output from the first pixel's channels on; pixels are contiguous, rows `output_pitch` apart.
    pub output: &'a mut [f32],
    pub output_pitch: usize,
    pub epilogue: &'a Epilogue,
}

/// Query of the largest tile height M of an instruction set.
pub(super) struct MaxMr;

impl Kernel for MaxMr {
    type Output = usize;

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) -> usize {
        MAX_MR
    }
}

/// Output rows that read the same kernel rows, and so share tiles.
struct RowBand {
    rows: Range<usize>,
    /// Kernel rows read at each position, counted from the first input row under the kernel.
    reads: Range<usize>,
    /// True if some of these rows are padding, read as zeros.
    needs_padding: bool,
}

impl Gemm<'_> {
    pub fn compute(mut self, isa: Isa) {
        if self.columns == 0 {
            return;
        }
        let blocks = self.packed.n.div_ceil(LANES);
        let max_mr = isa.dispatch(MaxMr);
        let pairs = max_mr >= TWO_BLOCK_MR
            && self.kernel_rows > 1
            && (self.row_stride, self.row_dilation) == (1, 1);
        let mut block = 0;
        while block < blocks {
            // Each term of a sum waits for the one before it, so a single pixel needs the sums of several blocks at once.
            if self.rows * self.columns == 1 && max_mr >= 4 && block + 4 <= blocks {
                self.row_bands::<4, false>(isa, 1, block, 0..1);
                block += 4;
                continue;
            }
            // With 32 registers one input load feeds two accumulators: two channel blocks, or one
            // block of two rows. This many positions and their partial sums nearly fill the
            // registers.
            if max_mr >= TWO_BLOCK_MR && block + 2 <= blocks {
                self.row_bands::<2, false>(isa, 7, block, 0..self.rows);
                block += 2;
                continue;
            }
            let paired = if pairs { self.rows / 2 * 2 } else { 0 };
            self.row_bands::<2, true>(isa, 6, block, 0..paired);
            self.row_bands::<1, false>(isa, max_mr, block, paired..self.rows);
            block += 1;
        }
    }

    /// Computes rows `rows` of `ACCS` channel blocks from `block` on, or of one block if `PAIRED`.
    /// Rows at the edges get tiles of their own if they fill them, which saves products with zero
    /// padding.
    fn row_bands<const ACCS: usize, const PAIRED: bool>(
        &mut self,
        isa: Isa,
        most: usize,
        block: usize,
        rows: Range<usize>,
    ) {
        let row_step = if PAIRED { 2 } else { 1 };
        let rows_in = self.input.len() / self.pitch;
        let all = 0..self.kernel_rows + row_step - 1;
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
            let mut band = RowBand {
                rows: from..rows.end,
                reads: reads(from),
                needs_padding: false,
            };
            if self.columns < MIN_EDGE_COLUMNS {
                band.needs_padding = band.reads != all || reads(rows.end - row_step) != all;
                band.reads = all.clone();
            } else if band.reads == all {
                while reads(band.rows.end - row_step) != all {
                    band.rows.end -= row_step;
                }
            } else {
                band.rows.end = from + row_step;
            }
            from = band.rows.end;
            self.tiles::<ACCS, PAIRED>(isa, most, block, &band);
        }
    }

    /// Computes a band of rows in tiles of nearly equal size.
    fn tiles<const ACCS: usize, const PAIRED: bool>(
        &mut self,
        isa: Isa,
        most: usize,
        block: usize,
        band: &RowBand,
    ) {
        let positions = band.rows.len() / if PAIRED { 2 } else { 1 } * self.columns;
        let tiles = positions.div_ceil(most).max(1);
        let large = positions % tiles;
        let mut first = 0;
        for (size, count) in [
            (positions.div_ceil(tiles), large),
            (positions / tiles, tiles - large),
        ] {
            macro_rules! of_size {
                ($($n:literal)*) => {
                    match size {
                        _ if count == 0 => {}
                        $($n => isa.dispatch(Tiles::<$n, ACCS, PAIRED> {
                            gemm: self,
                            block,
                            band,
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
pub(super) const TWO_BLOCK_MR: usize = 12;
/// Columns from which on a row at the edge fills tiles of its own.
const MIN_EDGE_COLUMNS: usize = 4;

/// Multiplies `[m, k]` by packed weights into `[m, n]`.
pub(crate) fn matmul(
    isa: Isa,
    input: &[f32],
    m: usize,
    packed: &Packed,
    init: Init,
    output: &mut [f32],
    relu: bool,
) {
    let k = packed.k;
    Gemm {
        input: &input[..m * k],
        pitch: k,
        rows: m,
        columns: 1,
        first: 0,
        step: 0,
        top: 0,
        row_stride: 1,
        kernel_rows: 1,
        row_dilation: 1,
        kernel_row: &KernelRow::all(k),
        zeros: &[],
        packed,
        init,
        output,
        output_pitch: packed.n,
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
        for (m, k, n) in [(1, 1, 1), (13, 160, 256), (5, 64, 7), (27, 33, 40)] {
            let number = |i: usize| ((i as u64 * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
            let input: Vec<f32> = (0..m * k).map(number).collect();
            let weights: Vec<f32> = (0..k * n).map(|i| number(i + 77)).collect();
            let bias: Vec<f32> = (0..n).map(|i| number(i + 5)).collect();
            let mut wanted: Vec<f32> = (0..m).flat_map(|_| bias.clone()).collect();
            // SAFETY: the pointers are to row-major matrices of exactly the given sizes.
            unsafe {
                matrixmultiply::sgemm(
                    m,
                    k,
                    n,
                    1.0,
                    input.as_ptr(),
                    k as isize,
                    1,
                    weights.as_ptr(),
                    n as isize,
                    1,
                    1.0,
                    wanted.as_mut_ptr(),
                    n as isize,
                    1,
                );
            }
            let packed = Packed::new(&weights, n, Some(&bias));
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut got = vec![f32::NAN; m * n];
                matmul(isa, &input, m, &packed, Init::Bias, &mut got, false);
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
