//! The product that convolutions, dense layers and recurrent layers are made of.

use std::ops::Range;

use tile::Tiles;

pub(crate) use super::packed::{Affine, Epilogue, Packed};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

mod tile;

/// Terms that are summed up apart before they join an output's sum. Short sums keep the rounding
/// error of long dot products (up to 1,600 terms here) near that of the blocked sums that Keras
/// was run with; a fixed length keeps the order the same everywhere.
pub(super) const BLOCK: usize = 32;

/// What the accumulators start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Bias,
    /// What the output holds already.
    Output,
}

/// Which terms of one row of the kernel are summed up, and where their inputs lie: in each of
/// `columns` runs of `run` terms those from `terms.start` to `terms.end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taps {
    pub columns: Range<usize>,
    /// Numbers of the input from one run to the next.
    pub column_step: usize,
    pub run: usize,
    pub terms: Range<usize>,
}

impl Taps {
    /// One run of `run` terms.
    pub fn all(run: usize) -> Self {
        Self {
            columns: 0..1,
            column_step: 0,
            run,
            terms: 0..run,
        }
    }

    /// Numbers from the first input that is read to the last.
    pub fn span(&self) -> usize {
        match self.columns.len() {
            0 => 0,
            n => (n - 1) * self.column_step + self.terms.len(),
        }
    }
}

/// A product of rows of inputs with a weight matrix: `output[p, c] = start + sum over terms t of
/// input(p)[t] * weights[t, c]`. Each run's terms are summed up in blocks of [`BLOCK`] terms, which
/// are counted from the run's first term whether that is left out or not; the blocks' sums are
/// added in their order.
pub(crate) struct Product<'a> {
    /// Rows of `pitch` numbers.
    pub input: &'a [f32],
    pub pitch: usize,
    /// The outputs are `columns` pixels from each of `rows` rows.
    pub rows: usize,
    pub columns: usize,
    /// Where in its row the first pixel's inputs begin, and how far the next one's are.
    pub first: usize,
    pub step: usize,
    /// Rows of zeros above the input, which the first pixels' taps may reach; those below are all
    /// that are not in the input.
    pub top: usize,
    /// Rows from one pixel's first to that of the pixel below.
    pub row_stride: usize,
    /// How many rows of terms a pixel has, how far apart.
    pub kernel_rows: usize,
    pub row_dilation: usize,
    pub taps: &'a Taps,
    /// As many zeros as the taps span, read where the input has no row.
    pub zeros: &'a [f32],
    pub packed: &'a Packed,
    pub start: Start,
    /// Where the first pixel's channels go; the next ones follow, the next row `output_pitch` on.
    pub output: &'a mut [f32],
    pub output_pitch: usize,
    pub epilogue: &'a Epilogue,
}

/// How many pixels the instruction set sums up at once.
pub(super) struct Pixels;

impl Kernel for Pixels {
    type Output = usize;

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) -> usize {
        PIXELS
    }
}

/// Rows of the output that have tiles of their own.
struct Part {
    rows: Range<usize>,
    /// Rows of the input that each place reads, counted from the first one that its kernel covers.
    reads: Range<usize>,
    /// Whether some of them do not lie in the input, but are zeros.
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
            // With many registers, an input that is read once serves two blocks, or one block of
            // two rows. So many places' sums and their parts nearly fill the registers.
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

    /// The outputs of rows `rows` of `SUMS` channel blocks from `block` on, or of one block if
    /// `PAIRED`. Rows at the edges have tiles of their own where that fills them, so that no
    /// products with zeros are computed.
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
        // The rows of the input that a place in row `y` reads.
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

    /// The outputs of a part in tiles of nearly equal size.
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

/// Instruction sets that sum up so many pixels have registers for two channel blocks of each.
pub(super) const MANY: usize = 12;
/// Columns from which on a row at the edge has tiles of its own.
const ALONE: usize = 4;

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
