//! Micro-kernel of [`Gemm`].

use super::super::packed::{Block, load, store};
use super::{BLOCK, MANY, Part, Product, Start, Taps};
use crate::simd::Kernel;
use crate::simd::lanes::{LANES, Lanes};

/// Computes `count` tiles of a band from position `first` on. A tile is MR x NR: `MR` positions by
/// `ACCS` accumulators of [`LANES`] outputs. The accumulators of a position are channel blocks
/// `block`, `block + 1` of one pixel, or if `PAIRED` block `block` of a pixel and of the one below;
/// positions then lie in every second row. Each size is a function of its own: in a function that
/// holds all of them the compiler runs out of registers.
pub(super) struct Tiles<'a, 'b, const N: usize, const SUMS: usize, const PAIRED: bool> {
    pub of: &'a mut Product<'b>,
    pub block: usize,
    pub part: &'a Part,
    pub first: usize,
    pub count: usize,
}

impl<const N: usize, const SUMS: usize, const PAIRED: bool> Kernel
    for Tiles<'_, '_, N, SUMS, PAIRED>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(self) {
        if N <= PIXELS && (SUMS == 1 || (PIXELS >= MANY && N <= 8)) {
            self.compute::<V>();
        }
    }
}

impl<const N: usize, const SUMS: usize, const PAIRED: bool> Tiles<'_, '_, N, SUMS, PAIRED> {
    /// Rows from a position to the one below.
    const HIGH: usize = if PAIRED { 2 } else { 1 };

    /// Returns the channel block of accumulator `s`.
    #[inline(always)]
    fn block_of(&self, s: usize) -> usize {
        if PAIRED { self.block } else { self.block + s }
    }

    #[inline(always)]
    fn compute<V: Lanes>(self) {
        let Product {
            pitch,
            columns,
            step,
            top,
            row_stride,
            kernel_rows,
            row_dilation,
            taps,
            packed,
            output_pitch,
            ..
        } = *self.of;
        let (block, part) = (self.block, self.part);
        let channels = packed.channels;
        let span = taps.span();
        let kernel_row = packed.terms / kernel_rows;
        let rows_in = self.of.input.len() / pitch;
        // Bounds of all reads: they lie in the input or in the zeros.
        assert!(self.of.first + (columns - 1) * step + span <= pitch);
        assert!(part.reads.end < kernel_rows + Self::HIGH);
        if part.mixed {
            assert!(span <= self.of.zeros.len());
        } else if !part.reads.is_empty() {
            let above = part.rows.start * row_stride + part.reads.start * row_dilation;
            let below =
                (part.rows.end - Self::HIGH) * row_stride + (part.reads.end - 1) * row_dilation;
            assert!(above >= top && below < top + rows_in);
        }
        let weights_end = (self.block_of(SUMS - 1) + 1) * packed.terms;
        assert!(weights_end <= packed.weights.len() && packed.bias.len() * LANES >= channels);
        assert!(taps.columns.end * taps.run <= kernel_row && taps.terms.end <= taps.run);
        // Bounds of all writes.
        assert!(
            part.rows.end <= self.of.rows
                && (part.rows.end - 1) * output_pitch + columns * channels <= self.of.output.len()
                && self.first + self.count * N <= part.rows.len() / Self::HIGH * columns
        );
        let lanes: [usize; SUMS] =
            std::array::from_fn(|s| LANES.min(channels - self.block_of(s) * LANES));
        // Offset of each accumulator's output from that of its position.
        let behind: [usize; SUMS] = std::array::from_fn(|s| match PAIRED {
            true => s * output_pitch + block * LANES,
            false => (block + s) * LANES,
        });
        let weights: [*const Block; SUMS] =
            std::array::from_fn(|s| packed.weights[self.block_of(s) * packed.terms..].as_ptr());
        // Steps from one position to the next, and from the last one of a row to the next row.
        let steps = [
            step,
            (Self::HIGH * row_stride * pitch).wrapping_sub((columns - 1) * step),
        ];
        let target_steps = [
            channels,
            (Self::HIGH * output_pitch).wrapping_sub((columns - 1) * channels),
        ];
        let mut x = self.first % columns;
        let mut y = part.rows.start + self.first / columns * Self::HIGH;
        let mut at = (y * row_stride)
            .wrapping_sub(top)
            .wrapping_mul(pitch)
            .wrapping_add(self.of.first + x * step);
        let mut target = y * output_pitch + x * channels;
        let input = self.of.input.as_ptr();
        let output = self.of.output.as_mut_ptr();
        for _ in 0..self.count {
            let mut lines = [std::ptr::null(); N];
            let mut rows = [0; N];
            let mut targets = [0; N];
            for p in 0..N {
                lines[p] = input.wrapping_add(at);
                rows[p] = y * row_stride;
                targets[p] = target;
                let ends = usize::from(x + 1 == columns);
                at = at.wrapping_add(steps[ends]);
                target = target.wrapping_add(target_steps[ends]);
                y += ends * Self::HIGH;
                x = (x + 1) * (1 - ends);
            }
            let mut sums = [[V::zero(); N]; SUMS];
            for s in 0..SUMS {
                sums[s] = [V::load(&packed.bias[self.block_of(s)]); N];
            }
            if self.of.start == Start::Output {
                for s in 0..SUMS {
                    for p in 0..N {
                        sums[s][p] = load(&self.of.output[targets[p] + behind[s]..][..lanes[s]]);
                    }
                }
            }
            for row in part.reads.clone() {
                let shift = row * row_dilation * pitch;
                let mut of_row = lines;
                if part.mixed {
                    let mut any = false;
                    for p in 0..N {
                        let row = rows[p] + row * row_dilation;
                        if row >= top && row < top + rows_in {
                            any = true;
                        } else {
                            of_row[p] = self.of.zeros.as_ptr().wrapping_sub(shift);
                        }
                    }
                    if !any {
                        continue;
                    }
                }
                // SAFETY: every row is one of the input, in which `span` elements from the pixel's
                // first on are in bounds by the assertions above, or `span` zeros. The weights of
                // the kernel rows are contiguous.
                unsafe {
                    if !PAIRED {
                        let weights = weights.map(|w| w.add(row * kernel_row));
                        add_row(taps, &of_row, shift, weights, &mut sums);
                        continue;
                    }
                    // The lower pixel reads this input row with the preceding kernel row.
                    let [upper, lower] = [row, row.wrapping_sub(1)]
                        .map(|ky| weights[0].wrapping_add(ky.wrapping_mul(kernel_row)));
                    if row == 0 {
                        let sums = std::array::from_mut(&mut sums[0]);
                        add_row(taps, &of_row, shift, [upper], sums);
                    } else if row == kernel_rows {
                        let sums = std::array::from_mut(&mut sums[SUMS - 1]);
                        add_row(taps, &of_row, shift, [lower], sums);
                    } else {
                        let weights = std::array::from_fn(|s| if s == 0 { upper } else { lower });
                        add_row(taps, &of_row, shift, weights, &mut sums);
                    }
                }
            }
            self.of
                .epilogue
                .apply(&mut sums, std::array::from_fn(|s| self.block_of(s)));
            for s in 0..SUMS {
                for p in 0..N {
                    // SAFETY: a pixel's channels lie within the output, as asserted above.
                    unsafe {
                        let to = output.add(targets[p] + behind[s]);
                        if lanes[s] == LANES {
                            sums[s][p].store(&mut *to.cast());
                        } else {
                            store(sums[s][p], std::slice::from_raw_parts_mut(to, lanes[s]));
                        }
                    }
                }
            }
        }
    }
}

