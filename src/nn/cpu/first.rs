//! Convolution of images with one channel, such as a network's first layer: the inputs of one
//! kernel row are too few to be a run, so that neighbouring pixels are computed together.

use std::ops::Range;

use super::gemm::{BLOCK, Epilogue, MANY, Packed, Pixels};
use super::isa::{Isa, Kernel};
use super::lanes::{HALF, LANES, Lanes};
use super::packed::Block;

/// Columns of the kernels whose rows' sums end so soon that with few registers one is computed after
/// the other.
const FEW: usize = 3;

/// Rows `rows` of the output before pooling and its first `width` columns, with strides and
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
    /// The input's rows with zeros around them, and last a row of zeros.
    pub lines: &'a mut [f32],
    pub packed: &'a Packed,
    pub epilogue: &'a Epilogue,
    /// Whether the largest of two columns of two rows is wanted; then there are whole pairs of both.
    pub pooled: bool,
    /// `[rows, width, channels]`, or of half as many rows and columns.
    pub output: &'a mut [f32],
}

impl First<'_> {
    /// Whether the sum of each row of the kernel is one block and the lines stay small.
    pub fn takes(kernel: [usize; 2], width: usize) -> bool {
        kernel[0].max(kernel[1]) <= BLOCK && width <= 4096
    }

    /// Numbers that `lines` needs.
    pub fn lines(kernel: [usize; 2], width: usize) -> usize {
        (Self::held(kernel) + 1) * Self::line(kernel, width)
    }

    /// Lines that two rows of the output read.
    fn held([kh, _]: [usize; 2]) -> usize {
        kh + 1
    }

    /// Numbers of a line, which serves a whole number of pairs of columns.
    fn line([_, kw]: [usize; 2], width: usize) -> usize {
        width.next_multiple_of(2) + kw - 1
    }

    pub fn compute(mut self, isa: Isa) {
        let line_size = Self::line(self.kernel, self.width);
        let held = Self::held(self.kernel);
        self.lines[held * line_size..][..line_size].fill(0.0);
        // A whole block of one pixel's channels, or half a block of each of two pixels.
        let many = isa.dispatch(Pixels) >= MANY;
        let whole = many && self.packed.channels > HALF;
        let (blocks, most) = match (whole, many) {
            (true, _) => (self.packed.channels.div_ceil(LANES), 3),
            (false, true) => (self.packed.channels.div_ceil(HALF), 6),
            (false, false) if self.kernel[1] == FEW => (self.packed.channels.div_ceil(HALF), 2),
            (false, false) => (self.packed.channels.div_ceil(HALF), 3),
        };
        let pairs = self.width.div_ceil(2);
        let tiles = pairs.div_ceil(most).max(1);
        // Tiles of nearly equal size: at first the larger ones.
        let large = pairs % tiles;
        let parts = [
            (pairs.div_ceil(tiles), large),
            (pairs / tiles, tiles - large),
        ];
        let rows_in = self.input.len() / self.pitch;
        let mut filled = self.rows.start;
        // The lines take turns, `place` is the first one's.
        let mut place = self.rows.start % held;
        let mut lines = [0; BLOCK + 1];
        let lines = &mut lines[..held];
        for y in self.rows.clone().step_by(2) {
            for (i, line) in lines.iter_mut().enumerate() {
                let inside = (y + i).checked_sub(self.top).is_some_and(|y| y < rows_in);
                let turn = place + i - if place + i < held { 0 } else { held };
                *line = if inside { turn } else { held } * line_size;
            }
            place = place + 2 - if place + 2 < held { 0 } else { held };
            let row = filled.max(y);
            isa.dispatch(Fill {
                of: &mut self,
                row,
                lines: &lines[row - y..],
            });
            filled = y + held;
            for block in 0..blocks {
                let mut from = 0;
                for (size, tiles) in parts {
                    let to = from + size * tiles;
                    let of = &mut self;
                    let pairs = from..to;
                    macro_rules! of_size {
                        ($($whole:literal $pairs:literal $vectors:literal,)*) => {
                            match (whole, size) {
                                _ if tiles == 0 => {}
                                $(($whole, $pairs) => {
                                    isa.dispatch(Strip::<$whole, $pairs, $vectors> {
                                        of, lines, y, block, pairs,
                                    });
                                })*
                                _ => unreachable!("no tile is larger"),
                            }
                        };
                    }
                    of_size!(
                        true 1 2, true 2 4, true 3 6,
                        false 1 1, false 2 2, false 3 3, false 4 4, false 5 5, false 6 6,
                    );
                    from = to;
                }
            }
        }
    }

    /// Fills the line that begins at `at` with row `row`, counted from the first row of zeros; the
    /// line of zeros stays.
    #[inline(always)]
    fn fill(&mut self, row: usize, at: usize) {
        let size = Self::line(self.kernel, self.width);
        if at == Self::held(self.kernel) * size {
            return;
        }
        let source = &self.input[(row - self.top) * self.pitch..][..self.pitch];
        let line = &mut self.lines[at..][..size];
        let n = source.len().min(size - self.left);
        line[..self.left].fill(0.0);
        line[self.left + n..].fill(0.0);
        // Rows are too short for a call of the library's.
        let (from, from_last) = source[..n].as_chunks::<HALF>();
        let (to, to_last) = line[self.left..][..n].as_chunks_mut::<HALF>();
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        for (to, from) in to_last.iter_mut().zip(from_last) {
            *to = *from;
        }
    }
}

