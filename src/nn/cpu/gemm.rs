//! The product that convolutions, dense layers and recurrent layers are made of.

use std::ops::Range;

use super::isa::{Isa, Kernel};
use super::lanes::{LANES, Lanes};
pub(crate) use super::packed::{Affine, Epilogue, Packed};
use super::packed::{Block, load, store};

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

impl Product<'_> {
    pub fn compute(mut self, isa: Isa) {
        let blocks = self.packed.channels.div_ceil(LANES);
        let pixels = isa.dispatch(Pixels);
        let mut block = 0;
        while block < blocks {
            // With many registers, an input that is read once serves two blocks, or one block of
            // two rows. So many places' sums and their parts nearly fill the registers.
            if pixels >= MANY && block + 2 <= blocks {
                self.tiles::<2, false>(isa, 7, block, 0..self.rows);
                block += 2;
                continue;
            }
            let pairs = pixels >= MANY
                && self.kernel_rows > 1
                && (self.row_stride, self.row_dilation) == (1, 1);
            let paired = if pairs { self.rows / 2 * 2 } else { 0 };
            self.tiles::<2, true>(isa, 8, block, 0..paired);
            self.tiles::<1, false>(isa, pixels, block, paired..self.rows);
            block += 1;
        }
    }

    /// The outputs of rows `rows` of `SUMS` channel blocks from `block` on, or of one block if
    /// `PAIRED`, in tiles of nearly equal size.
    fn tiles<const SUMS: usize, const PAIRED: bool>(
        &mut self,
        isa: Isa,
        most: usize,
        block: usize,
        rows: Range<usize>,
    ) {
        let pixels = rows.len() / if PAIRED { 2 } else { 1 } * self.columns;
        let before = rows.start * self.columns;
        let tiles = pixels.div_ceil(most);
        let mut from = 0;
        for tile in 0..tiles {
            let end = pixels * (tile + 1) / tiles;
            let first = before + from;
            macro_rules! of_size {
                ($($n:literal)*) => {
                    match end - from {
                        $($n => isa.dispatch(Tile::<$n, SUMS, PAIRED> { of: self, first, block }),)*
                        _ => unreachable!("no tile has more than 12 pixels"),
                    }
                };
            }
            of_size!(1 2 3 4 5 6 7 8 9 10 11 12);
            from = end;
        }
    }
}

/// Instruction sets that sum up so many pixels have registers for two channel blocks of each.
pub(super) const MANY: usize = 12;

/// `SUMS` outputs at each of `N` places from `first` on. Those of a place are channel blocks from
/// block `block` on of one pixel, or if `PAIRED` of a pixel and the one below; then places lie in
/// every second row. Each is a function of its own: in one that holds all of them, the compiler
/// runs out of registers.
struct Tile<'a, 'b, const N: usize, const SUMS: usize, const PAIRED: bool> {
    of: &'a mut Product<'b>,
    first: usize,
    block: usize,
}

