//! Convolution of maps whose channels are scaled first, for many scales of the same maps.
//!
//! A convolution is linear in each channel's scale: `bias + sum over c of scale[c] * part[c]`, where
//! `part[c]` is what channel `c` alone gives. The parts are computed once for a few neighbouring
//! pixels, while they stay in the first-level cache, and used for every row of scales. One row of
//! scales is computed in the same way, so that it does not matter how many there are.

use std::sync::Arc;

use super::isa::{Isa, Kernel};
use super::lanes::{LANES, Lanes};
use super::pool::PoolPlan;
use crate::nn::layer::{Conv, Padding};
use crate::nn::shape::{conv_kernel, extent, window};

/// Pixels whose parts are held at once.
const TILE: usize = 4;

/// A kernel packed as `[output channel block][input channel][tap][lane]`, its bias as
/// `[output channel block][lane]`; the lanes past the last channel hold zeros.
#[derive(Debug)]
pub(crate) struct ScaledWeights {
    channels: usize,
    weights: Vec<[f32; LANES]>,
    bias: Vec<[f32; LANES]>,
}

impl ScaledWeights {
    /// For a kernel `[.., input channels, output channels]`.
    pub fn new(kernel: &[f32], shape: &[usize], bias: Option<&[f32]>) -> Self {
        let [height, width, inputs, channels] = conv_kernel(shape).expect("validated kernel");
        let taps = height * width;
        let blocks = channels.div_ceil(LANES);
        let mut weights = vec![[0.0; LANES]; blocks * inputs * taps];
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

/// One number per channel in blocks of lanes, zeros at the end.
fn blocks_of(channels: &[f32]) -> Vec<[f32; LANES]> {
    let block = |part: &[f32]| {
        let mut lanes = [0.0; LANES];
        lanes[..part.len()].copy_from_slice(part);
        lanes
    };
    channels.chunks(LANES).map(block).collect()
}

/// Such a convolution with everything that does not depend on the data, and what follows it.
#[derive(Debug, Clone)]
pub(crate) struct ScaledConv {
    input: [usize; 3],
    /// Rows and columns of the zero-padded copy.
    padded: [usize; 2],
    before: [usize; 2],
    strides: [usize; 2],
    /// Where each tap's first channel is in the padded copy, from its pixel's first.
    taps: Vec<usize>,
    /// Rows and columns before pooling.
    output: [usize; 2],
    weights: Arc<ScaledWeights>,
    relu: bool,
    /// Scale and shift after that, in blocks.
    affine: Option<[Vec<[f32; LANES]>; 2]>,
    /// Rows and columns of which the largest is taken at last; they do not overlap.
    pool: Option<[usize; 2]>,
}

impl ScaledConv {
    /// For a validated layer, its kernel's shape and its input's (one- or two-dimensional).
    pub fn new(
        conv: &Conv,
        kernel: &[usize],
        input: &[usize],
        weights: Arc<ScaledWeights>,
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

    /// Also takes the larger of each result and 0, if nothing else follows yet.
    pub fn fuse_relu(&mut self) -> bool {
        let fits = !self.relu && self.affine.is_none() && self.pool.is_none();
        self.relu |= fits;
        fits
    }

    /// Also scales and shifts each channel, if nothing but the larger of it and 0 follows yet.
    pub fn fuse_affine(&mut self, scale: &[f32], shift: &[f32]) -> bool {
        let fits =
            self.affine.is_none() && self.pool.is_none() && scale.len() == self.weights.channels;
        if fits {
            self.affine = Some([blocks_of(scale), blocks_of(shift)]);
        }
        fits
    }

    /// Also pools, if it is pooling that this can do.
    pub fn fuse_pool(&mut self, pool: &PoolPlan) -> bool {
        let size = pool.plain_max().filter(|s| s[0] * s[1] <= TILE);
        let [rows, columns] = self.output;
        let fits = self.pool.is_none()
            && size.is_some()
            && pool.input() == [rows, columns, self.weights.channels];
        if fits {
            self.pool = size;
        }
        fits
    }

    /// Numbers of scratch needed.
    pub fn scratch(&self) -> usize {
        (self.padded[0] * self.padded[1] + TILE * LANES) * self.input[2]
    }

    /// Convolves each of the maps with each of the rows of `scales` that belong to it: as many
    /// for each, one after the other.
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
        let (source, parts) = scratch.split_at_mut(self.padded[0] * line);
        source.fill(0.0);
        let each = scales.len() / rows;
        let outputs = output.chunks_exact_mut(output.len() / rows);
        let maps = maps.chunks_exact(height * width * channels);
        for ((map, scales), output) in maps.zip(scales.chunks_exact(each)).zip(outputs) {
            for (y, row) in map.chunks_exact(width * channels).enumerate() {
                let at = (y + self.before[0]) * line + self.before[1] * channels;
                source[at..at + row.len()].copy_from_slice(row);
            }
            isa.dispatch(Run {
                plan: self,
                source,
                scales,
                parts: parts.as_chunks_mut().0,
                output,
            });
        }
    }
}

/// One map with its scales.
struct Run<'a> {
    plan: &'a ScaledConv,
    source: &'a [f32],
    scales: &'a [f32],
    /// `[pixel of the tile][input channel]`
    parts: &'a mut [[f32; LANES]],
    output: &'a mut [f32],
}

/// Where the results of a tile go.
#[derive(Clone, Copy)]
struct Place {
    block: usize,
    /// The first pixel after pooling, and how many pixels before.
    pixel: usize,
    pixels: usize,
}

impl Kernel for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const PIXELS: usize>(mut self) {
        let plan = self.plan;
        let [rows, columns] = plan.output;
        for block in 0..plan.weights.bias.len() {
            match plan.pool {
                Some([high, wide]) => {
                    let (rows, columns) = (rows / high, columns / wide);
                    for pixel in 0..rows * columns {
                        let (y, x) = (pixel / columns * high, pixel % columns * wide);
                        let place = Place {
                            block,
                            pixel,
                            pixels: high * wide,
                        };
                        self.tile::<V, PIXELS>(place, |i| (y + i / wide, x + i % wide));
                    }
                }
                None => {
                    for pixel in (0..rows * columns).step_by(TILE) {
                        let place = Place {
                            block,
                            pixel,
                            pixels: TILE.min(rows * columns - pixel),
                        };
                        self.tile::<V, PIXELS>(place, |i| {
                            ((pixel + i) / columns, (pixel + i) % columns)
                        });
                    }
                }
            }
        }
    }
}

