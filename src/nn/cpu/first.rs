//! Convolution of images with one channel, such as a network's first layer: the inputs of one
//! kernel row are too few to be a run, so that neighbouring pixels are computed together.

use std::ops::Range;

use super::gemm::{BLOCK, Epilogue, MANY, Packed, Pixels};
use super::isa::{Isa, Kernel};
use super::lanes::{HALF, LANES, Lanes};
use super::packed::store as put;

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
            (false, false) => (self.packed.channels.div_ceil(HALF), 3),
        };
        let pairs = self.width.div_ceil(2);
        let tiles = pairs.div_ceil(most);
        let mut filled = self.rows.start;
        let mut lines = [0; BLOCK + 1];
        for y in self.rows.clone().step_by(2) {
            isa.dispatch(Fill {
                of: &mut self,
                rows: filled.max(y)..y + held,
            });
            filled = y + held;
            for (i, line) in lines[..held].iter_mut().enumerate() {
                *line = self.place(y + i) * line_size;
            }
            for block in 0..blocks {
                let mut from = 0;
                // Tiles of nearly equal size: at first the larger ones.
                for (size, tiles) in [
                    (pairs.div_ceil(tiles), pairs - pairs / tiles * tiles),
                    (pairs / tiles, tiles - (pairs - pairs / tiles * tiles)),
                ] {
                    let to = from + size * tiles;
                    let of = &mut self;
                    let pairs = from..to;
                    macro_rules! of_size {
                        ($($whole:literal $pairs:literal $vectors:literal,)*) => {
                            match (whole, size) {
                                _ if tiles == 0 => {}
                                $(($whole, $pairs) => {
                                    isa.dispatch(Strip::<$whole, $pairs, $vectors> {
                                        of, lines: &lines[..held], y, block, pairs,
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

    /// The number of the line of row `row`, counted from the first row of zeros.
    #[inline(always)]
    fn place(&self, row: usize) -> usize {
        let held = Self::held(self.kernel);
        match row.checked_sub(self.top) {
            Some(y) if y * self.pitch < self.input.len() => row % held,
            _ => held,
        }
    }

    /// Fills the line of row `row`, if it is one of the input.
    #[inline(always)]
    fn fill(&mut self, row: usize) {
        let place = self.place(row);
        if place == Self::held(self.kernel) {
            return;
        }
        let source = &self.input[(row - self.top) * self.pitch..][..self.pitch];
        let size = Self::line(self.kernel, self.width);
        let line = &mut self.lines[place * size..][..size];
        let n = source.len().min(size - self.left);
        line[..self.left].fill(0.0);
        line[self.left..self.left + n].copy_from_slice(&source[..n]);
        line[self.left + n..].fill(0.0);
    }
}

/// Fills the lines of these rows.
struct Fill<'r, 'a> {
    of: &'r mut First<'a>,
    rows: Range<usize>,
}

impl Kernel for Fill<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        for row in self.rows {
            self.of.fill(row);
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
                3 => self.tiles::<V, 3>(),
                5 => self.tiles::<V, 5>(),
                _ => self.tiles::<V, 0>(),
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

    /// With kernels of `KW` columns, or of any number if that is 0.
    #[inline(always)]
    fn tiles<V: Lanes, const KW: usize>(&mut self) {
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
                    self.add_row::<V, KW>(lines, weights, &mut sums);
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
    unsafe fn add_row<V: Lanes, const KW: usize>(
        &self,
        lines: [*const f32; 2],
        weights: &[[f32; LANES]],
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
        let channels = self.of.packed.channels;
        let from = self.block * Self::CHANNELS;
        let lanes = Self::CHANNELS.min(channels - from);
        let row = self.of.width / 2 * channels;
        let y = (self.y - self.of.rows.start) / 2;
        let to = &mut self.of.output[y * row..][..row];
        let to = &mut to[pair * channels..][..PAIRS * channels];
        if WHOLE {
            for i in 0..PAIRS {
                let (a, b) = (2 * i, 2 * i + 1);
                let most = largest([above[a], above[b]], [below[a], below[b]]);
                put(most, &mut to[i * channels + from..][..lanes]);
            }
            return;
        }
        for i in 0..VECTORS.div_ceil(2) {
            let (a, b) = (2 * i, (2 * i + 1).min(VECTORS - 1));
            let most = largest(above[a].split(above[b]), below[a].split(below[b]));
            let mut all = [0.0; LANES];
            most.store(&mut all);
            let [first, next] = [0, HALF].map(|i| *all[i..].first_chunk().expect("a half"));
            put_half(first, &mut to[a * channels + from..][..lanes]);
            if a < b {
                put_half(next, &mut to[b * channels + from..][..lanes]);
            }
        }
    }

    #[inline(always)]
    fn put_rows<V: Lanes>(&mut self, pair: usize, sums: &[[V; VECTORS]; 2]) {
        let (channels, width) = (self.of.packed.channels, self.of.width);
        let from = self.block * Self::CHANNELS;
        let lanes = Self::CHANNELS.min(channels - from);
        let y = self.y - self.of.rows.start;
        for row in 0..2 {
            if self.y + row == self.of.rows.end {
                return;
            }
            let to = &mut self.of.output[(y + row) * width * channels..][..width * channels];
            for vector in 0..VECTORS {
                let x = 2 * pair + Self::STEP * vector;
                if WHOLE {
                    if x < width {
                        put(sums[row][vector], &mut to[x * channels + from..][..lanes]);
                    }
                    continue;
                }
                let mut all = [0.0; LANES];
                sums[row][vector].pixels().store(&mut all);
                let [first, next] = [0, HALF].map(|i| *all[i..].first_chunk().expect("a half"));
                put_half(first, &mut to[x * channels + from..][..lanes]);
                if x + 1 < width {
                    put_half(next, &mut to[(x + 1) * channels + from..][..lanes]);
                }
            }
        }
    }
}

/// Stores the first of these channels, as many as `to` is long.
#[inline(always)]
fn put_half(channels: [f32; HALF], to: &mut [f32]) {
    match <&mut [f32; HALF]>::try_from(&mut *to) {
        Ok(to) => *to = channels,
        Err(_) => to.copy_from_slice(&channels[..to.len()]),
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