impl<const N: usize, const SUMS: usize, const PAIRED: bool> Kernel
    for Tile<'_, '_, N, SUMS, PAIRED>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        if N <= PIXELS && (SUMS == 1 || (PIXELS >= MANY && N <= 8)) {
            self.of.tile::<V, N, SUMS, PAIRED>(self.first, self.block);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn tile<V: Lanes, const N: usize, const SUMS: usize, const PAIRED: bool>(
        &mut self,
        first: usize,
        block: usize,
    ) {
        let channels = self.packed.channels;
        let span = self.taps.span();
        let terms = self.packed.terms;
        let kernel_row = terms / self.kernel_rows;
        let rows_in = self.input.len() / self.pitch;
        // Rows of outputs from a place to the one below.
        let high = if PAIRED { 2 } else { 1 };
        let (y, mut x) = (first / self.columns * high, first % self.columns);
        let last_y = (first + N - 1) / self.columns * high + high - 1;
        // The last pixel of a row reads farthest, and every pixel reads whole rows' parts; what is
        // written lies before the end of the last row.
        assert!(self.first + (self.columns - 1) * self.step + span <= self.pitch);
        assert!(span <= self.zeros.len() || self.is_inside(self.rows - 1));
        assert!(
            last_y < self.rows
                && last_y * self.output_pitch + self.columns * channels <= self.output.len()
        );
        let inside = y * self.row_stride >= self.top
            && last_y * self.row_stride + self.reach() < self.top + rows_in;
        // From place to place and from a row's last one to the next row's first.
        let steps = [
            self.step,
            (high * self.row_stride * self.pitch).wrapping_sub((self.columns - 1) * self.step),
        ];
        let target_steps = [
            channels,
            (high * self.output_pitch).wrapping_sub((self.columns - 1) * channels),
        ];
        let row = (y * self.row_stride).wrapping_sub(self.top);
        let mut at = row
            .wrapping_mul(self.pitch)
            .wrapping_add(self.first + x * self.step);
        let mut target = y * self.output_pitch + x * channels;
        let mut lines = [std::ptr::null(); N];
        let mut targets = [0; N];
        for p in 0..N {
            lines[p] = self.input.as_ptr().wrapping_add(at);
            targets[p] = target;
            let ends = usize::from(x + 1 == self.columns);
            at = at.wrapping_add(steps[ends]);
            target = target.wrapping_add(target_steps[ends]);
            x = (x + 1) * (1 - ends);
        }
        // The channel block of sum `s`, and how far behind its place's channels it is stored.
        let place = |s: usize| match PAIRED {
            true => (block, s * self.output_pitch + block * LANES),
            false => (block + s, (block + s) * LANES),
        };
        let mut sums: [[V; N]; SUMS] =
            std::array::from_fn(|s| [V::load(&self.packed.bias[place(s).0]); N]);
        if self.start == Start::Output {
            for s in 0..SUMS {
                let (block, from) = place(s);
                let lanes = LANES.min(channels - block * LANES);
                for p in 0..N {
                    sums[s][p] = load(&self.output[targets[p] + from..][..lanes]);
                }
            }
        }
        let weights_of = |block: usize, ky: usize| {
            &self.packed.weights[block * terms + ky * kernel_row..][..kernel_row]
        };
        for ky in 0..self.kernel_rows + high - 1 {
            let shift = ky * self.row_dilation * self.pitch;
            let mut of_row = lines;
            if !inside {
                let mut any = false;
                for p in 0..N {
                    let y = (first + p) / self.columns * high;
                    let row = y * self.row_stride + ky * self.row_dilation;
                    if row >= self.top && row < self.top + rows_in {
                        any = true;
                    } else {
                        of_row[p] = self.zeros.as_ptr().wrapping_sub(shift);
                    }
                }
                if !any {
                    continue;
                }
            }
            // SAFETY: every row is one of the input, in which `span` numbers from the pixel's
            // first on lie, as asserted above, or `span` zeros.
            unsafe {
                if !PAIRED {
                    let weights = std::array::from_fn(|s| weights_of(block + s, ky));
                    self.row(&of_row, shift, &weights, &mut sums);
                } else if ky == 0 {
                    let sums = std::array::from_mut(&mut sums[0]);
                    self.row(&of_row, shift, &[weights_of(block, ky)], sums);
                } else if ky == self.kernel_rows {
                    let sums = std::array::from_mut(&mut sums[SUMS - 1]);
                    self.row(&of_row, shift, &[weights_of(block, ky - 1)], sums);
                } else {
                    // The row that is the upper pixel's `ky` is the lower one's before.
                    let weights = std::array::from_fn(|s| weights_of(block, ky - s));
                    self.row(&of_row, shift, &weights, &mut sums);
                }
            }
        }
        for s in 0..SUMS {
            let (block, from) = place(s);
            let lanes = LANES.min(channels - block * LANES);
            for p in 0..N {
                let result = self.epilogue.apply(sums[s][p], block);
                if lanes == LANES {
                    // SAFETY: a pixel's channels lie within the output, as asserted above, and
                    // this is a whole block of them.
                    unsafe {
                        let to = self.output.as_mut_ptr().add(targets[p] + from);
                        result.store(&mut *to.cast());
                    }
                } else {
                    store(result, &mut self.output[targets[p] + from..][..lanes]);
                }
            }
        }
    }

    /// Rows from a pixel's first to its last.
    fn reach(&self) -> usize {
        (self.kernel_rows - 1) * self.row_dilation
    }

    /// Whether the pixels down to row `row` read no row outside of the input.
    fn is_inside(&self, row: usize) -> bool {
        self.top == 0 && row * self.row_stride + self.reach() < self.input.len() / self.pitch
    }

    /// Adds the terms of one row of the kernel.
    ///
    /// # Safety
    /// As many numbers as the taps span must lie `shift` numbers behind each of `lines`.
    #[inline(always)]
    unsafe fn row<V: Lanes, const N: usize, const BLOCKS: usize>(
        &self,
        lines: &[*const f32; N],
        shift: usize,
        weights: &[&[Block]; BLOCKS],
        sums: &mut [[V; N]; BLOCKS],
    ) {
        let taps = self.taps;
        for column in taps.columns.clone() {
            let at = (column - taps.columns.start) * taps.column_step;
            let mut from = taps.terms.start;
            while from < taps.terms.end {
                let to = ((from / BLOCK + 1) * BLOCK).min(taps.terms.end);
                let weights: [*const Block; BLOCKS] = std::array::from_fn(|b| {
                    weights[b][column * taps.run + from..][..to - from].as_ptr()
                });
                let mut partial = [[V::zero(); N]; BLOCKS];
                // Counted from the lines' beginnings, so that nothing is computed per line.
                let first = shift + at + from - taps.terms.start;
                macro_rules! add_term {
                    ($t:expr) => {
                        // SAFETY: the weights are `to - from` long, and so are the lines' parts
                        // from `first` on.
                        unsafe {
                            let w: [V; BLOCKS] =
                                std::array::from_fn(|b| V::load(&*weights[b].add($t - first)));
                            for p in 0..N {
                                let x = *lines[p].wrapping_add($t);
                                for b in 0..BLOCKS {
                                    partial[b][p] = w[b].mul_add(x, partial[b][p]);
                                }
                            }
                        }
                    };
                }
                // Fewer jumps, so that the processor can foresee the last one.
                const STEP: usize = 4;
                let whole = first + (to - from) / STEP * STEP;
                let mut t = first;
                while t < whole {
                    add_term!(t);
                    add_term!(t + 1);
                    add_term!(t + 2);
                    add_term!(t + 3);
                    t += STEP;
                }
                while t < first + to - from {
                    add_term!(t);
                    t += 1;
                }
                for b in 0..BLOCKS {
                    for p in 0..N {
                        sums[b][p] = sums[b][p].add(partial[b][p]);
                    }
                }
                from = to;
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