impl Run<'_> {
    /// All rows of scales for the pixels `at(0)`, `at(1)`..., those past the last one repeat it.
    #[inline(always)]
    fn tile<V: Lanes, const PIXELS: usize>(
        &mut self,
        place: Place,
        at: impl Fn(usize) -> (usize, usize),
    ) {
        let plan = self.plan;
        let channels = plan.input[2];
        let origins: [usize; TILE] = std::array::from_fn(|i| {
            let (y, x) = at(i.min(place.pixels - 1));
            (y * plan.strides[0] * plan.padded[1] + x * plan.strides[1]) * channels
        });
        self.fill_parts::<V>(place.block, &origins);
        let rows = self.scales.len() / channels;
        // As many sums at once as there are registers for.
        let most = if PIXELS >= 12 { 6 } else { 1 };
        let groups = rows.div_ceil(most);
        let mut first = 0;
        for group in 0..groups {
            let end = rows * (group + 1) / groups;
            match end - first {
                1 => self.apply::<V, 1>(place, first),
                2 if most > 1 => self.apply::<V, 2>(place, first),
                3 if most > 1 => self.apply::<V, 3>(place, first),
                4 if most > 1 => self.apply::<V, 4>(place, first),
                5 if most > 1 => self.apply::<V, 5>(place, first),
                6 if most > 1 => self.apply::<V, 6>(place, first),
                _ => unreachable!("a group has at most `most` rows"),
            }
            first = end;
        }
    }

    /// What each input channel alone gives at each of the pixels.
    #[inline(always)]
    fn fill_parts<V: Lanes>(&mut self, block: usize, origins: &[usize; TILE]) {
        let plan = self.plan;
        let (channels, taps) = (plan.input[2], &plan.taps[..]);
        let weights = &plan.weights.weights[block * channels * taps.len()..];
        for (c, weights) in weights.chunks_exact(taps.len()).take(channels).enumerate() {
            let mut sums = [V::zero(); TILE];
            for (w, &tap) in weights.iter().zip(taps) {
                let w = V::load(w);
                for (sum, origin) in sums.iter_mut().zip(origins) {
                    *sum = w.mul_add(self.source[origin + tap + c], *sum);
                }
            }
            for (pixel, sum) in sums.into_iter().enumerate() {
                sum.store(&mut self.parts[pixel * channels + c]);
            }
        }
    }

    /// The results for `N` rows of scales from `first` on.
    #[inline(always)]
    fn apply<V: Lanes, const N: usize>(&mut self, place: Place, first: usize) {
        let plan = self.plan;
        let inputs = plan.input[2];
        let scales: [&[f32]; N] =
            std::array::from_fn(|n| &self.scales[(first + n) * inputs..][..inputs]);
        let parts: [&[[f32; LANES]]; TILE] =
            std::array::from_fn(|i| &self.parts[i * inputs..][..inputs]);
        let mut sums = [[V::load(&plan.weights.bias[place.block]); N]; TILE];
        for c in 0..inputs {
            let factors: [f32; N] = std::array::from_fn(|n| scales[n][c]);
            for (sums, parts) in sums.iter_mut().zip(&parts) {
                let part = V::load(&parts[c]);
                for (sum, &factor) in sums.iter_mut().zip(&factors) {
                    *sum = part.mul_add(factor, *sum);
                }
            }
        }
        let channels = plan.weights.channels;
        let row = self.output.len() / (self.scales.len() / inputs);
        for n in 0..N {
            let at = (first + n) * row + place.pixel * channels + place.block * LANES;
            let mut largest = [f32::NEG_INFINITY; LANES];
            for (i, sums) in sums.iter().enumerate().take(place.pixels) {
                let lanes = plan.finish(sums[n], place.block);
                if plan.pool.is_none() {
                    self.put(at + i * channels, place.block, &lanes);
                }
                for (largest, x) in largest.iter_mut().zip(lanes) {
                    *largest = if x > *largest { x } else { *largest };
                }
            }
            if plan.pool.is_some() {
                self.put(at, place.block, &largest);
            }
        }
    }

    #[inline(always)]
    fn put(&mut self, at: usize, block: usize, lanes: &[f32; LANES]) {
        let left = self.plan.weights.channels - block * LANES;
        if left >= LANES {
            self.output[at..at + LANES].copy_from_slice(lanes);
        } else {
            self.output[at..at + left].copy_from_slice(&lanes[..left]);
        }
    }
}

impl ScaledConv {
    /// What becomes of a sum before pooling.
    #[inline(always)]
    fn finish<V: Lanes>(&self, sum: V, block: usize) -> [f32; LANES] {
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
