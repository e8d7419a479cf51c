//! Convolution of single-channel images, such as a network's first layer. The inputs of one kernel
//! row are too short for vectors, so neighbouring pixels share a vector.

use std::ops::Range;

use strip::Strip;

use super::gemm::{Epilogue, K_BLOCK, MaxMr, Packed, TWO_BLOCK_MR};
use crate::simd::lanes::{HALF, LANES, Lanes};
use crate::simd::{Isa, Kernel};

mod strip;

/// Kernel width up to which narrow instruction sets sum one vector after the other: the sums are
/// short.
const NARROW_KERNEL: usize = 3;

/// Output rows per filling of the line buffer: even, and small enough for the L1 cache.
const ROW_TILE: usize = 32;

/// Rows `rows` of the output before pooling and its first `width` columns, with strides and
/// dilations of 1. The order of summation is that of [`Gemm`](super::gemm::Gemm): one K block per
/// kernel row.
pub(super) struct SingleChannelConv<'a> {
    /// Rows of `pitch` elements.
    pub input: &'a [f32],
    pub pitch: usize,
    /// Rows of zero padding above and columns of zero padding to the left.
    pub top: usize,
    pub left: usize,
    pub kernel: [usize; 2],
    pub rows: Range<usize>,
    pub width: usize,
    /// Line buffer: input rows with their zero padding.
    pub lines: &'a mut [f32],
    pub packed: &'a Packed,
    pub epilogue: &'a Epilogue,
    /// True to max-pool 2 x 2; rows and columns are then even in number.
    pub pooled: bool,
    /// `[rows, width, channels]`, or half as many rows and columns if pooled.
    pub output: &'a mut [f32],
}

