//! Vectors of eight `f64`, for sums in which every operation is rounded separately.

/// Elements per vector.
pub(crate) const DOUBLES: usize = 8;

/// A vector of [`DOUBLES`] elements. Every operation is rounded separately; nothing is fused, so
/// every implementation gives the same bits.
pub(crate) trait Doubles: Copy {
    /// Accumulators, each with one factor, that fit into the registers. Their number hides the
    /// latency of an addition and a rounding.
    const BLOCKS: usize;

    fn splat(x: f64) -> Self;
    fn load(from: &[f64; DOUBLES]) -> Self;
    fn store(self, to: &mut [f64; DOUBLES]);
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Rounds each lane to the nearest `f32`.
    fn to_single(self) -> Self;
}

impl Doubles for [f64; DOUBLES] {
    const BLOCKS: usize = 2;

    #[inline(always)]
    fn splat(x: f64) -> Self {
        [x; DOUBLES]
    }

    #[inline(always)]
    fn load(from: &[f64; DOUBLES]) -> Self {
        *from
    }

    #[inline(always)]
    fn store(self, to: &mut [f64; DOUBLES]) {
        *to = self;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    fn to_single(self) -> Self {
        self.map(|x| f64::from(x as f32))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{DOUBLES, Doubles};

    // SAFETY of every block below: `Isa::dispatch` alone names these types, in functions compiled
    // for the instruction set, after the CPU feature was detected. Loads and stores are unaligned
    // and lie within the arrays.

    /// Two registers of four lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256d, __m256d);

    impl Doubles for Avx2 {
        const BLOCKS: usize = 2;

        #[inline(always)]
        fn splat(x: f64) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm256_set1_pd(x), _mm256_set1_pd(x)) }
        }

        #[inline(always)]
        fn load(from: &[f64; DOUBLES]) -> Self {
            // SAFETY: see above.
            unsafe {
                let at = from.as_ptr();
                Self(_mm256_loadu_pd(at), _mm256_loadu_pd(at.add(4)))
            }
        }

        #[inline(always)]
        fn store(self, to: &mut [f64; DOUBLES]) {
            // SAFETY: see above.
            unsafe {
                let at = to.as_mut_ptr();
                _mm256_storeu_pd(at, self.0);
                _mm256_storeu_pd(at.add(4), self.1);
            }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_add_pd(self.0, other.0),
                    _mm256_add_pd(self.1, other.1),
                )
            }
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_mul_pd(self.0, other.0),
                    _mm256_mul_pd(self.1, other.1),
                )
            }
        }

        #[inline(always)]
        fn to_single(self) -> Self {
            // SAFETY: see above.
            unsafe {
                Self(
                    _mm256_cvtps_pd(_mm256_cvtpd_ps(self.0)),
                    _mm256_cvtps_pd(_mm256_cvtpd_ps(self.1)),
                )
            }
        }
    }

    /// One register of eight lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512d);

    impl Doubles for Avx512 {
        const BLOCKS: usize = 4;

        #[inline(always)]
        fn splat(x: f64) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_set1_pd(x)) }
        }

        #[inline(always)]
        fn load(from: &[f64; DOUBLES]) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_loadu_pd(from.as_ptr())) }
        }

        #[inline(always)]
        fn store(self, to: &mut [f64; DOUBLES]) {
            // SAFETY: see above.
            unsafe { _mm512_storeu_pd(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_add_pd(self.0, other.0)) }
        }

        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_mul_pd(self.0, other.0)) }
        }

        #[inline(always)]
        fn to_single(self) -> Self {
            // SAFETY: see above.
            unsafe { Self(_mm512_cvtps_pd(_mm512_cvtpd_ps(self.0))) }
        }
    }
}