/// Fills these lines with the rows from `row` on.
struct Fill<'r, 'a> {
    of: &'r mut First<'a>,
    row: usize,
    lines: &'r [usize],
}

impl Kernel for Fill<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        for (i, &line) in self.lines.iter().enumerate() {
            self.of.fill(self.row + i, line);
        }
    }
}

/// Rows `y` and `y + 1` of the pairs of columns `pairs`, `PAIRS` at a time. If `WHOLE`, each pixel
/// has a vector with channel block `block`; if not, each pair of pixels has one with the channels
/// of half block `block`. `VECTORS` is how many a row of a tile has.
struct Strip<'r, 'a, const WHOLE: bool, const PAIRS: usize, const VECTORS: usize> {
    of: &'r mut First<'a>,
    /// Where those lines begin that the rows read.
    lines: &'r [usize],
    y: usize,
    block: usize,
    pairs: Range<usize>,
}

impl<const WHOLE: bool, const PAIRS: usize, const VECTORS: usize> Kernel
    for Strip<'_, '_, WHOLE, PAIRS, VECTORS>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(mut self) {
        if PIXELS >= MANY || (!WHOLE && PAIRS <= 3) {
            match self.of.kernel[1] {
                FEW if PIXELS < MANY => self.tiles::<V, FEW, true>(),
                FEW => self.tiles::<V, FEW, false>(),
                5 => self.tiles::<V, 5, false>(),
                _ => self.tiles::<V, 0, false>(),
            }
        }
    }
}

/// What is the same for all tiles of a strip.
struct Shared<V> {
    bias: V,
    affine: Option<[V; 2]>,
}

