//! Vectors for WebAssembly (simd128).

use std::arch::wasm32::*;
use std::array::from_fn;
use std::marker::PhantomData;

use super::super::fused::round_to_odd;
use super::{DOUBLES, HALF, LANES, Lanes};

// SAFETY of every block below: this module is compiled only for modules that have simd128. Loads and stores may
// be unaligned and lie within the arrays.

/// Four registers of four lanes.
#[derive(Clone, Copy)]
pub(in super::super) struct Wasm<F>([v128; 4], PhantomData<F>);

/// Fused multiply-adds by the instructions of simd128.
pub(in super::super) type Simd128 = Wasm<Emulated>;
/// Fused multiply-adds by an instruction.
#[cfg(feature = "relaxed-simd")]
pub(in super::super) type RelaxedSimd = Wasm<Relaxed>;

/// Fused multiply-add of vectors.
pub(in super::super) trait MulAdd: Copy {
    /// Returns `x * y + z` per lane, rounded once.
    fn mul_add(x: [v128; 4], y: [v128; 4], z: [v128; 4]) -> [v128; 4];
}

/// simd128 has no fused multiply-add. As in [`super::super::fused`], sums are computed in `f64` and the rare ones
/// that two roundings may change are repaired.
#[derive(Clone, Copy)]
pub(in super::super) struct Emulated;

/// Sums of both halves of a register.
#[inline(always)]
fn sums(x: v128, y: v128, z: v128) -> [v128; 2] {
    let high = |v| f64x2_promote_low_f32x4(i64x2_shuffle::<1, 1>(v, v));
    let low = |v| f64x2_promote_low_f32x4(v);
    [
        f64x2_add(f64x2_mul(low(x), low(y)), low(z)),
        f64x2_add(f64x2_mul(high(x), high(y)), high(z)),
    ]
}

/// Marks the lanes whose sum [`super::super::fused`] calls doubtful. A sum other than zero has set bits in the upper
/// half of its magnitude.
#[inline(always)]
fn doubtful([low, high]: [v128; 2]) -> v128 {
    /// The bits that rounding to `f32` drops, and their value halfway between two `f32`.
    const DROPPED: i32 = (1 << 29) - 1;
    const HALFWAY: i32 = 1 << 28;
    /// Upper half of the least normal `f32`, without the sign.
    const LEAST: u32 = ((f32::MIN_POSITIVE as f64).to_bits() >> 31) as u32;
    let lower = i32x4_shuffle::<0, 2, 4, 6>(low, high);
    let upper = i32x4_shuffle::<1, 3, 5, 7>(low, high);
    let halfway = i32x4_eq(v128_and(lower, i32x4_splat(DROPPED)), i32x4_splat(HALFWAY));
    let magnitude = i32x4_sub(i32x4_shl(upper, 1), i32x4_splat(1));
    v128_or(halfway, u32x4_lt(magnitude, u32x4_splat(LEAST - 1)))
}

#[inline(always)]
fn to_single([low, high]: [v128; 2]) -> v128 {
    let (low, high) = (f32x4_demote_f64x2_zero(low), f32x4_demote_f64x2_zero(high));
    i64x2_shuffle::<0, 2>(low, high)
}

/// [`MulAdd::mul_add`] with the repair.
#[cold]
#[inline(never)]
fn repaired(x: [v128; 4], y: [v128; 4], z: [v128; 4]) -> [v128; 4] {
    let array = |v: v128| {
        let mut out = [0f32; 4];
        // SAFETY: see above.
        unsafe { v128_store(out.as_mut_ptr().cast(), v) };
        out
    };
    from_fn(|i| {
        let (x, y, z) = (array(x[i]), array(y[i]), array(z[i]));
        let [a, b, c, d] =
            from_fn(|k| round_to_odd(f64::from(x[k]) * f64::from(y[k]), f64::from(z[k])) as f32);
        f32x4(a, b, c, d)
    })
}

