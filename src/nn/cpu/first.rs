//! Convolution of images with one channel, such as a network's first layer: the inputs of one
//! kernel row are too few to be a run, so that the lanes are shared out differently.

use std::ops::Range;

use super::gemm::{BLOCK, Epilogue, Packed, store};
use super::isa::Kernel;
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

    /// Whether the sum of each row of the kernel is one block.
    pub fn takes(kernel: [usize; 2]) -> bool {
        kernel[1] <= BLOCK
    }

    /// Numbers that `lines` needs for `rows` rows of `width` columns.
    pub fn lines([kh, kw]: [usize; 2], rows: usize, width: usize, channels: usize) -> usize {
        let sharing = sharing(channels);
        let lanes = if sharing == 1 { 1 } else { LANES };
        (rows + kh - 1) * (width.div_ceil(sharing) + kw - 1) * lanes
    }
}

impl Kernel for First<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        match sharing(self.packed.channels) {
            1 => Run::<1>::new(self).run::<V, PIXELS>(),
            _ => Run::<2>::new(self).run::<V, PIXELS>(),
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

    #[inline(always)]
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

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(mut self) {
        let rows = self.of.rows.clone();
        let needed = rows.end + self.of.kernel[0] - 1;
        for row in rows.start.max(*self.of.expanded)..needed {
            self.expand::<V>(row);
        }
        *self.of.expanded = needed;
        for block in 0..self.of.packed.channels.div_ceil(LANES) {
            let mut y = rows.start;
            while y + 2 <= rows.end {
                self.columns::<V, PIXELS, 2>(y, block);
                y += 2;
            }
            if y < rows.end {
                self.columns::<V, PIXELS, 1>(y, block);
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
        let number = |x: usize| match x.checked_sub(left).and_then(|x| source.get(x)) {
            Some(&x) => x,
            None => 0.0,
        };
        for (x, lanes) in line.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut all = [number(x); LANES];
            all[HALF..].fill(number(x + self.half));
            // As one vector, or the compiler makes a scatter of neighbouring ones.
            V::load(&all).store(lanes);
        }
    }

    #[inline(always)]
    fn columns<V: Lanes, const PIXELS: usize, const ROWS: usize>(
        &mut self,
        y: usize,
        block: usize,
    ) {
        // Five columns of two rows and their blocks' sums are 20 registers, two are 8.
        let most = if PIXELS >= 12 { 5 } else { 2 };
        let tiles = self.half.div_ceil(most);
        let mut x = 0;
        for tile in 0..tiles {
            let end = self.half * (tile + 1) / tiles;
            match end - x {
                1 => self.tile::<V, ROWS, 1>(y, x, block),
                2 => self.tile::<V, ROWS, 2>(y, x, block),
                3 if PIXELS >= 12 => self.tile::<V, ROWS, 3>(y, x, block),
                4 if PIXELS >= 12 => self.tile::<V, ROWS, 4>(y, x, block),
                _ if PIXELS >= 12 => self.tile::<V, ROWS, 5>(y, x, block),
                _ => unreachable!("tiles are of nearly equal size"),
            }
            x = end;
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
        for i in 0..kh + ROWS - 1 {
            if y + i < self.of.top || y + i >= self.of.top + rows_in {
                continue;
            }
            let line = &self.of.lines[(y + i) % self.held * self.line..][..self.line];
            let line = &line[x * Self::EACH..][..(COLUMNS + kw - 1) * Self::EACH];
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
        for (row, sums) in sums.into_iter().enumerate() {
            let row = (y - self.of.rows.start + row) * self.of.width;
            for (column, sum) in sums.into_iter().enumerate() {
                let result = self.of.epilogue.apply(sum, block);
                let at = (row + x + column) * channels + block * LANES;
                if SHARING == 1 {
                    store(result, &mut self.of.output[at..][..lanes]);
                    continue;
                }
                let mut values = [0.0; LANES];
                result.store(&mut values);
                for (pixel, values) in values.as_chunks::<HALF>().0.iter().enumerate() {
                    if x + column + pixel * self.half >= self.of.width {
                        continue;
                    }
                    let to = &mut self.of.output[at + pixel * self.half * channels..][..lanes];
                    match <&mut [f32; HALF]>::try_from(&mut *to) {
                        Ok(to) => *to = *values,
                        Err(_) => to.copy_from_slice(&values[..lanes]),
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
        let kw = self.of.kernel[1];
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
