//! Micro-kernel of [`Gemm`].

use super::super::packed::{Block, load, store};
use super::{Gemm, Init, K_BLOCK, KernelRow, RowBand, TWO_BLOCK_MR};
use crate::simd::Kernel;
use crate::simd::lanes::{LANES, Lanes};

/// Computes `count` tiles of a band from position `first` on. A tile is MR x NR: `MR` positions by
/// `ACCS` accumulators of [`LANES`] outputs. The accumulators of a position are the channel blocks
/// from `block` on of one pixel, or if `PAIRED` block `block` of a pixel and of the one below;
/// positions then lie in every second row. Each size is a function of its own: in a function that
/// holds all of them the compiler runs out of registers.
pub(super) struct Tiles<'a, 'b, const MR: usize, const ACCS: usize, const PAIRED: bool> {
    pub gemm: &'a mut Gemm<'b>,
    pub block: usize,
    pub band: &'a RowBand,
    pub first: usize,
    pub count: usize,
}

impl<const MR: usize, const ACCS: usize, const PAIRED: bool> Kernel
    for Tiles<'_, '_, MR, ACCS, PAIRED>
{
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        if const {
            match ACCS {
                1 => MR <= MAX_MR,
                2 => MR <= 8 && MAX_MR >= TWO_BLOCK_MR,
                _ => MR == 1 && !PAIRED && ACCS <= MAX_MR,
            }
        } {
            self.compute::<V>();
        }
    }
}

impl<const MR: usize, const ACCS: usize, const PAIRED: bool> Tiles<'_, '_, MR, ACCS, PAIRED> {
    /// Rows from a position to the one below.
    const ROW_STEP: usize = if PAIRED { 2 } else { 1 };

    /// Returns the channel block of accumulator `s`.
    #[inline(always)]
    fn block_of(&self, s: usize) -> usize {
        if PAIRED { self.block } else { self.block + s }
    }