impl MulAdd for Emulated {
    #[inline(always)]
    fn mul_add(x: [v128; 4], y: [v128; 4], z: [v128; 4]) -> [v128; 4] {
        let sums: [_; 4] = from_fn(|i| sums(x[i], y[i], z[i]));
        let [a, b, c, d] = sums.map(doubtful);
        if v128_any_true(v128_or(v128_or(a, b), v128_or(c, d))) {
            return repaired(x, y, z);
        }
        sums.map(to_single)
    }
}

/// The multiply-add of relaxed SIMD where it is fused, which `Isa::available` verifies.
#[cfg(feature = "relaxed-simd")]
#[derive(Clone, Copy)]
pub(in super::super) struct Relaxed;

#[cfg(feature = "relaxed-simd")]
impl MulAdd for Relaxed {
    #[inline(always)]
    fn mul_add(x: [v128; 4], y: [v128; 4], z: [v128; 4]) -> [v128; 4] {
        from_fn(|i| f32x4_relaxed_madd(x[i], y[i], z[i]))
    }
}

/// Returns true if the multiply-add of relaxed SIMD is fused. The standard lets an engine choose once for all.
#[cfg(feature = "relaxed-simd")]
#[target_feature(enable = "relaxed-simd")]
pub(in super::super) fn relaxed_is_fused() -> bool {
    // The square is 1 + 2^-22 + 2^-46; only one rounding leaves its last part.
    let x = f32x4_splat(std::hint::black_box(1.0 + f32::EPSILON));
    let z = f32x4_splat(std::hint::black_box(-(1.0 + 2.0 * f32::EPSILON)));
    let rest = f32x4_relaxed_madd(x, x, z);
    let wanted = f32x4_splat(f32::EPSILON * f32::EPSILON);
    i32x4_all_true(f32x4_eq(rest, wanted))
}

impl<F: MulAdd> Wasm<F> {
    #[inline(always)]
    fn new(parts: [v128; 4]) -> Self {
        Self(parts, PhantomData)
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(v128, v128) -> v128) -> Self {
        Self::new(from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl<F: MulAdd> Lanes for Wasm<F> {
    type Doubles = [f64; DOUBLES];

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self::new([f32x4_splat(x); 4])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        Self::new(from_fn(|i| unsafe {
            v128_load(from.as_ptr().add(4 * i).cast())
        }))
    }

    #[inline(always)]
    fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: see above.
        let all = unsafe { v128_load(from.as_ptr().cast()) };
        let halves = [i16x8_extend_low_i8x16(all), i16x8_extend_high_i8x16(all)];
        let [a, b] =
            halves.map(|half| [i32x4_extend_low_i16x8(half), i32x4_extend_high_i16x8(half)]);
        Self::new([a[0], a[1], b[0], b[1]].map(|part| f32x4_convert_i32x4(part)))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        for (i, part) in self.0.into_iter().enumerate() {
            // SAFETY: see above.
            unsafe { v128_store(to.as_mut_ptr().add(4 * i).cast(), part) }
        }
    }

    #[inline(always)]
    fn mul_add(self, x: f32, sum: Self) -> Self {
        Self::new(F::mul_add(self.0, [f32x4_splat(x); 4], sum.0))
    }

    #[inline(always)]
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
        Self::new(F::mul_add(self.0, x.0, sum.0))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| f32x4_add(a, b))
    }

    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        self.zip(x, |a, b| f32x4_mul(a, b))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // A comparison with NaN is false and selects `other`.
        self.zip(other, |a, b| v128_bitselect(a, b, f32x4_gt(a, b)))
    }

    #[inline(always)]
    fn pair(pixels: &[f32; 2]) -> Self {
        let [a, b] = pixels.map(|x| f32x4_splat(x));
        Self::new([a, a, b, b])
    }

    #[inline(always)]
    fn broadcast_half(channels: &[f32; HALF]) -> Self {
        // SAFETY: see above.
        let [a, b] = [0, 4].map(|i| unsafe { v128_load(channels.as_ptr().add(i).cast()) });
        Self::new([a, b, a, b])
    }

    #[inline(always)]
    fn pixels(self) -> Self {
        self
    }

    #[inline(always)]
    fn split(self, next: Self) -> [Self; 2] {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, next.0);
        [Self::new([a, b, e, f]), Self::new([c, d, g, h])]
    }
}
