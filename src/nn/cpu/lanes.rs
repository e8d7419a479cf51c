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
    /// The larger of each lane and 0; 0 for NaN.
    fn relu(self) -> Self;
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
    fn relu(self) -> Self {
        self.map(|x| if x > 0.0 { x } else { 0.0 })
    }
}

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
        fn relu(self) -> Self {
            // SAFETY: see above. The second operand is what comes out for NaN.
            unsafe {
                let zero = _mm256_setzero_ps();
                Self(_mm256_max_ps(self.0, zero), _mm256_max_ps(self.1, zero))
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
        fn relu(self) -> Self {
            // SAFETY: see above. The second operand is what comes out for NaN.
            unsafe { Self(_mm512_max_ps(self.0, _mm512_setzero_ps())) }
        }
    }
}