    #[inline(always)]
    fn compute<V: Lanes>(self) {
        let Gemm {
            pitch,
            columns,
            step,
            top,
            row_stride,
            kernel_rows,
            row_dilation,
            kernel_row,
            packed,
            output_pitch,
            ..
        } = *self.gemm;
        let (block, band) = (self.block, self.band);
        let channels = packed.n;
        let span = kernel_row.span();
        let row_terms = packed.k / kernel_rows;
        let rows_in = self.gemm.input.len() / pitch;
        // Bounds of all reads: they lie in the input or in the zeros.
        assert!(self.gemm.first + (columns - 1) * step + span <= pitch);
        assert!(band.reads.end < kernel_rows + Self::ROW_STEP);
        if band.needs_padding {
            assert!(span <= self.gemm.zeros.len());
        } else if !band.reads.is_empty() {
            let above = band.rows.start * row_stride + band.reads.start * row_dilation;
            let below =
                (band.rows.end - Self::ROW_STEP) * row_stride + (band.reads.end - 1) * row_dilation;
            assert!(above >= top && below < top + rows_in);
        }
        let weights_end = (self.block_of(ACCS - 1) + 1) * packed.k;
        assert!(weights_end <= packed.weights.len() && packed.bias.len() * LANES >= channels);
        assert!(
            kernel_row.columns.end * kernel_row.run <= row_terms
                && kernel_row.terms.end <= kernel_row.run
        );
        // Bounds of all writes.
        assert!(
            band.rows.end <= self.gemm.rows
                && (band.rows.end - 1) * output_pitch + columns * channels
                    <= self.gemm.output.len()
                && self.first + self.count * MR <= band.rows.len() / Self::ROW_STEP * columns
        );
        let lanes: [usize; ACCS] =
            std::array::from_fn(|s| LANES.min(channels - self.block_of(s) * LANES));
        // Offset of each accumulator's output from that of its position.
        let behind: [usize; ACCS] = std::array::from_fn(|s| match PAIRED {
            true => s * output_pitch + block * LANES,
            false => (block + s) * LANES,
        });
        let weights: [*const Block; ACCS] =
            std::array::from_fn(|s| packed.weights[self.block_of(s) * packed.k..].as_ptr());
        // Steps from one position to the next, and from the last one of a row to the next row.
        let steps = [
            step,
            (Self::ROW_STEP * row_stride * pitch).wrapping_sub((columns - 1) * step),
        ];
        let target_steps = [
            channels,
            (Self::ROW_STEP * output_pitch).wrapping_sub((columns - 1) * channels),
        ];
        let mut x = self.first % columns;
        let mut y = band.rows.start + self.first / columns * Self::ROW_STEP;
        let mut at = (y * row_stride)
            .wrapping_sub(top)
            .wrapping_mul(pitch)
            .wrapping_add(self.gemm.first + x * step);
        let mut target = y * output_pitch + x * channels;
        let input = self.gemm.input.as_ptr();
        let output = self.gemm.output.as_mut_ptr();
        for _ in 0..self.count {
            let mut lines = [std::ptr::null(); MR];
            let mut rows = [0; MR];
            let mut targets = [0; MR];
            for p in 0..MR {
                lines[p] = input.wrapping_add(at);
                rows[p] = y * row_stride;
                targets[p] = target;
                let ends = usize::from(x + 1 == columns);
                at = at.wrapping_add(steps[ends]);
                target = target.wrapping_add(target_steps[ends]);
                y += ends * Self::ROW_STEP;
                x = (x + 1) * (1 - ends);
            }
            let mut sums = [[V::zero(); MR]; ACCS];
            for s in 0..ACCS {
                sums[s] = [V::load(&packed.bias[self.block_of(s)]); MR];
            }
            if self.gemm.init == Init::Accumulate {
                for s in 0..ACCS {
                    for p in 0..MR {
                        sums[s][p] = load(&self.gemm.output[targets[p] + behind[s]..][..lanes[s]]);
                    }
                }
            }
            for row in band.reads.clone() {
                let shift = row * row_dilation * pitch;
                let mut row_lines = lines;
                if band.needs_padding {
                    let mut any = false;
                    for p in 0..MR {
                        let row = rows[p] + row * row_dilation;
                        if row >= top && row < top + rows_in {
                            any = true;
                        } else {
                            row_lines[p] = self.gemm.zeros.as_ptr().wrapping_sub(shift);
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
                        let weights = weights.map(|w| w.add(row * row_terms));
                        add_row(kernel_row, &row_lines, shift, weights, &mut sums);
                        continue;
                    }
                    // The lower pixel reads this input row with the preceding kernel row.
                    let [upper, lower] = [row, row.wrapping_sub(1)]
                        .map(|ky| weights[0].wrapping_add(ky.wrapping_mul(row_terms)));
                    if row == 0 {
                        let sums = std::array::from_mut(&mut sums[0]);
                        add_row(kernel_row, &row_lines, shift, [upper], sums);
                    } else if row == kernel_rows {
                        let sums = std::array::from_mut(&mut sums[ACCS - 1]);
                        add_row(kernel_row, &row_lines, shift, [lower], sums);
                    } else {
                        let weights = std::array::from_fn(|s| if s == 0 { upper } else { lower });
                        add_row(kernel_row, &row_lines, shift, weights, &mut sums);
                    }
                }
            }
            self.gemm
                .epilogue
                .apply(&mut sums, std::array::from_fn(|s| self.block_of(s)));
            for s in 0..ACCS {
                for p in 0..MR {
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
unsafe fn add_row<V: Lanes, const MR: usize, const ACCS: usize>(
    kernel_row: &KernelRow,
    lines: &[*const f32; MR],
    shift: usize,
    weights: [*const Block; ACCS],
    sums: &mut [[V; MR]; ACCS],
) {
    for column in kernel_row.columns.clone() {
        let mut at = shift + (column - kernel_row.columns.start) * kernel_row.column_step;
        let mut from = kernel_row.terms.start;
        while from < kernel_row.terms.end {
            let to = ((from / K_BLOCK + 1) * K_BLOCK).min(kernel_row.terms.end);
            // Offset by `at`, so that one index serves inputs and weights.
            let weights = weights.map(|w| {
                w.wrapping_add(column * kernel_row.run + from)
                    .wrapping_sub(at)
            });
            let mut partial = [[V::zero(); MR]; ACCS];
            macro_rules! add_term {
                ($t:expr) => {
                    // SAFETY: `to - from` weights and inputs are in bounds, guaranteed by the
                    // caller.
                    unsafe {
                        let mut w = [V::zero(); ACCS];
                        for s in 0..ACCS {
                            w[s] = V::load(&*weights[s].wrapping_add($t).cast());
                        }
                        for p in 0..MR {
                            let x = *lines[p].wrapping_add($t);
                            for s in 0..ACCS {
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
            for s in 0..ACCS {
                for p in 0..MR {
                    sums[s][p] = sums[s][p].add(partial[s][p]);
                }
            }
            from = to;
        }
    }
}
