//! Sixteen numbers in registers.

use super::doubles::{DOUBLES, Doubles};

/// Numbers in one block.
pub(crate) const LANES: usize = 16;

/// [`LANES`] numbers that are computed with at once. Every implementation gives the same bits.
pub(crate) trait Lanes: Copy {
    /// Numbers of twice the precision in the same registers.
    type Doubles: Doubles;

    fn zero() -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// `x * self + sum` in every lane, rounded once.
    fn mul_add(self, x: f32, sum: Self) -> Self;
    /// `x * self + sum`, lane by lane, rounded once.
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// In each lane `self` where it is larger than `other`, else `other`.
    fn larger(self, other: Self) -> Self;
    /// The larger of each lane and 0; 0 for NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        self.larger(Self::zero())
    }
}

impl Lanes for [f32; LANES] {
    type Doubles = [f64; DOUBLES];

    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self;
    }

    #[inline(always)]
    fn mul_add(self, x: f32, sum: Self) -> Self {
        std::array::from_fn(|i| x.mul_add(self[i], sum[i]))
    }

    #[inline(always)]
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
        std::array::from_fn(|i| x[i].mul_add(self[i], sum[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        std::array::from_fn(|i| {
            if self[i] > other[i] {
                self[i]
            } else {
                other[i]
            }
        })
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(super) use neon::Neon;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::doubles;
    use super::{LANES, Lanes};

    // SAFETY of every block below: these types are named only by `Isa::dispatch`, in functions
    // compiled for the instruction set, after the processor said that it has it. Loads and stores
    // are unaligned and lie within the arrays.

    /// Two registers of eight.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    impl Lanes for Avx2 {
        type Doubles = doubles::Avx2;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: see above.
            unsafe {
                let at = from.as_ptr();
                Self(_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8)))
            }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: see above.
            unsafe {
                let at = to.as_mut_ptr();
                _mm256_storeu_ps(at, self.0);
                _mm256_storeu_ps(at.add(8), self.1);
            }
        }

        #[inline(always)]
        fn mul_add(self, x: f32, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                let x = _mm256_set1_ps(x);
                Self(
                    _mm256_fmadd_ps(x, self.0, sum.0),
                    _mm256_fmadd_ps(x, self.1, sum.1),
                )
            }
        }

        #[inline(always)]
        fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_fmadd_ps(x.0, self.0, sum.0),
                    _mm256_fmadd_ps(x.1, self.1, sum.1),
                )
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_add_ps(self.0, other.0),
                    _mm256_add_ps(self.1, other.1),
                )
            }
        }

        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            // SAFETY: see above. The second operand is what comes out for NaN.
            unsafe {
                Self(
                    _mm256_max_ps(self.0, other.0),
                    _mm256_max_ps(self.1, other.1),
                )
            }
        }
    }

    /// One register of sixteen.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    impl Lanes for Avx512 {
        type Doubles = doubles::Avx512;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_setzero_ps()) }
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, x: f32, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_fmadd_ps(_mm512_set1_ps(x), self.0, sum.0)) }
        }

        #[inline(always)]
        fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_fmadd_ps(x.0, self.0, sum.0)) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        fn larger(self, other: Self) -> Self {
            // SAFETY: see above. The second operand is what comes out for NaN.
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::cpu::isa::{Isa, Kernel};

    /// Signs, zeros, infinities, NaN, subnormal numbers, and products that differ where the
    /// multiply-add rounds twice. No signalling NaN: no sum is one, and compilers may take it for a
    /// quiet one in a comparison.
    const SPECIAL: [f32; LANES] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::from_bits(0xffc0_0000),
        f32::from_bits(0x7fc0_0001),
        f32::from_bits(1),
        f32::from_bits(0x8000_0001),
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        1.0 + f32::EPSILON,
        0.1,
    ];

    struct Operations {
        other: [f32; LANES],
        third: [f32; LANES],
        x: f32,
    }

    impl Kernel for Operations {
        type Output = [[f32; LANES]; 5];

        #[inline(always)]
        fn run<V: Lanes, const PIXELS: usize>(self) -> Self::Output {
            let special = V::load(&SPECIAL);
            let other = V::load(&self.other);
            let mut out = [[f32::NAN; LANES]; 5];
            V::zero().store(&mut out[0]);
            special.mul_add(self.x, other).store(&mut out[1]);
            special.add(other).store(&mut out[2]);
            special.relu().store(&mut out[3]);
            let third = V::load(&self.third);
            special.mul_add_lanes(third, other).store(&mut out[4]);
            out
        }
    }

    /// Which of its bits a NaN has is the processor's choice.
    fn bits(x: f32) -> u32 {
        if x.is_nan() { u32::MAX } else { x.to_bits() }
    }

    #[test]
    fn every_lane_is_what_a_single_number_gives_on_every_instruction_set() {
        for isa in Isa::available() {
            for (turn, x) in SPECIAL.into_iter().enumerate() {
                let mut other = SPECIAL;
                other.rotate_left(turn);
                let mut third = SPECIAL;
                third.rotate_left(3 * turn % LANES);
                let got = isa.dispatch(Operations { other, third, x });
                for (i, (&a, &b)) in SPECIAL.iter().zip(&other).enumerate() {
                    let relu = if a > 0.0 { a } else { 0.0 };
                    let wanted = [0.0, a.mul_add(x, b), a + b, relu, a.mul_add(third[i], b)];
                    for (operation, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                        let same = bits(got[i]) == bits(wanted);
                        assert!(same, "{} {operation}: {a} {b} {x}", isa.name());
                    }
                }
            }
        }
    }
}
