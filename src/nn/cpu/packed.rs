//! Packed weights, and the pointwise epilogue of a GEMM.

use std::ops::{Deref, DerefMut};

use crate::simd::lanes::{LANES, Lanes};

/// One vector of weights, aligned to a cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block([f32; LANES]);

impl Block {
    pub const ZERO: Self = Self([0.0; LANES]);
}

impl Deref for Block {
    type Target = [f32; LANES];

    #[inline(always)]
    fn deref(&self) -> &[f32; LANES] {
        &self.0
    }
}

impl DerefMut for Block {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32; LANES] {
        &mut self.0
    }
}

/// Weight matrix `[k, n]`, packed as `[channel block][k][lane]`, with its bias as `[channel
/// block][lane]`. Lanes past the last channel hold zeros; with at most half a block of channels the
/// second half of the lanes repeats the first.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub k: usize,
    pub n: usize,
    pub(super) weights: Vec<Block>,
    pub(super) bias: Vec<[f32; LANES]>,
}

impl Packed {
    /// Packs row-major weights `[k, n]` and an optional bias `[n]`.
    pub fn new(weights: &[f32], channels: usize, bias: Option<&[f32]>) -> Self {
        let k = weights.len() / channels;
        let blocks = channels.div_ceil(LANES);
        let mut packed = vec![Block::ZERO; blocks * k];
        for (term, row) in weights.chunks_exact(channels).enumerate() {
            for (block, lanes) in pack(row).enumerate() {
                *packed[block * k + term] = lanes;
            }
        }
        // Adding 0 turns a bias of -0 into +0. Then no partial sum is -0, and products with zero
        // padding can be skipped without changing a bit.
        let bias: Vec<f32> = match bias {
            Some(bias) => bias.iter().map(|b| b + 0.0).collect(),
            None => vec![0.0; channels],
        };
        Self {
            k,
            n: channels,
            weights: packed,
            bias: pack(&bias).collect(),
        }
    }
}

/// Packs one element per channel into blocks of lanes, laid out as in [`Packed`].
pub(super) fn pack(channels: &[f32]) -> impl Iterator<Item = [f32; LANES]> {
    let repeats = channels.len() <= LANES / 2;
    channels.chunks(LANES).map(move |part| {
        let mut lanes = [0.0; LANES];
        lanes[..part.len()].copy_from_slice(part);
        if repeats {
            lanes[LANES / 2..][..part.len()].copy_from_slice(part);
        }
        lanes
    })
}

/// Pointwise operations applied to the sums before they are stored, in the order of the fields.
#[derive(Debug, Clone, Default)]
pub(crate) struct Epilogue {
    /// ReLU; 0 for NaN.
    pub relu: bool,
    /// Scale and shift per channel.
    pub affine: Option<Affine>,
    /// Second ReLU; 0 for NaN.
    pub relu_last: bool,
}

/// A scale and a shift per channel, in blocks of lanes laid out as in [`Packed`].
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    scale: Vec<[f32; LANES]>,
    shift: Vec<[f32; LANES]>,
    /// True if every scale is positive and all values are finite.
    is_increasing: bool,
}

impl Affine {
    pub fn new(scale: &[f32], shift: &[f32]) -> Self {
        Self {
            scale: pack(scale).collect(),
            shift: pack(shift).collect(),
            is_increasing: scale.iter().all(|s| s.is_finite() && *s > 0.0)
                && shift.iter().all(|s| s.is_finite()),
        }
    }
}

impl Epilogue {
    /// Applies the operations to the accumulators of the given channel blocks.
    #[inline(always)]
    pub(super) fn apply<V: Lanes, const N: usize, const BLOCKS: usize>(
        &self,
        sums: &mut [[V; N]; BLOCKS],
        blocks: [usize; BLOCKS],
    ) {
        if self.relu {
            for s in 0..BLOCKS {
                for p in 0..N {
                    sums[s][p] = sums[s][p].relu();
                }
            }
        }
        if let Some([scale, shift]) = self.affine() {
            for s in 0..BLOCKS {
                let (scale, shift) = (V::load(&scale[blocks[s]]), V::load(&shift[blocks[s]]));
                for p in 0..N {
                    sums[s][p] = sums[s][p].mul_add_lanes(scale, shift);
                }
            }
        }
        if self.relu_last {
            for s in 0..BLOCKS {
                for p in 0..N {
                    sums[s][p] = sums[s][p].relu();
                }
            }
        }
    }

    /// Returns true if the maximum of the results is, to the bit, the result of the maximum sum.
    #[inline(always)]
    pub(super) fn commutes_with_max(&self) -> bool {
        // Without the first ReLU, sums that round to results of -0 and +0 would compare as equal.
        let keeps = |affine: &Affine| self.relu && affine.is_increasing;
        self.affine.as_ref().is_none_or(keeps)
    }

    /// Returns scale and shift in blocks of lanes.
    #[inline(always)]
    pub(super) fn affine(&self) -> Option<[&[[f32; LANES]]; 2]> {
        let affine = self.affine.as_ref()?;
        Some([&affine.scale, &affine.shift])
    }
}

/// Loads `from` into the first lanes and zeros into the remaining ones.
#[inline(always)]
pub(super) fn load<V: Lanes>(from: &[f32]) -> V {
    match <&[f32; LANES]>::try_from(from) {
        Ok(from) => V::load(from),
        Err(_) => {
            let mut all = [0.0; LANES];
            all[..from.len()].copy_from_slice(from);
            V::load(&all)
        }
    }
}

/// Stores the first `to.len()` lanes.
#[inline(always)]
pub(super) fn store<V: Lanes>(lanes: V, to: &mut [f32]) {
    match <&mut [f32; LANES]>::try_from(&mut *to) {
        Ok(to) => lanes.store(to),
        Err(_) => {
            let mut all = [0.0; LANES];
            lanes.store(&mut all);
            let n = to.len();
            to.copy_from_slice(&all[..n]);
        }
    }
}
