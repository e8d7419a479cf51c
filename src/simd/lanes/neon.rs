//! Vectors for 64-bit ARM (NEON).

use std::arch::aarch64::*;
use std::array::from_fn;

use super::{DOUBLES, HALF, LANES, Lanes};

// SAFETY of every block below: this module is compiled only for targets that guarantee the
// instructions. Loads and stores may be unaligned and lie within the arrays.

/// Four registers of four lanes.
#[derive(Clone, Copy)]
pub(in super::super) struct Neon([float32x4_t; 4]);

impl Lanes for Neon {
    type Doubles = [f64; DOUBLES];

    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: see above.
        Self([unsafe { vdupq_n_f32(0.0) }; 4])
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe { vld1q_f32(from.as_ptr().add(4 * i)) }))
    }

    #[inline(always)]
    fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let all = vld1q_s8(from.as_ptr());
            let halves = [vmovl_s8(vget_low_s8(all)), vmovl_high_s8(all)];
            let [a, b] = halves.map(|half| [vmovl_s16(vget_low_s16(half)), vmovl_high_s16(half)]);
            Self([a[0], a[1], b[0], b[1]].map(|part| vcvtq_f32_s32(part)))
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        for (i, part) in self.0.into_iter().enumerate() {
            // SAFETY: see above.
            unsafe { vst1q_f32(to.as_mut_ptr().add(4 * i), part) }
        }
    }

    #[inline(always)]
    fn mul_add(self, x: f32, sum: Self) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe { vfmaq_n_f32(sum.0[i], self.0[i], x) }))
    }

    #[inline(always)]
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe {
            vfmaq_f32(sum.0[i], self.0[i], x.0[i])
        }))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe { vaddq_f32(self.0[i], other.0[i]) }))
    }

    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe { vmulq_f32(self.0[i], x.0[i]) }))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above. A comparison with NaN is false and selects `other`.
        Self(from_fn(|i| unsafe {
            let (a, b) = (self.0[i], other.0[i]);
            vbslq_f32(vcgtq_f32(a, b), a, b)
        }))
    }

    #[inline(always)]
    fn pair(pixels: &[f32; 2]) -> Self {
        // SAFETY: see above.
        let [a, b] = pixels.map(|x| unsafe { vdupq_n_f32(x) });
        Self([a, a, b, b])
    }

    #[inline(always)]
    fn broadcast_half(channels: &[f32; HALF]) -> Self {
        // SAFETY: see above.
        let [a, b] = [0, 4].map(|i| unsafe { vld1q_f32(channels.as_ptr().add(i)) });
        Self([a, b, a, b])
    }

    #[inline(always)]
    fn pixels(self) -> Self {
        self
    }

    #[inline(always)]
    fn split(self, next: Self) -> [Self; 2] {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, next.0);
        [Self([a, b, e, f]), Self([c, d, g, h])]
    }
}
