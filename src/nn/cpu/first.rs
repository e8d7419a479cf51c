//! Convolution of images with one channel, such as a network's first layer: the inputs of one
//! kernel row are too few to be a run, so that the lanes are shared out differently.

use std::ops::Range;

use super::gemm::{BLOCK, Epilogue, MANY, Packed, Pixels};
use super::isa::{Isa, Kernel};
use super::lanes::{LANES, Lanes};

/// Rows `rows` of the output (before pooling) and its first `width` columns, with strides and
/// dilations of 1. The sums are those of [`Product`](super::gemm::Product): one block per row of
/// the kernel.
pub(super) struct First<'a> {
    /// Rows of `pitch` numbers.
    pub input: &'a [f32],
    pub pitch: usize,
    /// Rows of zeros above and columns of zeros to the left of the input.
    pub top: usize,
    pub left: usize,
    pub kernel: [usize; 2],
    pub rows: Range<usize>,
    pub width: usize,
    /// The input's rows with zeros around them; with at most half a block of channels each number
    /// fills half a block of lanes, and the other half belongs to a pixel half a row on.
    pub lines: &'a mut [f32],
    /// Up to which row `lines` is filled.
    pub expanded: &'a mut usize,
    pub packed: &'a Packed,
    pub epilogue: &'a Epilogue,
    /// `[rows, width, channels]`
    pub output: &'a mut [f32],
}

/// Lanes of one of two pixels that share a vector.
const HALF: usize = LANES / 2;

/// Pixels that share a vector.
fn sharing(channels: usize) -> usize {
    match channels <= HALF {
        true => 2,
        false => 1,
    }
}

impl First<'_> {
    /// Rows of the output that are computed together.
    pub const ROWS: usize = 4;

    /// Whether the sum of each row of the kernel is one block and the lines stay small.
    pub fn takes(kernel: [usize; 2], width: usize) -> bool {
        kernel[0].max(kernel[1]) <= BLOCK && width <= 4096
    }

    /// Numbers that `lines` needs for `rows` rows of `width` columns.
    pub fn lines([kh, kw]: [usize; 2], rows: usize, width: usize, channels: usize) -> usize {
        let sharing = sharing(channels);
        let lanes = if sharing == 1 { 1 } else { LANES };
        (rows + kh - 1) * (width.div_ceil(sharing) + kw - 1) * lanes
    }
}

impl First<'_> {
    pub fn compute(self, isa: Isa) {
        match sharing(self.packed.channels) {
            1 => Run::<1>::new(self).compute(isa),
            _ => Run::<2>::new(self).compute(isa),
        }
    }
}

/// With `SHARING` pixels in a vector.
struct Run<'a, const SHARING: usize> {
    of: First<'a>,
    /// Columns until the next pixel of the same vector.
    half: usize,
    /// Numbers of a line.
    line: usize,
    /// Lines that are held at once.
    held: usize,
}

impl<'a, const SHARING: usize> Run<'a, SHARING> {
    /// Numbers of a line per column.
    const EACH: usize = if SHARING == 1 { 1 } else { LANES };

    fn new(of: First<'a>) -> Self {
        let half = of.width.div_ceil(SHARING);
        let line = (half + of.kernel[1] - 1) * Self::EACH;
        Self {
            half,
            line,
            held: of.lines.len() / line,
            of,
        }
    }

    fn compute(mut self, isa: Isa) {
        let rows = self.of.rows.clone();
        let needed = rows.end + self.of.kernel[0] - 1;
        let missing = rows.start.max(*self.of.expanded)..needed;
        *self.of.expanded = needed;
        isa.dispatch(Expand {
            run: &mut self,
            rows: missing,
        });
        // Five columns of two rows and their blocks' sums are 20 registers, two are 8.
        let most = if isa.dispatch(Pixels) >= MANY { 5 } else { 2 };
        let tiles = self.half.div_ceil(most);
        for block in 0..self.of.packed.channels.div_ceil(LANES) {
            for y in rows.clone().step_by(2) {
                let both = y + 2 <= rows.end;
                for tile in 0..tiles {
                    let x = self.half * tile / tiles;
                    let columns = self.half * (tile + 1) / tiles - x;
                    macro_rules! of_size {
                        ($($n:literal)*) => {
                            match (columns, both) {
                                $(
                                    ($n, true) => isa.dispatch(Tile::<SHARING, 2, $n> {
                                        run: &mut self, y, x, block,
                                    }),
                                    ($n, false) => isa.dispatch(Tile::<SHARING, 1, $n> {
                                        run: &mut self, y, x, block,
                                    }),
                                )*
                                _ => unreachable!("no tile has more than five columns"),
                            }
                        };
                    }
                    of_size!(1 2 3 4 5);
                }
            }
        }
    }

