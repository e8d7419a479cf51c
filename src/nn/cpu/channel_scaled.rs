//! Convolution of channel-scaled maps, for several scale vectors on the same maps.
//!
//! A convolution is linear in each channel's scale: `bias + sum over c of scale[c] * partial[c]`,
//! where `partial[c]` is the convolution of channel `c` alone. The partials of a few neighbouring
//! pixels are computed once, stay in the L1 cache, and serve every scale vector. A single scale
//! vector uses the same order of summation, so the results do not depend on their number.

use std::sync::Arc;

use run::MapRun;

use super::packed::Block;
use super::pool::PoolPlan;
use crate::nn::layers::conv_kernel;
use crate::nn::layers::windows::{extent, window};
use crate::nn::layers::{Conv, Padding};
use crate::simd::Isa;
use crate::simd::lanes::{LANES, Lanes};

mod run;

/// Pixels per tile of partials.
const TILE: usize = 4;

/// Pixels and channel blocks per tile for a single scale vector, whose partials stay in registers.
const SINGLE_TILE: [usize; 2] = [8, 2];

/// A kernel packed as `[output channel block][input channel][tap][lane]` with its bias as `[output
/// channel block][lane]`. Lanes past the last channel hold zeros.
#[derive(Debug)]
pub(crate) struct ChannelScaledWeights {
    channels: usize,
    weights: Vec<Block>,
    bias: Vec<[f32; LANES]>,
}

impl ChannelScaledWeights {
    /// Packs a kernel `[.., input channels, output channels]`.
    pub fn new(kernel: &[f32], shape: &[usize], bias: Option<&[f32]>) -> Self {
        let [height, width, inputs, channels] = conv_kernel(shape).expect("validated kernel");
        let taps = height * width;
        let blocks = channels.div_ceil(LANES);
        let mut weights = vec![Block::ZERO; blocks * inputs * taps];
        for (row, values) in kernel.chunks_exact(channels).enumerate() {
            let (tap, input) = (row / inputs, row % inputs);
            for (block, part) in values.chunks(LANES).enumerate() {
                let at = (block * inputs + input) * taps + tap;
                weights[at][..part.len()].copy_from_slice(part);
            }
        }
        Self {
            channels,
            weights,
            bias: match bias {
                Some(bias) => blocks_of(bias),
                None => vec![[0.0; LANES]; blocks],
            },
        }
    }
}

/// Packs one element per channel into blocks of lanes, padded with zeros.
fn blocks_of(channels: &[f32]) -> Vec<[f32; LANES]> {
    let block = |part: &[f32]| {
        let mut lanes = [0.0; LANES];
        lanes[..part.len()].copy_from_slice(part);
        lanes
    };
    channels.chunks(LANES).map(block).collect()
}

/// A channel-scaled convolution with its epilogue and everything that does not depend on the data.
#[derive(Debug, Clone)]
pub(crate) struct ChannelScaledConv {
    input: [usize; 3],
    /// Rows and columns of the zero-padded copy.
    padded: [usize; 2],
    before: [usize; 2],
    strides: [usize; 2],
    /// Offset of each tap's first channel in the padded copy, relative to its pixel.
    taps: Vec<usize>,
    /// Rows and columns before pooling.
    output: [usize; 2],
    weights: Arc<ChannelScaledWeights>,
    relu: bool,
    /// Scale and shift applied after the ReLU, in blocks of lanes.
    affine: Option<[Vec<[f32; LANES]>; 2]>,
    /// Size of non-overlapping max-pooling windows, applied last.
    pool: Option<[usize; 2]>,
}

impl ChannelScaledConv {
    /// Plans a validated layer; `kernel` and `input` are its shapes (one- or two-dimensional).
    pub fn new(
        conv: &Conv,
        kernel: &[usize],
        input: &[usize],
        weights: Arc<ChannelScaledWeights>,
    ) -> Self {
        let [kh, kw, channels, _] = conv_kernel(kernel).expect("validated kernel");
        let (height, width) = match *input {
            [time, _] => (time, 1),
            [height, width, _] => (height, width),
            _ => unreachable!("validated input"),
        };
        let size = [height, width];
        let mut plan = Self {
            input: [height, width, channels],
            padded: size,
            before: [0; 2],
            strides: conv.strides,
            taps: Vec::new(),
            output: [0; 2],
            weights,
            relu: false,
            affine: None,
            pool: None,
        };
        for (axis, taps) in [kh, kw].into_iter().enumerate() {
            let span = extent(taps, conv.dilation[axis]);
            let padding = match conv.padding {
                Padding::Causal if axis == 1 => Padding::Valid,
                other => other,
            };
            let (length, before) =
                window(size[axis], span, conv.strides[axis], padding).expect("validated shape");
            plan.output[axis] = length;
            plan.before[axis] = before;
            plan.padded[axis] = ((length - 1) * conv.strides[axis] + span).max(before + size[axis]);
        }
        let tap = |y: usize, x: usize| {
            (y * conv.dilation[0] * plan.padded[1] + x * conv.dilation[1]) * channels
        };
        plan.taps = (0..kh * kw).map(|t| tap(t / kw, t % kw)).collect();
        plan
    }