impl SingleChannelConv<'_> {
    /// Returns true if each kernel row fits one K block and the line buffer stays small.
    pub fn supports(kernel: [usize; 2], width: usize) -> bool {
        kernel[0].max(kernel[1]) <= K_BLOCK && width <= 4096
    }

    /// Returns the elements of the line buffer.
    pub fn lines(kernel: [usize; 2], width: usize) -> usize {
        Self::held(kernel) * Self::line(kernel, width)
    }

    /// Returns the lines read by [`ROW_TILE`] output rows.
    fn held([kh, _]: [usize; 2]) -> usize {
        ROW_TILE + kh - 1
    }

    /// Returns the elements of a line, which covers an even number of columns.
    fn line([_, kw]: [usize; 2], width: usize) -> usize {
        width.next_multiple_of(2) + kw - 1
    }

    pub fn compute(mut self, isa: Isa) {
        // One vector holds a block of one pixel's channels, or half a block of two pixels'
        // channels.
        let two_blocks = isa.dispatch(MaxMr) >= TWO_BLOCK_MR;
        let whole = two_blocks && self.packed.n > HALF;
        let (blocks, most) = match (whole, two_blocks) {
            (true, _) => (self.packed.n.div_ceil(LANES), 3),
            (false, true) => (self.packed.n.div_ceil(HALF), 6),
            (false, false) if self.kernel[1] == NARROW_KERNEL => (self.packed.n.div_ceil(HALF), 2),
            (false, false) => (self.packed.n.div_ceil(HALF), 3),
        };
        let pairs = self.width.div_ceil(2);
        let tiles = pairs.div_ceil(most).max(1);
        // Tiles of nearly equal size, the larger ones first.
        let large = pairs % tiles;
        let parts = [
            (pairs.div_ceil(tiles), large),
            (pairs / tiles, tiles - large),
        ];
        for from in self.rows.clone().step_by(ROW_TILE) {
            let rows = from..self.rows.end.min(from + ROW_TILE);
            isa.dispatch(Fill {
                conv: &mut self,
                from,
                count: rows.len().next_multiple_of(2),
            });
            for block in 0..blocks {
                let mut from = 0;
                for (size, tiles) in parts {
                    let to = from + size * tiles;
                    let conv = &mut self;
                    let (rows, pairs) = (rows.clone(), from..to);
                    macro_rules! of_size {
                        ($($whole:literal $pairs:literal $vectors:literal,)*) => {
                            match (whole, size) {
                                _ if tiles == 0 => {}
                                $(($whole, $pairs) => {
                                    isa.dispatch(Strip::<$whole, $pairs, $vectors> {
                                        conv, block, rows, pairs,
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
}

/// Fills the line buffer with the inputs of `count` output rows from row `from` on.
struct Fill<'r, 'a> {
    conv: &'r mut SingleChannelConv<'a>,
    from: usize,
    count: usize,
}

impl Kernel for Fill<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        let SingleChannelConv {
            input,
            pitch,
            top,
            left,
            kernel,
            width,
            ..
        } = *self.conv;
        let size = SingleChannelConv::line(kernel, width);
        let lines = self.conv.lines.chunks_exact_mut(size);
        for (line, row) in lines.take(self.count + kernel[0] - 1).zip(self.from..) {
            let source = match row.checked_sub(top).map(|row| row * pitch) {
                Some(at) if at < input.len() => &input[at..][..pitch.min(size - left)],
                _ => &[],
            };
            line[..left].fill(0.0);
            line[left + source.len()..].fill(0.0);
            // Copied in short chunks: the rows are too short for a call of `memcpy`.
            let (from, from_last) = source.as_chunks::<HALF>();
            let (to, to_last) = line[left..][..source.len()].as_chunks_mut::<HALF>();
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
            for (to, from) in to_last.iter_mut().zip(from_last) {
                *to = *from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::WeightId;
    use crate::nn::cpu::conv::{ConvEpilogue, ConvPlan};
    use crate::nn::cpu::gemm::Affine;
    use crate::nn::cpu::pool::max_pool_rows;
    use crate::nn::layers::{Activation, Conv, Padding};

    fn number(i: usize) -> f32 {
        ((i as u64 * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0
    }

    /// With positive scales and a preceding ReLU, the kernel pools before the remaining epilogue.
    #[test]
    fn pooling_first_gives_the_bits_of_pooling_last() {
        let (height, width) = (12, 10);
        let conv = Conv {
            kernel: WeightId(0),
            bias: None,
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Linear,
        };
        let mut image: Vec<f32> = (0..height * width).map(number).collect();
        for (at, special) in [(3, f32::NAN), (47, f32::INFINITY), (90, f32::NEG_INFINITY)] {
            image[at] = special;
        }
        let scales: [fn(usize) -> f32; 4] = [
            |c| number(c + 3).abs() + 0.1,
            |c| number(c + 3),
            |c| (c % 2) as f32,
            |_| f32::INFINITY,
        ];
        for (side, channels) in [(3, 16), (5, 8), (3, 20), (4, 5)] {
            let weights: Vec<f32> = (0..side * side * channels).map(|i| number(i + 7)).collect();
            let packed = Packed::new(&weights, channels, Some(&weights[..channels]));
            let shape = [side, side, 1, channels];
            let plan = ConvPlan::new(&conv, &shape, &[height, width, 1]);
            let shifts = [number, |_| -0.0, |_| f32::NAN];
            let affines = scales.into_iter().flat_map(|scale| {
                shifts.map(|shift: fn(usize) -> f32| {
                    let [scale, shift] = [scale, shift].map(|of| (0..channels).map(of).collect());
                    let (scale, shift): (Vec<f32>, Vec<f32>) = (scale, shift);
                    Some(Affine::new(&scale, &shift))
                })
            });
            for (n, affine) in affines.chain([None]).enumerate() {
                for relus in 0..4 {
                    let epilogue = Epilogue {
                        relu: relus & 1 != 0,
                        affine: affine.clone(),
                        relu_last: relus & 2 != 0,
                    };
                    let run = |isa, pool| {
                        let epilogue = epilogue.clone();
                        let epilogue = ConvEpilogue {
                            pointwise: epilogue,
                            pool,
                        };
                        let shrink = if pool.is_some() { 4 } else { 1 };
                        let mut scratch = vec![0.0; plan.scratch(channels, &epilogue)];
                        let mut out = vec![7.0; height * width * channels / shrink];
                        plan.run(isa, &image, &packed, &epilogue, &mut out, &mut scratch);
                        out
                    };
                    for isa in Isa::available() {
                        let whole = run(isa, None);
                        let mut wanted = vec![7.0; whole.len() / 4];
                        max_pool_rows(isa, [2, 2], width, channels, &whole, &mut wanted);
                        let bits =
                            |x: Vec<f32>| -> Vec<u32> { x.into_iter().map(f32::to_bits).collect() };
                        let name = isa.name();
                        let got = run(isa, Some([2, 2]));
                        assert_eq!(
                            bits(got),
                            bits(wanted),
                            "{name}: {side} {channels} {n} {relus}"
                        );
                    }
                }
            }
        }
    }
}
