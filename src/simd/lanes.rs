//! Vectors of sixteen `f32`.

use super::doubles::{DOUBLES, Doubles};
use super::fused::mul_add;

/// Elements per vector.
pub(crate) const LANES: usize = 16;
/// Lanes per pixel when two pixels share a vector.
pub(crate) const HALF: usize = LANES / 2;

/// A vector of [`LANES`] elements. Every implementation gives the same bits.
pub(crate) trait Lanes: Copy {
    /// The vector of `f64` in the same registers.
    type Doubles: Doubles;

    fn zero() -> Self;
    /// Returns `x` in every lane.
    fn splat(x: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    /// Converts signed bytes.
    fn load_i8(from: &[i8; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// Returns `x * self + sum` per lane, rounded once.
    fn mul_add(self, x: f32, sum: Self) -> Self;
    /// Returns `x * self + sum`, lane by lane, rounded once.
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self;
    fn add(self, other: Self) -> Self;
    /// Returns the products, lane by lane.
    fn mul(self, x: Self) -> Self;
    /// Returns `self` in each lane where it is larger than `other`, else `other` (also for NaN).
    fn max(self, other: Self) -> Self;
    /// Returns the maximum of each lane and 0; 0 for NaN.
    #[inline(always)]
    fn relu(self) -> Self {
        self.max(Self::zero())
    }

    /// Returns two neighbouring pixels, each in one half of the lanes. The implementation chooses
    /// which lanes a pixel has; `broadcast_half`, `pixels` and `split` agree with it.
    fn pair(pixels: &[f32; 2]) -> Self;
    /// Returns the same channels for both pixels.
    fn broadcast_half(channels: &[f32; HALF]) -> Self;
    /// Returns the channels of the first pixel followed by those of the second.
    fn pixels(self) -> Self;
    /// Returns the first pixels of `self` and `next`, and their second pixels.
    fn split(self, next: Self) -> [Self; 2];
}

impl Lanes for [f32; LANES] {
    type Doubles = [f64; DOUBLES];

    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        *from
    }

    #[inline(always)]
    fn load_i8(from: &[i8; LANES]) -> Self {
        from.map(f32::from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self;
    }

    #[inline(always)]
    fn mul_add(self, x: f32, sum: Self) -> Self {
        std::array::from_fn(|i| mul_add(x, self[i], sum[i]))
    }

    #[inline(always)]
    fn mul_add_lanes(self, x: Self, sum: Self) -> Self {
        std::array::from_fn(|i| mul_add(x[i], self[i], sum[i]))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn mul(self, x: Self) -> Self {
        std::array::from_fn(|i| self[i] * x[i])
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
    fn pair(pixels: &[f32; 2]) -> Self {
        std::array::from_fn(|i| pixels[i / HALF])
    }

    #[inline(always)]
    fn broadcast_half(channels: &[f32; HALF]) -> Self {
        std::array::from_fn(|i| channels[i % HALF])
    }

    #[inline(always)]
    fn pixels(self) -> Self {
        self
    }

    #[inline(always)]
    fn split(self, next: Self) -> [Self; 2] {
        let of = |from: usize| std::array::from_fn(|i| [self, next][i / HALF][from + i % HALF]);
        [of(0), of(HALF)]
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub(super) use neon::Neon;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use wasm::Simd128;
#[cfg(all(
    target_arch = "wasm32",
    target_feature = "simd128",
    feature = "relaxed-simd"
))]
pub(super) use wasm::{RelaxedSimd, relaxed_is_fused};

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel};

    /// Signs, zeros, infinities, NaN, subnormals, and factors whose multiply-add differs if it is
    /// rounded twice. Signalling NaN is left out: no sum yields one, and a compiler may treat it as
    /// quiet in a comparison.
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
        type Output = [[f32; LANES]; 6];

        #[inline(always)]
        fn run<V: Lanes, const MR: usize>(self) -> Self::Output {
            let special = V::load(&SPECIAL);
            let other = V::load(&self.other);
            let mut out = [[f32::NAN; LANES]; 6];
            V::zero().store(&mut out[0]);
            special.mul_add(self.x, other).store(&mut out[1]);
            special.add(other).store(&mut out[2]);
            special.relu().store(&mut out[3]);
            let third = V::load(&self.third);
            special.mul_add_lanes(third, other).store(&mut out[4]);
            special.mul(other).store(&mut out[5]);
            out
        }
    }

    /// Returns the bits of `x`, equal for every NaN: the CPU chooses the payload of a NaN.
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
                    let fused = a.mul_add(third[i], b);
                    let wanted = [0.0, a.mul_add(x, b), a + b, relu, fused, a * b];
                    for (operation, (got, wanted)) in got.iter().zip(wanted).enumerate() {
                        let same = bits(got[i]) == bits(wanted);
                        assert!(same, "{} {operation}: {a} {b} {x}", isa.name());
                    }
                }
            }
        }
    }

    struct WholeNumbers([i8; LANES]);

    impl Kernel for WholeNumbers {
        type Output = [f32; LANES];

        #[inline(always)]
        fn run<V: Lanes, const MR: usize>(self) -> Self::Output {
            let mut out = [f32::NAN; LANES];
            V::load_i8(&self.0).store(&mut out);
            out
        }
    }

    #[test]
    fn whole_numbers_stay_in_their_lanes_on_every_instruction_set() {
        for isa in Isa::available() {
            for from in (i8::MIN..=i8::MAX).step_by(7) {
                let numbers = std::array::from_fn(|i| from.wrapping_add(7 * i as i8));
                let got = isa.dispatch(WholeNumbers(numbers));
                assert_eq!(got, numbers.map(f32::from), "{}", isa.name());
            }
        }
    }

    /// Computes each channel's weight times the pixel for four pixels in two pairs.
    struct Pairs {
        pixels: [f32; 4],
        weights: [f32; HALF],
    }

    impl Kernel for Pairs {
        type Output = [[f32; LANES]; 5];

        #[inline(always)]
        fn run<V: Lanes, const MR: usize>(self) -> Self::Output {
            let weights = V::broadcast_half(&self.weights);
            let [first, next] =
                [0, 2].map(|i| weights.mul(V::pair(&[self.pixels[i], self.pixels[i + 1]])));
            let [left, right] = first.split(next);
            let mut out = [[f32::NAN; LANES]; 5];
            let all = [
                first.pixels(),
                next.pixels(),
                left,
                right,
                V::splat(self.pixels[3]),
            ];
            for (out, lanes) in out.iter_mut().zip(all) {
                lanes.store(out);
            }
            out
        }
    }

    #[test]
    fn pairs_of_pixels_come_apart_on_every_instruction_set() {
        let pixels = [1.0, 10.0, 100.0, 1000.0];
        let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let of = |a: usize, b: usize| -> [f32; LANES] {
            std::array::from_fn(|i| pixels[if i < HALF { a } else { b }] * weights[i % HALF])
        };
        let wanted = [of(0, 1), of(2, 3), of(0, 2), of(1, 3), [pixels[3]; LANES]];
        for isa in Isa::available() {
            let got = isa.dispatch(Pairs { pixels, weights });
            assert_eq!(got, wanted, "{}", isa.name());
        }
    }
}
