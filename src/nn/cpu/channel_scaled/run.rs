//! Kernels of [`ChannelScaledConv`].

use super::super::gemm::{MaxMr, TWO_BLOCK_MR};
use super::super::packed::{Block, store};
use super::{ChannelScaledConv, SINGLE_TILE, TILE};
use crate::simd::lanes::{LANES, Lanes};
use crate::simd::{Isa, Kernel};

/// One map with its scale vectors.
pub(super) struct MapRun<'a> {
    pub plan: &'a ChannelScaledConv,
    pub source: &'a [f32],
    pub scales: &'a [f32],
    /// Partials `[input channel][pixel of the tile]`, or results before pooling for a single scale
    /// vector.
    pub partials: &'a mut [[f32; LANES]],
    pub output: &'a mut [f32],
}

impl MapRun<'_> {
    pub fn compute(mut self, isa: Isa) {
        let blocks = self.plan.weights.bias.len();
        let two_blocks = isa.dispatch(MaxMr) >= TWO_BLOCK_MR;
        if self.scales.len() > self.plan.input[2] {
            for block in 0..blocks {
                self.all_scales(isa, if two_blocks { 6 } else { 1 }, block);
            }
            return;
        }
        let run = &mut self;
        let mut block = 0;
        while block < blocks {
            match two_blocks {
                true if block + 1 < blocks => {
                    isa.dispatch(SingleScale::<{ SINGLE_TILE[0] }, { SINGLE_TILE[1] }> {
                        run,
                        block,
                    });
                    block += 1;
                }
                true => isa.dispatch(SingleScale::<{ SINGLE_TILE[0] }, 1> { run, block }),
                false => isa.dispatch(SingleScale::<TILE, 1> { run, block }),
            }
            block += 1;
        }
    }

    /// Computes a channel block for every scale vector, at most `most` at a time.
    fn all_scales(&mut self, isa: Isa, most: usize, block: usize) {
        let windows = self.plan.windows().iter().product();
        let rows = self.scales.len() / self.plan.input[2];
        let groups = rows.div_ceil(most);
        for window in (0..windows).step_by(TILE / self.plan.each()) {
            let origins = self.plan.origins(window);
            let run = &mut *self;
            isa.dispatch(Partials {
                run,
                block,
                origins,
            });
            let mut first = 0;
            for group in 0..groups {
                let end = rows * (group + 1) / groups;
                let run = &mut *self;
                macro_rules! of_size {
                    ($($n:literal)*) => {
                        match end - first {
                            $($n => isa.dispatch(ApplyScales::<$n> { run, block, window, first }),)*
                            _ => unreachable!("no group has more than six rows"),
                        }
                    };
                }
                of_size!(1 2 3 4 5 6);
                first = end;
            }
        }
    }

    /// Pools the results of the windows from `window` on and stores them in the output of one scale
    /// vector.
    #[inline(always)]
    fn put<V: Lanes>(
        output: &mut [f32],
        plan: &ChannelScaledConv,
        results: &[[f32; LANES]],
        block: usize,
        window: usize,
    ) {
        let channels = plan.weights.channels;
        let each = plan.each();
        let lanes = LANES.min(channels - block * LANES);
        let outputs = output.chunks_exact_mut(channels).skip(window);
        for (pixels, output) in results.chunks_exact(each).zip(outputs) {
            let mut most = V::load(&pixels[0]);
            if plan.pool.is_some() {
                most = most.max(V::splat(f32::NEG_INFINITY));
            }
            for pixel in &pixels[1..] {
                most = V::load(pixel).max(most);
            }
            store(most, &mut output[block * LANES..][..lanes]);
        }
    }
}

/// Single scale vector: `BLOCKS` channel blocks from `block` on, `N` pixels at a time.
struct SingleScale<'r, 'a, const N: usize, const BLOCKS: usize> {
    run: &'r mut MapRun<'a>,
    block: usize,
}

impl<const N: usize, const BLOCKS: usize> Kernel for SingleScale<'_, '_, N, BLOCKS> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        if const { N > TILE && MAX_MR < TWO_BLOCK_MR } {
            return;
        }
        let MapRun {
            plan,
            source,
            scales,
            partials,
            output,
        } = self.run;
        let windows: usize = plan.windows().iter().product();
        for window in (0..windows).step_by(N / plan.each()) {
            let origins: [usize; N] = plan.origins(window);
            sum_single_scale::<V, N, BLOCKS>(plan, source, scales, partials, self.block, &origins);
            for b in 0..BLOCKS {
                let results = &partials[b * N..][..N];
                MapRun::put::<V>(output, plan, results, self.block + b, window);
            }
        }
    }
}

