//! Vectors of eight `f64` and the registers that they consist of, for computations in which every
//! operation is rounded separately.

/// Elements per vector.
pub(crate) const DOUBLES: usize = 8;

/// A vector of [`DOUBLES`] elements. Every operation is rounded separately; nothing is fused, so
/// every implementation gives the same bits.
pub(crate) trait Doubles: Copy {
    /// One of the registers of the vector.
    type Register: Register;

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

/// [`DOUBLES`] numbers on a cache line of their own.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
pub(crate) struct Row(pub(crate) [f64; DOUBLES]);

impl Row {
    pub(crate) const ZERO: Self = Self([0.0; DOUBLES]);
}

/// Part of a vector of [`DOUBLES`] elements that fits one register. A kernel with many intermediate
/// values computes one part after the other, so that the values stay in registers. Every operation
/// is rounded separately, as in [`Doubles`].
pub(crate) trait Register: Copy {
    /// Number of elements, a divisor of [`DOUBLES`].
    const ELEMENTS: usize;

    fn splat(x: f64) -> Self;
    /// Loads [`Self::ELEMENTS`] elements from `first` on.
    fn load(from: &[f64; DOUBLES], first: usize) -> Self;
    /// Stores [`Self::ELEMENTS`] elements from `first` on.
    fn store(self, to: &mut [f64; DOUBLES], first: usize);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Returns `self` in each lane where it is larger than `other`, else `other` (also for NaN).
    fn max(self, other: Self) -> Self;
    /// Returns the lanes in which `self` is larger than `other`: bit `i` stands for lane `i`.
    fn larger(self, other: Self) -> u8;
}

/// Elements of the smallest vector registers.
const PAIR: usize = 2;

impl Register for [f64; PAIR] {
    const ELEMENTS: usize = PAIR;

    #[inline(always)]
    fn splat(x: f64) -> Self {
        [x; PAIR]
    }

    #[inline(always)]
    fn load(from: &[f64; DOUBLES], first: usize) -> Self {
        std::array::from_fn(|i| from[first + i])
    }

    #[inline(always)]
    fn store(self, to: &mut [f64; DOUBLES], first: usize) {
        to[first..first + PAIR].copy_from_slice(&self);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| {
            if self[i] > other[i] {
                self[i]
            } else {
                other[i]
            }
        })
    }

    #[inline(always)]
    fn larger(self, other: Self) -> u8 {
        (0..PAIR).fold(0, |lanes, i| lanes | u8::from(self[i] > other[i]) << i)
    }
}

impl Doubles for [f64; DOUBLES] {
    type Register = [f64; PAIR];

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

    use super::{DOUBLES, Doubles, Register};

    // SAFETY of every block below: `Isa::dispatch` alone names these types, in functions compiled
    // for the instruction set, after the CPU feature was detected. Loads and stores are unaligned
    // and lie within the arrays.

    /// Two registers of four lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256d, __m256d);

    /// Register of four lanes.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Quad(__m256d);

    /// Implements [`Register`] with one instruction per operation.
    macro_rules! register {
        ($name:ident, $elements:literal, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident,
         $mul:ident, $max:ident, $larger:expr) => {
            impl Register for $name {
                const ELEMENTS: usize = $elements;

                #[inline(always)]
                fn splat(x: f64) -> Self {
                    // SAFETY: see above.
                    unsafe { Self($splat(x)) }
                }

                #[inline(always)]
                fn load(from: &[f64; DOUBLES], first: usize) -> Self {
                    let from: &[f64] = &from[first..first + $elements];
                    // SAFETY: see above.
                    unsafe { Self($load(from.as_ptr())) }
                }

                #[inline(always)]
                fn store(self, to: &mut [f64; DOUBLES], first: usize) {
                    let to: &mut [f64] = &mut to[first..first + $elements];
                    // SAFETY: see above.
                    unsafe { $store(to.as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { Self($add(self.0, other.0)) }
                }

                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { Self($sub(self.0, other.0)) }
                }

                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    // SAFETY: see above.
                    unsafe { Self($mul(self.0, other.0)) }
                }

                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    // SAFETY: see above. The instruction returns the second operand for NaN.
                    unsafe { Self($max(self.0, other.0)) }
                }

                #[inline(always)]
                fn larger(self, other: Self) -> u8 {
                    // SAFETY: see above.
                    unsafe { $larger(self.0, other.0) }
                }
            }
        };
    }

    register!(
        Quad,
        4,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_max_pd,
        |a, b| _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(a, b)) as u8
    );
    register!(
        Avx512,
        8,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_max_pd,
        |a, b| _mm512_cmp_pd_mask::<_CMP_GT_OQ>(a, b)
    );

    impl Doubles for Avx2 {
        type Register = Quad;

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
        type Register = Self;

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
