//! Kernels of [`SingleChannelConv`].

use std::ops::Range;

use super::super::gemm::TWO_BLOCK_MR;
use super::super::packed::Block;
use super::{NARROW_KERNEL, SingleChannelConv};
use crate::simd::Kernel;
use crate::simd::lanes::{HALF, LANES, Lanes};

/// Computes the column pairs `pairs` of rows `rows`, whose lines are filled, in tiles of two rows
/// by `PAIRS` pairs. If `WHOLE`, a vector holds channel block `block` of one pixel; else half block
/// `block` of two pixels. A row of a tile has `VECTORS` vectors.
pub(super) struct Strip<'r, 'a, const WHOLE: bool, const PAIRS: usize, const VECTORS: usize> {
    pub conv: &'r mut SingleChannelConv<'a>,
    pub block: usize,
    pub rows: Range<usize>,
    pub pairs: Range<usize>,
}

impl<const WHOLE: bool, const PAIRS: usize, const VECTORS: usize> Kernel
    for Strip<'_, '_, WHOLE, PAIRS, VECTORS>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(mut self) {
        if const { MAX_MR >= TWO_BLOCK_MR || (!WHOLE && PAIRS <= 3) } {
            match self.conv.kernel[1] {
                NARROW_KERNEL => {
                    if const { MAX_MR < TWO_BLOCK_MR } {
                        self.tiles::<V, NARROW_KERNEL, true>();
                    } else {
                        self.tiles::<V, NARROW_KERNEL, false>();
                    }
                }
                5 => self.tiles::<V, 5, false>(),
                _ => self.tiles::<V, 0, false>(),
            }
        }
    }
}

/// Values common to all tiles of a strip.
struct StripConstants<V> {
    bias: V,
    /// Scale and shift, in the lane order in which they are applied.
    affine: Option<[V; 2]>,
    /// True if sums are pooled before the remaining epilogue, which then runs on fewer elements.
    pooled_first: bool,
}