    /// Fills the line of row `row`, counted from the first row of zeros.
    #[inline(always)]
    fn expand<V: Lanes>(&mut self, row: usize) {
        let rows_in = self.of.input.len() / self.of.pitch;
        let Some(y) = row.checked_sub(self.of.top).filter(|&y| y < rows_in) else {
            return;
        };
        let source = &self.of.input[y * self.of.pitch..][..self.of.pitch];
        let line = &mut self.of.lines[row % self.held * self.line..][..self.line];
        let left = self.of.left;
        if SHARING == 1 {
            let n = source.len().min(line.len() - left);
            line[..left].fill(0.0);
            line[left..left + n].copy_from_slice(&source[..n]);
            line[left + n..].fill(0.0);
            return;
        }
        let number = |x: usize| match x.wrapping_sub(left) {
            x if x < source.len() => source[x],
            _ => 0.0,
        };
        for (x, lanes) in line.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut all = [number(x); LANES];
            all[HALF..].fill(number(x + self.half));
            // As one vector, or the compiler makes a scatter of neighbouring ones.
            V::load(&all).store(lanes);
        }
    }

    /// `ROWS` rows of `COLUMNS` vectors.
    #[inline(always)]
    fn tile<V: Lanes, const ROWS: usize, const COLUMNS: usize>(
        &mut self,
        y: usize,
        x: usize,
        block: usize,
    ) {
        let [kh, kw] = self.of.kernel;
        let rows_in = self.of.input.len() / self.of.pitch;
        let bias = V::load(&self.of.packed.bias[block]);
        let weights = &self.of.packed.weights[block * kh * kw..][..kh * kw];
        let mut sums = [[bias; COLUMNS]; ROWS];
        let from = self.of.top.saturating_sub(y);
        let to = (self.of.top + rows_in).saturating_sub(y);
        let mut place = (y + from) % self.held;
        for i in from..to.min(kh + ROWS - 1) {
            let line = &self.of.lines[place * self.line + x * Self::EACH..];
            let line = &line[..(COLUMNS + kw - 1) * Self::EACH];
            place = if place + 1 < self.held { place + 1 } else { 0 };
            // Row 0 of the tile reads this line with row i of the kernel, row 1 with row i - 1.
            match (i < kh, ROWS == 2 && i > 0) {
                (true, true) => self.add(
                    line,
                    [&weights[i * kw..][..kw], &weights[(i - 1) * kw..][..kw]],
                    0,
                    &mut sums,
                ),
                (true, false) => self.add(line, [&weights[i * kw..][..kw]], 0, &mut sums),
                _ => self.add(line, [&weights[(i - 1) * kw..][..kw]], 1, &mut sums),
            }
        }
        let channels = self.of.packed.channels;
        let lanes = LANES.min(channels - block * LANES);
        let pitch = self.of.width * channels;
        for (row, sums) in sums.into_iter().enumerate() {
            let row = &mut self.of.output[(y - self.of.rows.start + row) * pitch..][..pitch];
            if SHARING == 2 && channels == HALF && x + self.half + COLUMNS <= self.of.width {
                let row = row.as_chunks_mut::<HALF>().0;
                let (left, right) = row.split_at_mut(self.half);
                let (left, right) = (&mut left[x..][..COLUMNS], &mut right[x..][..COLUMNS]);
                for column in 0..COLUMNS {
                    let mut values = [0.0; LANES];
                    self.of
                        .epilogue
                        .apply(sums[column], block)
                        .store(&mut values);
                    left[column].copy_from_slice(&values[..HALF]);
                    right[column].copy_from_slice(&values[HALF..]);
                }
                continue;
            }
            for (column, sum) in sums.into_iter().enumerate() {
                let mut values = [0.0; LANES];
                self.of.epilogue.apply(sum, block).store(&mut values);
                for pixel in 0..SHARING {
                    let x = x + column + pixel * self.half;
                    if x < self.of.width {
                        let to = &mut row[x * channels + block * LANES..][..lanes];
                        let values = &values[pixel * HALF..];
                        match <&mut [f32; LANES]>::try_from(&mut *to) {
                            Ok(to) => to.copy_from_slice(&values[..LANES]),
                            Err(_) => to.copy_from_slice(&values[..lanes]),
                        }
                    }
                }
            }
        }
    }

    /// Adds the block of one row of the kernel to the sums of `ACTIVE` rows from row `from` on.
    #[inline(always)]
    fn add<V: Lanes, const ACTIVE: usize, const ROWS: usize, const COLUMNS: usize>(
        &self,
        line: &[f32],
        weights: [&[[f32; LANES]]; ACTIVE],
        from: usize,
        sums: &mut [[V; COLUMNS]; ROWS],
    ) {
        match self.of.kernel[1] {
            // The usual widths without a loop, so that what neighbours share is read once.
            3 => self.taps::<V, ACTIVE, ROWS, COLUMNS>(3, line, weights, from, sums),
            5 => self.taps::<V, ACTIVE, ROWS, COLUMNS>(5, line, weights, from, sums),
            kw => self.taps::<V, ACTIVE, ROWS, COLUMNS>(kw, line, weights, from, sums),
        }
    }

    #[inline(always)]
    fn taps<V: Lanes, const ACTIVE: usize, const ROWS: usize, const COLUMNS: usize>(
        &self,
        kw: usize,
        line: &[f32],
        weights: [&[[f32; LANES]]; ACTIVE],
        from: usize,
        sums: &mut [[V; COLUMNS]; ROWS],
    ) {
        let mut partial = [[V::zero(); COLUMNS]; ACTIVE];
        assert!(line.len() >= (COLUMNS + kw - 1) * Self::EACH);
        assert!(weights.iter().all(|row| row.len() == kw));
        let vectors = line.as_chunks::<LANES>().0;
        for tap in 0..kw {
            // SAFETY: `tap < kw` and `column < COLUMNS`, so that by the assertions above every
            // index is in range.
            unsafe {
                let w: [V; ACTIVE] =
                    std::array::from_fn(|row| V::load(weights[row].get_unchecked(tap)));
                for column in 0..COLUMNS {
                    if SHARING == 1 {
                        let x = *line.get_unchecked(column + tap);
                        for row in 0..ACTIVE {
                            partial[row][column] = w[row].mul_add(x, partial[row][column]);
                        }
                    } else {
                        let x = V::load(vectors.get_unchecked(column + tap));
                        for row in 0..ACTIVE {
                            partial[row][column] = w[row].mul_add_lanes(x, partial[row][column]);
                        }
                    }
                }
            }
        }
        for row in 0..ACTIVE {
            for column in 0..COLUMNS {
                sums[from + row][column] = sums[from + row][column].add(partial[row][column]);
            }
        }
    }
}

/// Fills the lines of these rows.
struct Expand<'r, 'a, const SHARING: usize> {
    run: &'r mut Run<'a, SHARING>,
    rows: Range<usize>,
}

impl<const SHARING: usize> Kernel for Expand<'_, '_, SHARING> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        for row in self.rows {
            self.run.expand::<V>(row);
        }
    }
}

/// `ROWS` rows of `COLUMNS` vectors of channel block `block`, from row `y` and column `x` on.
struct Tile<'r, 'a, const SHARING: usize, const ROWS: usize, const COLUMNS: usize> {
    run: &'r mut Run<'a, SHARING>,
    y: usize,
    x: usize,
    block: usize,
}

impl<const SHARING: usize, const ROWS: usize, const COLUMNS: usize> Kernel
    for Tile<'_, '_, SHARING, ROWS, COLUMNS>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        if COLUMNS <= 2 || PIXELS >= MANY {
            self.run
                .tile::<V, ROWS, COLUMNS>(self.y, self.x, self.block);
        }
    }
}