/// Computes the results, before pooling, of `N` pixels and `BLOCKS` channel blocks.
#[inline(always)]
fn sum_single_scale<V: Lanes, const N: usize, const BLOCKS: usize>(
    plan: &ChannelScaledConv,
    source: &[f32],
    scales: &[f32],
    results: &mut [[f32; LANES]],
    block: usize,
    origins: &[usize; N],
) {
    let (channels, taps) = (plan.input[2], &plan.taps[..]);
    let size = channels * taps.len();
    let weights: [&[Block]; BLOCKS] =
        std::array::from_fn(|b| &plan.weights.weights[(block + b) * size..][..size]);
    let lines = lines(plan, source, origins);
    let mut sums: [[V; N]; BLOCKS] =
        std::array::from_fn(|b| [V::load(&plan.weights.bias[block + b]); N]);
    for (c, &scale) in scales.iter().enumerate().take(channels) {
        let mut partials = [[V::zero(); N]; BLOCKS];
        for (t, &tap) in taps.iter().enumerate() {
            // SAFETY: a block has `size` weights, and every tap of every channel lies behind each
            // line.
            unsafe {
                let w: [V; BLOCKS] =
                    std::array::from_fn(|b| V::load(weights[b].get_unchecked(c * taps.len() + t)));
                for i in 0..N {
                    let x = *lines[i].add(tap + c);
                    for b in 0..BLOCKS {
                        partials[b][i] = w[b].mul_add(x, partials[b][i]);
                    }
                }
            }
        }
        for b in 0..BLOCKS {
            for i in 0..N {
                sums[b][i] = partials[b][i].mul_add(scale, sums[b][i]);
            }
        }
    }
    for b in 0..BLOCKS {
        for i in 0..N {
            results[b * N + i] = plan.apply_epilogue(sums[b][i], block + b);
        }
    }
}

/// Returns the addresses of the pixels' inputs; every tap of every channel is readable behind them.
#[inline(always)]
fn lines<const N: usize>(
    plan: &ChannelScaledConv,
    source: &[f32],
    origins: &[usize; N],
) -> [*const f32; N] {
    let reach = plan.taps.iter().max().unwrap_or(&0) + plan.input[2];
    std::array::from_fn(|i| source[origins[i]..][..reach].as_ptr())
}

/// Computes the partials of a tile: each input channel's convolution at each pixel.
struct Partials<'r, 'a> {
    run: &'r mut MapRun<'a>,
    block: usize,
    origins: [usize; TILE],
}

impl Kernel for Partials<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        if const { MAX_MR >= TWO_BLOCK_MR } {
            self.fill::<V, 2>();
        } else {
            self.fill::<V, 1>();
        }
    }
}

impl Partials<'_, '_> {
    /// Fills the partials, `CHANNELS` channels at a time.
    #[inline(always)]
    fn fill<V: Lanes, const CHANNELS: usize>(self) {
        let plan = self.run.plan;
        let (channels, taps) = (plan.input[2], &plan.taps[..]);
        let size = channels * taps.len();
        let weights = &plan.weights.weights[self.block * size..][..size];
        let lines = lines(plan, self.run.source, &self.origins);
        let partials = &mut self.run.partials[..channels * TILE];
        for first in (0..channels).step_by(CHANNELS) {
            // Past the end the last channel is repeated.
            let of: [usize; CHANNELS] = std::array::from_fn(|k| (first + k).min(channels - 1));
            let mut sums = [[V::zero(); TILE]; CHANNELS];
            for (t, &tap) in taps.iter().enumerate() {
                for k in 0..CHANNELS {
                    // SAFETY: see `sum_single_scale`.
                    unsafe {
                        let w = V::load(weights.get_unchecked(of[k] * taps.len() + t));
                        for i in 0..TILE {
                            let x = *lines[i].add(tap + of[k]);
                            sums[k][i] = w.mul_add(x, sums[k][i]);
                        }
                    }
                }
            }
            for k in 0..CHANNELS {
                for i in 0..TILE {
                    sums[k][i].store(&mut partials[of[k] * TILE + i]);
                }
            }
        }
    }
}

/// Applies `N` scale vectors from `first` on to the partials of a tile.
struct ApplyScales<'r, 'a, const N: usize> {
    run: &'r mut MapRun<'a>,
    block: usize,
    window: usize,
    first: usize,
}

impl<const N: usize> Kernel for ApplyScales<'_, '_, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MAX_MR: usize>(self) {
        if const { N > 1 && MAX_MR < TWO_BLOCK_MR } {
            return;
        }
        let MapRun { plan, scales, .. } = *self.run;
        let inputs = plan.input[2];
        let scales = &scales[self.first * inputs..][..N * inputs];
        let partials = self.run.partials[..inputs * TILE].as_chunks::<TILE>().0;
        let mut sums = [[V::load(&plan.weights.bias[self.block]); N]; TILE];
        for (c, partials) in partials.iter().enumerate() {
            for i in 0..TILE {
                let part = V::load(&partials[i]);
                for n in 0..N {
                    // SAFETY: `n < N` and `c < inputs`.
                    let scale = unsafe { *scales.get_unchecked(n * inputs + c) };
                    sums[i][n] = part.mul_add(scale, sums[i][n]);
                }
            }
        }
        let mut results = [[[0.0; LANES]; TILE]; N];
        for n in 0..N {
            for i in 0..TILE {
                results[n][i] = plan.apply_epilogue(sums[i][n], self.block);
            }
        }
        let row = self.run.output.len() / (self.run.scales.len() / inputs);
        for n in 0..N {
            let output = &mut self.run.output[(self.first + n) * row..][..row];
            MapRun::put::<V>(output, plan, &results[n], self.block, self.window);
        }
    }
}