impl<const WHOLE: bool, const PAIRS: usize, const VECTORS: usize>
    Strip<'_, '_, WHOLE, PAIRS, VECTORS>
{
    /// Columns per vector.
    const STEP: usize = if WHOLE { 1 } else { 2 };
    /// Channels per pixel of a vector.
    const CHANNELS: usize = if WHOLE { LANES } else { HALF };

    /// Loads the strip's channels from blocks of lanes.
    #[inline(always)]
    fn load<V: Lanes>(&self, blocks: &[[f32; LANES]]) -> V {
        if WHOLE {
            return V::load(&blocks[self.block]);
        }
        V::broadcast_half(&blocks[self.block / 2].as_chunks().0[self.block % 2])
    }

    /// Runs all tiles with kernels of `KW` columns (0: any number). If `BY_VECTOR`, one vector is
    /// summed after the other.
    #[inline(always)]
    fn tiles<V: Lanes, const KW: usize, const BY_VECTOR: bool>(&mut self) {
        let kernel = self.conv.kernel;
        let kw = if KW > 0 { KW } else { kernel[1] };
        let size = SingleChannelConv::line(kernel, self.conv.width);
        let lines = self.rows.len().next_multiple_of(2) + kernel[0] - 1;
        assert!(2 * self.pairs.end + kw - 1 <= size && lines * size <= self.conv.lines.len());
        let pooled_first = self.conv.pooled && self.conv.epilogue.commutes_with_max();
        // A closure would be compiled without the instruction set's features.
        let affine = match self.conv.epilogue.affine() {
            Some([scale, shift]) => {
                let [scale, shift]: [V; 2] = [self.load(scale), self.load(shift)];
                match pooled_first && !WHOLE {
                    true => Some([scale.pixels(), shift.pixels()]),
                    false => Some([scale, shift]),
                }
            }
            None => None,
        };
        let constants = StripConstants {
            bias: self.load(&self.conv.packed.bias),
            affine,
            pooled_first,
        };
        let weights = match WHOLE {
            true => &self.conv.packed.weights[self.block * kernel[0] * kw..],
            false => &self.conv.packed.weights[self.block / 2 * kernel[0] * kw..],
        };
        for y in self.rows.clone().step_by(2) {
            for pair in self.pairs.clone().step_by(PAIRS) {
                let mut sums = [[constants.bias; VECTORS]; 2];
                for ky in 0..kernel[0] {
                    let weights = &weights[ky * kw..][..kw];
                    // SAFETY: by the assertion above all columns that are read, up to `kw - 1` past
                    // the last pair, lie within a line, and all lines within `lines`.
                    unsafe {
                        let line = (y - self.rows.start + ky) * size + 2 * pair;
                        let above = self.conv.lines.as_ptr().add(line);
                        self.add_row::<V, KW, BY_VECTOR>(
                            [above, above.add(size)],
                            weights,
                            &mut sums,
                        );
                    }
                }
                self.put(y, pair, sums, &constants);
            }
        }
    }

    #[inline(always)]
    fn weight<V: Lanes>(&self, lanes: &[f32; LANES]) -> V {
        match WHOLE {
            true => V::load(lanes),
            false => V::broadcast_half(&lanes.as_chunks().0[self.block % 2]),
        }
    }

    /// Adds the products of one kernel row.
    ///
    /// # Safety
    /// The columns that the tile reads must lie behind each pointer of `lines`.
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
                // SAFETY: guaranteed by the caller.
                let x: V = unsafe {
                    let at = lines[$row].add($column);
                    match WHOLE {
                        true => V::splat(*at),
                        false => V::pair(&*at.cast()),
                    }
                };
                let sum = &mut partial[$row][$vector];
                // Starting from the product is bit-identical to adding it to 0, because the total
                // that it joins is never -0.
                *sum = match $tap {
                    0 => $weight.mul(x),
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
            // Column by column, so that an input shared by neighbours is read once.
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

    /// Applies the epilogue to the tile that starts at pair `pair`, and stores it.
    #[inline(always)]
    fn put<V: Lanes>(
        &mut self,
        y: usize,
        pair: usize,
        mut sums: [[V; VECTORS]; 2],
        constants: &StripConstants<V>,
    ) {
        if !constants.pooled_first {
            for row in &mut sums {
                self.apply_epilogue(row, constants);
            }
        }
        match self.conv.pooled {
            true => self.put_pooled(y, pair, &sums, constants),
            false => self.put_rows(y, pair, &sums),
        }
    }

    /// Applies the pointwise epilogue.
    #[inline(always)]
    fn apply_epilogue<V: Lanes>(&self, sums: &mut [V], constants: &StripConstants<V>) {
        macro_rules! each {
            ($sum:ident => $result:expr) => {
                for i in 0..sums.len() {
                    let $sum = sums[i];
                    sums[i] = $result;
                }
            };
        }
        let epilogue = self.conv.epilogue;
        if epilogue.relu {
            each!(sum => sum.relu());
        }
        if let Some([scale, shift]) = constants.affine {
            each!(sum => sum.mul_add_lanes(scale, shift));
        }
        if epilogue.relu_last {
            each!(sum => sum.relu());
        }
    }

    /// Stores the maximum of each 2 x 2 pixels.
    #[inline(always)]
    fn put_pooled<V: Lanes>(
        &mut self,
        y: usize,
        pair: usize,
        [above, below]: &[[V; VECTORS]; 2],
        constants: &StripConstants<V>,
    ) {
        let (channels, width) = (self.conv.packed.n, self.conv.width / 2);
        let y = (y - self.conv.rows.start) / 2;
        assert!(pair + PAIRS <= width && (y + 1) * width * channels <= self.conv.output.len());
        let first = y * width + pair;
        // Vectors after pooling; each has one pixel if `WHOLE`, else two.
        let count = if WHOLE { PAIRS } else { PAIRS.div_ceil(2) };
        let mut most = [V::zero(); PAIRS];
        for i in 0..count {
            let (a, b) = (2 * i, (2 * i + 1).min(VECTORS - 1));
            most[i] = match WHOLE {
                true => largest([above[a], above[b]], [below[a], below[b]]),
                false => largest(above[a].split(above[b]), below[a].split(below[b])),
            };
        }
        if constants.pooled_first {
            self.apply_epilogue(&mut most[..count], constants);
        }
        for i in 0..count {
            let pixels = match WHOLE {
                true => [i; 2],
                false => [2 * i, (2 * i + 1).min(PAIRS - 1)],
            };
            // SAFETY: the pixels lie within the output, as asserted above.
            unsafe { self.put_pixels(most[i], pixels.map(|pixel| first + pixel)) };
        }
    }

    #[inline(always)]
    fn put_rows<V: Lanes>(&mut self, y: usize, pair: usize, sums: &[[V; VECTORS]; 2]) {
        let (channels, width) = (self.conv.packed.n, self.conv.width);
        for row in 0..2 {
            if y + row == self.conv.rows.end {
                return;
            }
            let y = y - self.conv.rows.start;
            assert!((y + row + 1) * width * channels <= self.conv.output.len());
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

    /// Stores the strip's channels of one pixel if `WHOLE`, else of two pixels, one per half of the
    /// lanes. Equal pixel indices mean that the second half is dropped.
    ///
    /// # Safety
    /// The pixels must lie within the output.
    #[inline(always)]
    unsafe fn put_pixels<V: Lanes>(&mut self, lanes: V, pixels: [usize; 2]) {
        let channels = self.conv.packed.n;
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
                let to = self
                    .conv
                    .output
                    .as_mut_ptr()
                    .add(pixels[i] * channels + from);
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

/// Returns the maximum of 2 x 2 pixels with the semantics of
/// [`max_pool_rows`](super::pool::max_pool_rows): the first of equal elements, never NaN.
#[inline(always)]
fn largest<V: Lanes>(above: [V; 2], below: [V; 2]) -> V {
    let lowest = V::splat(f32::NEG_INFINITY);
    let most = above[1].max(above[0].max(lowest));
    below[1].max(below[0].max(lowest)).max(most)
}