/// Adds the products of one kernel row.
///
/// # Safety
/// The elements that the kernel row spans must lie `shift` elements behind each pointer of `lines`,
/// and a kernel row's weights behind each pointer of `weights`.
#[inline(always)]
unsafe fn add_row<V: Lanes, const N: usize, const SUMS: usize>(
    taps: &Taps,
    lines: &[*const f32; N],
    shift: usize,
    weights: [*const Block; SUMS],
    sums: &mut [[V; N]; SUMS],
) {
    for column in taps.columns.clone() {
        let mut at = shift + (column - taps.columns.start) * taps.column_step;
        let mut from = taps.terms.start;
        while from < taps.terms.end {
            let to = ((from / BLOCK + 1) * BLOCK).min(taps.terms.end);
            // Offset by `at`, so that one index serves inputs and weights.
            let weights =
                weights.map(|w| w.wrapping_add(column * taps.run + from).wrapping_sub(at));
            let mut partial = [[V::zero(); N]; SUMS];
            macro_rules! add_term {
                ($t:expr) => {
                    // SAFETY: `to - from` weights and inputs are in bounds, guaranteed by the
                    // caller.
                    unsafe {
                        let mut w = [V::zero(); SUMS];
                        for s in 0..SUMS {
                            w[s] = V::load(&*weights[s].wrapping_add($t).cast());
                        }
                        for p in 0..N {
                            let x = *lines[p].wrapping_add($t);
                            for s in 0..SUMS {
                                partial[s][p] = w[s].mul_add(x, partial[s][p]);
                            }
                        }
                    }
                };
            }
            // Unrolled: fewer branches let the CPU predict the loop exit.
            const STEP: usize = 4;
            let end = at + (to - from);
            let whole = at + (to - from) / STEP * STEP;
            while at < whole {
                add_term!(at);
                add_term!(at + 1);
                add_term!(at + 2);
                add_term!(at + 3);
                at += STEP;
            }
            while at < end {
                add_term!(at);
                at += 1;
            }
            for s in 0..SUMS {
                for p in 0..N {
                    sums[s][p] = sums[s][p].add(partial[s][p]);
                }
            }
            from = to;
        }
    }
}
