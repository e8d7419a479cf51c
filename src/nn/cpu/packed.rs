//! Weights and what follows a sum, packed into blocks of lanes.

use std::ops::{Deref, DerefMut};

use crate::simd::lanes::{LANES, Lanes};

/// Lanes that lie in one cache line, so that they are read at once.
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

/// A weight matrix `[terms, channels]`, packed as `[channel block][term][lane]`, and its bias as
/// `[channel block][lane]`. The lanes past the last channel hold zeros, but with at most half a
/// block of channels the second half of the lanes repeats the first.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub terms: usize,
    pub channels: usize,
    pub(super) weights: Vec<Block>,
    pub(super) bias: Vec<[f32; LANES]>,
}

impl Packed {
    /// `weights` is row-major `[terms, channels]`; `bias`, if any, `[channels]`.
    pub fn new(weights: &[f32], channels: usize, bias: Option<&[f32]>) -> Self {
        let terms = weights.len() / channels;
        let blocks = channels.div_ceil(LANES);
        let mut packed = vec![Block::ZERO; blocks * terms];
        for (term, row) in weights.chunks_exact(channels).enumerate() {
            for (block, lanes) in pack(row).enumerate() {
                *packed[block * terms + term] = lanes;
            }
        }
        // A bias of -0 becomes +0: then no sum can be -0 before its last term, and terms that are
        // zero because of padding can be left out without changing a bit.
        let bias: Vec<f32> = match bias {
            Some(bias) => bias.iter().map(|b| b + 0.0).collect(),
            None => vec![0.0; channels],
        };
        Self {
            terms,
            channels,
            weights: packed,
            bias: pack(&bias).collect(),
        }
    }
}

/// One number per channel in blocks of lanes, as in [`Packed`].
fn pack(channels: &[f32]) -> impl Iterator<Item = [f32; LANES]> {
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

/// What is done to each sum before it is stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Epilogue {
    /// The larger of the sum and 0; 0 for NaN.
    pub relu: bool,
    /// After that, times a scale plus a shift.
    pub affine: Option<Affine>,
    /// After that, the larger of the result and 0; 0 for NaN.
    pub relu_last: bool,
}

/// A scale and a shift for every channel, in blocks of lanes as in [`Packed`].
#[derive(Debug, Clone)]
pub(crate) struct Affine {
    scale: Vec<[f32; LANES]>,
    shift: Vec<[f32; LANES]>,
    /// Whether every scale is positive and everything finite.
    increasing: bool,
}

impl Affine {
    pub fn new(scale: &[f32], shift: &[f32]) -> Self {
        Self {
            scale: pack(scale).collect(),
            shift: pack(shift).collect(),
            increasing: scale.iter().all(|s| s.is_finite() && *s > 0.0)
                && shift.iter().all(|s| s.is_finite()),
        }
    }
}

impl Epilogue {
    /// What becomes of sums of each of some channel blocks.
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

    /// Whether the largest of some results is, to the bit, the result of the largest sum.
    #[inline(always)]
    pub(super) fn keeps_order(&self) -> bool {
        // Without the first ReLU, sums that round to results of -0 and +0 would count as equal.
        let keeps = |affine: &Affine| self.relu && affine.increasing;
        self.affine.as_ref().is_none_or(keeps)
    }

    /// The scale and the shift in blocks of lanes.
    #[inline(always)]
    pub(super) fn affine(&self) -> Option<[&[[f32; LANES]]; 2]> {
        let affine = self.affine.as_ref()?;
        Some([&affine.scale, &affine.shift])
    }
}

/// The first lanes, as many as `from` is long; zeros in the others.
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

/// Stores the first lanes, as many as `to` is long.
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
