//! Vectors for x86-64 (AVX2 and AVX-512).

use std::arch::x86_64::*;

use super::super::doubles;
use super::{HALF, LANES, Lanes};

// SAFETY of every block below: `Isa::dispatch` alone names these types, in functions compiled for
// the instruction set, after the CPU feature was detected. Loads and stores are unaligned and lie
// within the arrays.

/// Two registers of eight lanes.
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
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        unsafe {
            let x = _mm256_set1_ps(x);
            Self(x, x)
        }
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
    fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let at = from.as_ptr();
            let half = |at: *const i8| _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
            Self(
                _mm256_cvtepi32_ps(half(at)),
                _mm256_cvtepi32_ps(half(at.add(8))),
            )
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
    fn mul(self, x: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_mul_ps(self.0, x.0), _mm256_mul_ps(self.1, x.1)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above. For NaN the instruction returns its second operand.
        unsafe {
            Self(
                _mm256_max_ps(self.0, other.0),
                _mm256_max_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn pair(pixels: &[f32; 2]) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm256_set1_ps(pixels[0]), _mm256_set1_ps(pixels[1])) }
    }

    #[inline(always)]
    fn broadcast_half(channels: &[f32; HALF]) -> Self {
        // SAFETY: see above.
        let channels = unsafe { _mm256_loadu_ps(channels.as_ptr()) };
        Self(channels, channels)
    }

    #[inline(always)]
    fn pixels(self) -> Self {
        self
    }

    #[inline(always)]
    fn split(self, next: Self) -> [Self; 2] {
        [Self(self.0, next.0), Self(self.1, next.1)]
    }
}

/// One register of sixteen lanes.
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
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_loadu_ps(from.as_ptr())) }
    }

    #[inline(always)]
    fn load_i8(from: &[i8; LANES]) -> Self {
        // SAFETY: see above.
        unsafe {
            let all = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            Self(_mm512_cvtepi32_ps(all))
        }
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
    fn mul(self, x: Self) -> Self {
        // SAFETY: see above.
        unsafe { Self(_mm512_mul_ps(self.0, x.0)) }
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: see above. For NaN the instruction returns its second operand.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    /// Interleaves the two pixels: one 64-bit broadcast loads the pair.
    #[inline(always)]
    fn pair(pixels: &[f32; 2]) -> Self {
        // SAFETY: see above.
        unsafe {
            let both = _mm_load_sd(pixels.as_ptr().cast());
            Self(_mm512_castpd_ps(_mm512_broadcastsd_pd(both)))
        }
    }

    #[inline(always)]
    fn broadcast_half(channels: &[f32; HALF]) -> Self {
        // SAFETY: see above.
        unsafe {
            let channels = _mm512_castps256_ps512(_mm256_loadu_ps(channels.as_ptr()));
            let order = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            Self(_mm512_permutexvar_ps(order, channels))
        }
    }

    #[inline(always)]
    fn pixels(self) -> Self {
        // SAFETY: see above.
        unsafe {
            let order = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
            Self(_mm512_permutexvar_ps(order, self.0))
        }
    }

    #[inline(always)]
    fn split(self, next: Self) -> [Self; 2] {
        // SAFETY: see above.
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            [
                Self(_mm512_permutex2var_ps(self.0, even, next.0)),
                Self(_mm512_permutex2var_ps(self.0, odd, next.0)),
            ]
        }
    }
}