impl<const WHOLE: bool, const PAIRS: usize, const VECTORS: usize>
    Strip<'_, '_, WHOLE, PAIRS, VECTORS>
{
    /// Columns from a vector to the next.
    const STEP: usize = if WHOLE { 1 } else { 2 };
    /// Channels of a vector's pixel.
    const CHANNELS: usize = if WHOLE { LANES } else { HALF };

    /// The channels of the strip from blocks of lanes.
    #[inline(always)]
    fn load<V: Lanes>(&self, blocks: &[[f32; LANES]]) -> V {
        if WHOLE {
            return V::load(&blocks[self.block]);
        }
        V::twice(&blocks[self.block / 2].as_chunks().0[self.block % 2])
    }

    /// With kernels of `KW` columns, or of any number if that is 0; one vector after the other if
    /// `BY_VECTOR`.
    #[inline(always)]
    fn tiles<V: Lanes, const KW: usize, const BY_VECTOR: bool>(&mut self) {
        let kernel = self.of.kernel;
        let kw = if KW > 0 { KW } else { kernel[1] };
        let size = First::line(kernel, self.of.width);
        assert!(
            2 * self.pairs.end + kw - 1 <= size
                && self.lines.len() == kernel[0] + 1
                && self
                    .lines
                    .iter()
                    .all(|line| line + size <= self.of.lines.len())
        );
        let shared = Shared {
            bias: self.load(&self.of.packed.bias),
            affine: match self.of.epilogue.affine() {
                Some([scale, shift]) => Some([self.load(scale), self.load(shift)]),
                None => None,
            },
        };
        let weights = match WHOLE {
            true => &self.of.packed.weights[self.block * kernel[0] * kw..],
            false => &self.of.packed.weights[self.block / 2 * kernel[0] * kw..],
        };
        for pair in self.pairs.clone().step_by(PAIRS) {
            let mut sums = [[shared.bias; VECTORS]; 2];
            for ky in 0..kernel[0] {
                let weights = &weights[ky * kw..][..kw];
                // SAFETY: by the assertion above all columns that are read, up to `kw - 1` behind
                // the last pair, lie within a line, and all lines within `lines`.
                unsafe {
                    let at = |line: usize| self.of.lines.as_ptr().add(line + 2 * pair);
                    let lines = [at(self.lines[ky]), at(self.lines[ky + 1])];
                    self.add_row::<V, KW, BY_VECTOR>(lines, weights, &mut sums);
                }
            }
            self.put(pair, sums, &shared);
        }
    }

    #[inline(always)]
    fn weight<V: Lanes>(&self, lanes: &[f32; LANES]) -> V {
        match WHOLE {
            true => V::load(lanes),
            false => V::twice(&lanes.as_chunks().0[self.block % 2]),
        }
    }

    /// Adds the block of one row of the kernel.
    ///
    /// # Safety
    /// The columns that the tile reads must lie behind each of `lines`.
    #[inline(always)]
    unsafe fn add_row<V: Lanes, const KW: usize, const BY_VECTOR: bool>(
        &self,
        lines: [*const f32; 2],
        weights: &[Block],
        sums: &mut [[V; VECTORS]; 2],
    ) {
        let mut partial = [[V::zero(); VECTORS]; 2];
        macro_rules! add {
            ($row:expr, $vector:expr, $tap:expr, $weight:expr, $column:expr) => {
                // SAFETY: the caller's.
                let x: V = unsafe {
                    let at = lines[$row].add($column);
                    match WHOLE {
                        true => V::spread(*at),
                        false => V::pair(&*at.cast()),
                    }
                };
                let sum = &mut partial[$row][$vector];
                // Their sum with what is no -0 is the same as if 0 was added to the first product.
                *sum = match $tap {
                    0 => $weight.times(x),
                    _ => $weight.mul_add_lanes(x, *sum),
                };
            };
        }
        if BY_VECTOR {
            let weights: [V; KW] = std::array::from_fn(|tap| self.weight(&weights[tap]));
            for row in 0..2 {
                for vector in 0..VECTORS {
                    for tap in 0..KW {
                        add!(row, vector, tap, weights[tap], Self::STEP * vector + tap);
                    }
                    sums[row][vector] = sums[row][vector].add(partial[row][vector]);
                }
            }
            return;
        }
        if KW > 0 {
            // By columns, so that what neighbours share is read once.
            let weights: [V; KW] = std::array::from_fn(|tap| self.weight(&weights[tap]));
            macro_rules! columns {
                ($($column:literal)*) => {$(
                    for row in 0..2 {
                        for vector in 0..VECTORS {
                            let tap = usize::wrapping_sub($column, Self::STEP * vector);
                            if tap < KW {
                                add!(row, vector, tap, weights[tap], $column);
                            }
                        }
                    }
                )*};
            }
            const { assert!(Self::STEP * (VECTORS - 1) + KW <= 15) }
            columns!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        } else {
            for (tap, weight) in weights.iter().enumerate() {
                let weight: V = self.weight(weight);
                for row in 0..2 {
                    for vector in 0..VECTORS {
                        add!(row, vector, 1, weight, Self::STEP * vector + tap);
                    }
                }
            }
        }
        for row in 0..2 {
            for vector in 0..VECTORS {
                sums[row][vector] = sums[row][vector].add(partial[row][vector]);
            }
        }
    }

    /// Stores what becomes of the sums of the tile from pair `pair` on.
    #[inline(always)]
    fn put<V: Lanes>(&mut self, pair: usize, mut sums: [[V; VECTORS]; 2], shared: &Shared<V>) {
        macro_rules! each {
            ($sum:ident => $result:expr) => {
                for row in 0..2 {
                    for vector in 0..VECTORS {
                        let $sum = sums[row][vector];
                        sums[row][vector] = $result;
                    }
                }
            };
        }
        let epilogue = self.of.epilogue;
        if epilogue.relu {
            each!(sum => sum.relu());
        }
        if let Some([scale, shift]) = shared.affine {
            each!(sum => sum.mul_add_lanes(scale, shift));
        }
        if epilogue.relu_last {
            each!(sum => sum.relu());
        }
        match self.of.pooled {
            true => self.put_pooled(pair, &sums),
            false => self.put_rows(pair, &sums),
        }
    }

    /// Stores the largest of each two columns of the two rows.
    #[inline(always)]
    fn put_pooled<V: Lanes>(&mut self, pair: usize, [above, below]: &[[V; VECTORS]; 2]) {
        let (channels, width) = (self.of.packed.channels, self.of.width / 2);
        let y = (self.y - self.of.rows.start) / 2;
        assert!(pair + PAIRS <= width && (y + 1) * width * channels <= self.of.output.len());
        let first = y * width + pair;
        if WHOLE {
            for i in 0..PAIRS {
                let (a, b) = (2 * i, 2 * i + 1);
                let most = largest([above[a], above[b]], [below[a], below[b]]);
                // SAFETY: the pixel lies within the output, as asserted above.
                unsafe { self.put_pixels(most, [first + i, first + i]) };
            }
            return;
        }
        for i in 0..VECTORS.div_ceil(2) {
            let (a, b) = (2 * i, (2 * i + 1).min(VECTORS - 1));
            let most = largest(above[a].split(above[b]), below[a].split(below[b]));
            // SAFETY: as above.
            unsafe { self.put_pixels(most, [first + a, first + b]) };
        }
    }

    #[inline(always)]
    fn put_rows<V: Lanes>(&mut self, pair: usize, sums: &[[V; VECTORS]; 2]) {
        let (channels, width) = (self.of.packed.channels, self.of.width);
        let y = self.y - self.of.rows.start;
        for row in 0..2 {
            if self.y + row == self.of.rows.end {
                return;
            }
            assert!((y + row + 1) * width * channels <= self.of.output.len());
            for vector in 0..VECTORS {
                let x = 2 * pair + Self::STEP * vector;
                if x < width {
                    let at = (y + row) * width + x;
                    let next = if x + 1 < width { at + 1 } else { at };
                    let lanes = match WHOLE {
                        true => sums[row][vector],
                        false => sums[row][vector].pixels(),
                    };
                    // SAFETY: the pixels lie within the row, and it within the output.
                    unsafe { self.put_pixels(lanes, [at, next]) };
                }
            }
        }
    }

    /// Stores the strip's channels of a pixel, or if it is not `WHOLE` of two pixels: the second
    /// half of the lanes is that of the second one, and left out if that is the first.
    ///
    /// # Safety
    /// The pixels must lie within the output.
    #[inline(always)]
    unsafe fn put_pixels<V: Lanes>(&mut self, lanes: V, pixels: [usize; 2]) {
        let channels = self.of.packed.channels;
        let from = self.block * Self::CHANNELS;
        let count = Self::CHANNELS.min(channels - from);
        let mut all = [0.0; LANES];
        lanes.store(&mut all);
        for i in 0..if WHOLE { 1 } else { 2 } {
            if i == 1 && pixels[0] == pixels[1] {
                return;
            }
            // SAFETY: `from + count` is at most the number of a pixel's channels.
            unsafe {
                let to = self.of.output.as_mut_ptr().add(pixels[i] * channels + from);
                if WHOLE && count == LANES {
                    *to.cast() = all;
                } else if !WHOLE && count == HALF {
                    *to.cast::<[f32; HALF]>() = std::array::from_fn(|lane| all[i * HALF + lane]);
                } else {
                    let all = &all[i * HALF..][..count];
                    to.copy_from_nonoverlapping(all.as_ptr(), count);
                }
            }
        }
    }
}

/// The largest of two pixels above and two below, as [`max_pool_rows`](super::pool::max_pool_rows)
/// takes it: of equal ones the first, no NaN.
#[inline(always)]
fn largest<V: Lanes>(above: [V; 2], below: [V; 2]) -> V {
    let lowest = V::spread(f32::NEG_INFINITY);
    let most = above[1].larger(above[0].larger(lowest));
    below[1].larger(below[0].larger(lowest)).larger(most)
}