    /// Tries to fuse a ReLU, which must be the first operation of the epilogue.
    pub fn fuse_relu(&mut self) -> bool {
        let fits = !self.relu && self.affine.is_none() && self.pool.is_none();
        self.relu |= fits;
        fits
    }

    /// Tries to fuse a scale and a shift per channel, which only a ReLU may precede.
    pub fn fuse_affine(&mut self, scale: &[f32], shift: &[f32]) -> bool {
        let fits =
            self.affine.is_none() && self.pool.is_none() && scale.len() == self.weights.channels;
        if fits {
            self.affine = Some([blocks_of(scale), blocks_of(shift)]);
        }
        fits
    }

    /// Tries to fuse max pooling without overlap or padding.
    pub fn fuse_pool(&mut self, pool: &PoolPlan) -> bool {
        let size = pool.non_overlapping_max().filter(|s| s[0] * s[1] <= TILE);
        let [rows, columns] = self.output;
        let fits = self.pool.is_none()
            && size.is_some()
            && pool.input() == [rows, columns, self.weights.channels];
        if fits {
            self.pool = size;
        }
        fits
    }

    /// Returns the scratch elements needed.
    pub fn scratch(&self) -> usize {
        let partials = (TILE * self.input[2]).max(SINGLE_TILE[0] * SINGLE_TILE[1]);
        self.padded[0] * self.padded[1] * self.input[2] + partials * LANES
    }

    /// Convolves each map with each of its scale vectors: `scales` holds the same number of vectors
    /// for every map, one map after the other.
    pub fn run(
        &self,
        isa: Isa,
        maps: &[f32],
        scales: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [height, width, channels] = self.input;
        let rows = maps.len() / (height * width * channels);
        let line = self.padded[1] * channels;
        let (source, partials) = scratch.split_at_mut(self.padded[0] * line);
        source.fill(0.0);
        let each = scales.len() / rows;
        let outputs = output.chunks_exact_mut(output.len() / rows);
        let maps = maps.chunks_exact(height * width * channels);
        for ((map, scales), output) in maps.zip(scales.chunks_exact(each)).zip(outputs) {
            for (y, row) in map.chunks_exact(width * channels).enumerate() {
                let at = (y + self.before[0]) * line + self.before[1] * channels;
                source[at..at + row.len()].copy_from_slice(row);
            }
            MapRun {
                plan: self,
                source,
                scales,
                partials: partials.as_chunks_mut().0,
                output,
            }
            .compute(isa);
        }
    }

    /// Returns rows and columns after pooling.
    fn windows(&self) -> [usize; 2] {
        let [high, wide] = self.pool.unwrap_or([1, 1]);
        [self.output[0] / high, self.output[1] / wide]
    }

    /// Returns the pixels per pooling window.
    fn each(&self) -> usize {
        self.pool.map_or(1, |[high, wide]| high * wide)
    }

    /// Returns the offsets in the padded copy of the inputs of `N` pixels, those of the windows
    /// from `first` on. Past the end the last window is repeated.
    fn origins<const N: usize>(&self, first: usize) -> [usize; N] {
        let [_, wide] = self.pool.unwrap_or([1, 1]);
        let ([rows, columns], each) = (self.windows(), self.each());
        std::array::from_fn(|i| {
            let window = (first + i / each).min(rows * columns - 1);
            let y = window / columns * (each / wide) + i % each / wide;
            let x = window % columns * wide + i % each % wide;
            (y * self.strides[0] * self.padded[1] + x * self.strides[1]) * self.input[2]
        })
    }

    /// Applies the epilogue, without pooling, to an accumulator.
    #[inline(always)]
    fn apply_epilogue<V: Lanes>(&self, sum: V, block: usize) -> [f32; LANES] {
        let sum = if self.relu { sum.relu() } else { sum };
        let sum = match &self.affine {
            Some([scale, shift]) => {
                sum.mul_add_lanes(V::load(&scale[block]), V::load(&shift[block]))
            }
            None => sum,
        };
        let mut lanes = [0.0; LANES];
        sum.store(&mut lanes);
        lanes
    }
}
