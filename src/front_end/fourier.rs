//! Fourier transforms of eight signals at once, one per lane.
//!
//! Method: decimation in frequency in three passes (J. Cooley and J. Tukey, "An algorithm for the
//! machine calculation of complex Fourier series", Mathematics of Computation 19, 1965), in place,
//! so the frequencies come out permuted: see [`Transform::place`]. All lanes need the same operations in the
//! same order, which gives the same bits on every instruction set.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use crate::simd::doubles::{DOUBLES, Doubles, Register, Row};

/// A complex number per lane: real parts, then imaginary parts.
pub(super) type Bin = [Row; 2];

/// The number 0 in every lane.
pub(super) const ZERO: Bin = [Row::ZERO; 2];

/// A complex number per lane of a register.
#[derive(Clone, Copy)]
struct Complex<R> {
    re: R,
    im: R,
}

impl<R: Register> Complex<R> {
    #[inline(always)]
    fn load(from: &Bin, first: usize) -> Self {
        Self {
            re: R::load(&from[0].0, first),
            im: R::load(&from[1].0, first),
        }
    }

    #[inline(always)]
    fn store(self, to: &mut Bin, first: usize) {
        self.re.store(&mut to[0].0, first);
        self.im.store(&mut to[1].0, first);
    }

    #[inline(always)]
    fn zero() -> Self {
        Self {
            re: R::splat(0.0),
            im: R::splat(0.0),
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self {
            re: self.re.add(other.re),
            im: self.im.add(other.im),
        }
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re.sub(other.re),
            im: self.im.sub(other.im),
        }
    }

    #[inline(always)]
    fn scale(self, factor: f64) -> Self {
        let factor = R::splat(factor);
        Self {
            re: self.re.mul(factor),
            im: self.im.mul(factor),
        }
    }

    /// Returns `self - i * other`.
    #[inline(always)]
    fn sub_i(self, other: Self) -> Self {
        Self {
            re: self.re.add(other.im),
            im: self.im.sub(other.re),
        }
    }

    /// Returns `self + i * other`.
    #[inline(always)]
    fn add_i(self, other: Self) -> Self {
        Self {
            re: self.re.sub(other.im),
            im: self.im.add(other.re),
        }
    }

    /// Returns the squared magnitude.
    #[inline(always)]
    fn power(self) -> R {
        self.re.mul(self.re).add(self.im.mul(self.im))
    }

    /// Returns the product with `[cos, sin]`, the parts of a complex number.
    #[inline(always)]
    fn turned(self, [cos, sin]: [f64; 2]) -> Self {
        let (cos, sin) = (R::splat(cos), R::splat(sin));
        Self {
            re: self.re.mul(cos).sub(self.im.mul(sin)),
            im: self.re.mul(sin).add(self.im.mul(cos)),
        }
    }
}

/// Transform of length `A * B * C`; the radices are 4, 5 or 8.
#[derive(Debug, Clone)]
pub(super) struct Transform<const A: usize, const B: usize, const C: usize> {
    /// Twiddle factors of the first and the second pass, `[length / radix][radix - 1]`.
    first: Vec<[f64; 2]>,
    second: Vec<[f64; 2]>,
}

impl<const A: usize, const B: usize, const C: usize> Transform<A, B, C> {
    pub(super) const LENGTH: usize = A * B * C;

    pub(super) fn new() -> Self {
        let twiddles = |length: usize, radix: usize| -> Vec<[f64; 2]> {
            let of_column = |j| (1..radix).map(move |r| turn(j * r, length));
            (0..length / radix).flat_map(of_column).collect()
        };
        Self {
            first: twiddles(A * B * C, A),
            second: twiddles(B * C, B),
        }
    }

    /// Returns the index of a frequency in the transformed data.
    pub(super) const fn place(frequency: usize) -> usize {
        let (a, b, c) = (frequency % A, frequency / A % B, frequency / (A * B));
        (a * B + b) * C + c
    }

    /// Transforms `data` in place: `y[k] = sum over n of x[n] exp(-2 pi i k n / LENGTH)`. The values
    /// from `filled` on are taken as 0; it is a multiple of `LENGTH / A`.
    #[inline(always)]
    pub(super) fn run<D: Doubles>(&self, data: &mut [Bin], filled: usize) {
        debug_assert!(data.len() == Self::LENGTH && filled.is_multiple_of(B * C));
        pass::<D, A>(data, &self.first, filled);
        for block in data.chunks_exact_mut(B * C) {
            pass::<D, B>(block, &self.second, B * C);
            for last in block.chunks_exact_mut(C) {
                last_butterfly::<D, C>(last);
            }
        }
    }

    /// Computes the first `LENGTH / C` frequencies of [`Self::run`]; frequency `k` is then at
    /// `place(k)`. The other values are undefined.
    #[inline(always)]
    pub(super) fn run_low<D: Doubles>(&self, data: &mut [Bin]) {
        debug_assert!(data.len() == Self::LENGTH);
        pass::<D, A>(data, &self.first, Self::LENGTH);
        for block in data.chunks_exact_mut(B * C) {
            pass::<D, B>(block, &self.second, B * C);
            for last in block.chunks_exact_mut(C) {
                sum::<D, C>(last);
            }
        }
    }
}

/// Returns `exp(-2 pi i part / parts)`.
pub(super) fn turn(part: usize, parts: usize) -> [f64; 2] {
    let (sin, cos) = (TAU * (part % parts) as f64 / parts as f64).sin_cos();
    [cos, -sin]
}

// The functions below use loops and functions instead of closures: a closure that is not inlined is
// compiled without the instruction set.

/// Computes the butterflies of a pass over `data`, and turns their results.
#[inline(always)]
fn pass<D: Doubles, const RADIX: usize>(data: &mut [Bin], twiddles: &[[f64; 2]], filled: usize) {
    let step = data.len() / RADIX;
    debug_assert!(twiddles.len() == step * (RADIX - 1));
    for (j, turns) in twiddles.chunks_exact(RADIX - 1).enumerate() {
        for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
            let mut x = [Complex::<D::Register>::zero(); RADIX];
            for (r, x) in x.iter_mut().enumerate() {
                if r * step < filled {
                    *x = Complex::load(&data[j + r * step], first);
                }
            }
            let y = butterfly(x);
            y[0].store(&mut data[j], first);
            for r in 1..RADIX {
                y[r].turned(turns[r - 1])
                    .store(&mut data[j + r * step], first);
            }
        }
    }
}

/// Computes the butterfly of all of `data`.
#[inline(always)]
fn last_butterfly<D: Doubles, const RADIX: usize>(data: &mut [Bin]) {
    for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
        let mut x = [Complex::<D::Register>::zero(); RADIX];
        for (x, from) in x.iter_mut().zip(&*data) {
            *x = Complex::load(from, first);
        }
        for (y, to) in butterfly(x).into_iter().zip(&mut *data) {
            y.store(to, first);
        }
    }
}

/// Computes the first result of [`last_butterfly`].
#[inline(always)]
fn sum<D: Doubles, const RADIX: usize>(data: &mut [Bin]) {
    for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
        let mut sum = Complex::<D::Register>::load(&data[0], first);
        for from in &data[1..] {
            sum = sum.add(Complex::load(from, first));
        }
        sum.store(&mut data[0], first);
    }
}

/// Returns the transform of a few values.
#[inline(always)]
fn butterfly<R: Register, const RADIX: usize>(x: [Complex<R>; RADIX]) -> [Complex<R>; RADIX] {
    let mut y = x;
    match RADIX {
        4 => y.copy_from_slice(&four([x[0], x[1], x[2], x[3]])),
        5 => y.copy_from_slice(&five([x[0], x[1], x[2], x[3], x[4]])),
        8 => y.copy_from_slice(&eight([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]])),
        _ => unreachable!("the radices are 4, 5 and 8"),
    }
    y
}

#[inline(always)]
fn eight<R: Register>(x: [Complex<R>; 8]) -> [Complex<R>; 8] {
    let even = four([
        x[0].add(x[4]),
        x[1].add(x[5]),
        x[2].add(x[6]),
        x[3].add(x[7]),
    ]);
    let (a, b) = (x[0].sub(x[4]), x[1].sub(x[5]));
    let (c, d) = (x[2].sub(x[6]), x[3].sub(x[7]));
    let zero = Complex::zero();
    let odd = four([
        a,
        b.sub_i(b).scale(FRAC_1_SQRT_2),
        zero.sub_i(c),
        zero.sub_i(d).sub(d).scale(FRAC_1_SQRT_2),
    ]);
    [
        even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3],
    ]
}

#[inline(always)]
fn four<R: Register>(x: [Complex<R>; 4]) -> [Complex<R>; 4] {
    let (even, odd) = (x[0].add(x[2]), x[1].add(x[3]));
    let (even_difference, odd_difference) = (x[0].sub(x[2]), x[1].sub(x[3]));
    [
        even.add(odd),
        even_difference.sub_i(odd_difference),
        even.sub(odd),
        even_difference.add_i(odd_difference),
    ]
}

#[inline(always)]
fn five<R: Register>(x: [Complex<R>; 5]) -> [Complex<R>; 5] {
    /// Cosines and sines of one and two fifths of a turn.
    const COS: [f64; 2] = [0.309_016_994_374_947_45, -0.809_016_994_374_947_5];
    const SIN: [f64; 2] = [0.951_056_516_295_153_5, 0.587_785_252_292_473_1];
    let sums = [x[1].add(x[4]), x[2].add(x[3])];
    let differences = [x[1].sub(x[4]), x[2].sub(x[3])];
    let once = x[0].add(sums[0].scale(COS[0])).add(sums[1].scale(COS[1]));
    let twice = x[0].add(sums[0].scale(COS[1])).add(sums[1].scale(COS[0]));
    let first = differences[0]
        .scale(SIN[0])
        .add(differences[1].scale(SIN[1]));
    let second = differences[0]
        .scale(SIN[1])
        .sub(differences[1].scale(SIN[0]));
    [
        x[0].add(sums[0]).add(sums[1]),
        once.sub_i(first),
        twice.sub_i(second),
        twice.add_i(second),
        once.add_i(first),
    ]
}

/// Computes four times the power of the frequencies of a real signal from the [`Transform`] of its
/// even samples plus `i` times its odd samples.
#[derive(Debug, Clone)]
pub(super) struct RealPower {
    /// Half the length of the signal.
    half: usize,
    /// Factor `exp(-2 pi i k / (2 half))` of each frequency `k` up to a quarter of the length, and the
    /// places of the frequencies `k` and `half - k`.
    pairs: Vec<([f64; 2], [usize; 2])>,
}

impl RealPower {
    pub(super) fn of<const A: usize, const B: usize, const C: usize>(
        _: &Transform<A, B, C>,
    ) -> Self {
        let half = A * B * C;
        let place = |k: usize| Transform::<A, B, C>::place(k % half);
        Self {
            half,
            pairs: (0..=half / 2)
                .map(|k| (turn(k, 2 * half), [place(k), place(half - k)]))
                .collect(),
        }
    }

    /// Writes four times the powers of the frequencies 0 to `half` to `powers`, or of the first of them
    /// only if it is shorter.
    #[inline(always)]
    pub(super) fn run<D: Doubles>(&self, spectrum: &[Bin], powers: &mut [Row]) {
        for (k, (turn, places)) in self.pairs.iter().enumerate() {
            for first in (0..DOUBLES).step_by(D::Register::ELEMENTS) {
                let z = Complex::<D::Register>::load(&spectrum[places[0]], first);
                let other = Complex::load(&spectrum[places[1]], first);
                // Twice the transforms of the even and of the odd samples.
                let even = Complex {
                    re: z.re.add(other.re),
                    im: z.im.sub(other.im),
                };
                let odd = Complex {
                    re: z.im.add(other.im),
                    im: other.re.sub(z.re),
                };
                let odd = odd.turned(*turn);
                even.add(odd).power().store(&mut powers[k].0, first);
                if let Some(to) = powers.get_mut(self.half - k) {
                    even.sub(odd).power().store(&mut to.0, first);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::lanes::Lanes;
    use crate::simd::{Isa, Kernel};

    /// Largest error of a frequency, relative to the sum of the magnitudes of the inputs.
    const TOLERANCE: f64 = 4e-16;

    /// Returns reproducible values in [-1, 1).
    fn noise(count: usize) -> Vec<f64> {
        let mut state = 1_u64;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    struct Run<'a, const A: usize, const B: usize, const C: usize> {
        data: &'a mut [Bin],
        filled: usize,
        low: bool,
    }

    impl<const A: usize, const B: usize, const C: usize> Kernel for Run<'_, A, B, C> {
        type Output = ();

        #[inline(always)]
        fn run<V: Lanes, const MR: usize>(self) {
            let transform = Transform::<A, B, C>::new();
            match self.low {
                true => transform.run_low::<V::Doubles>(self.data),
                false => transform.run::<V::Doubles>(self.data, self.filled),
            }
        }
    }

    /// Compares a transform with its definition on every instruction set.
    fn check<const A: usize, const B: usize, const C: usize>(filled: usize, low: bool) {
        let length = A * B * C;
        let values = noise(2 * DOUBLES * length);
        let mut input = vec![ZERO; length];
        for (to, from) in input
            .iter_mut()
            .zip(values.as_chunks::<DOUBLES>().0.as_chunks::<2>().0)
        {
            *to = from.map(Row);
        }
        let run = |isa: Isa| {
            let mut data = input.clone();
            isa.dispatch(Run::<A, B, C> {
                data: &mut data,
                filled,
                low,
            });
            data
        };
        let data = run(Isa::best());
        let frequencies = if low { length / C } else { length };
        for k in 0..frequencies {
            let got = data[Transform::<A, B, C>::place(k)];
            for lane in 0..DOUBLES {
                let (mut sum, mut size) = ([0.0; 2], 0.0);
                for (n, [re, im]) in input[..filled].iter().enumerate() {
                    let ([cos, sin], re, im) = (turn(k * n, length), re.0[lane], im.0[lane]);
                    sum[0] += re * cos - im * sin;
                    sum[1] += re * sin + im * cos;
                    size += re.hypot(im);
                }
                let error = (got[0].0[lane] - sum[0]).hypot(got[1].0[lane] - sum[1]);
                assert!(error <= TOLERANCE * size, "{length}, {k}: {error:e}");
            }
        }
        for isa in Isa::available() {
            let other = run(isa);
            for k in (0..frequencies).map(Transform::<A, B, C>::place) {
                assert_eq!(other[k], data[k], "{}: {length}", isa.name());
            }
        }
    }

    #[test]
    fn transforms_match_their_definition() {
        check::<8, 5, 5>(200, false);
        check::<8, 8, 8>(512, false);
        check::<8, 8, 8>(320, false);
        check::<4, 4, 4>(64, false);
        check::<8, 8, 4>(256, true);
    }

    struct Power<'a> {
        signal: &'a [Row],
        powers: &'a mut [Row],
    }

    impl Kernel for Power<'_> {
        type Output = ();

        #[inline(always)]
        fn run<V: Lanes, const MR: usize>(self) {
            type Half = Transform<8, 5, 5>;
            let mut data: Vec<Bin> = self.signal.as_chunks::<2>().0.to_vec();
            let half = Half::new();
            half.run::<V::Doubles>(&mut data, Half::LENGTH);
            RealPower::of(&half).run::<V::Doubles>(&data, self.powers);
        }
    }

    #[test]
    fn powers_match_their_definition() {
        let values = noise(DOUBLES * 400);
        let signal: Vec<Row> = values.as_chunks().0.iter().map(|x| Row(*x)).collect();
        for (isa, wanted) in Isa::available().into_iter().zip([201, 201, 130]) {
            let mut powers = vec![Row::ZERO; wanted];
            isa.dispatch(Power {
                signal: &signal,
                powers: &mut powers,
            });
            for (k, power) in powers.iter().enumerate() {
                for lane in 0..DOUBLES {
                    let (mut re, mut im, mut size) = (0.0, 0.0, 0.0);
                    for (n, x) in signal.iter().enumerate() {
                        let [cos, sin] = turn(k * n, signal.len());
                        re += x.0[lane] * cos;
                        im += x.0[lane] * sin;
                        size += x.0[lane].abs();
                    }
                    let error = (power.0[lane].sqrt() / 2.0 - re.hypot(im)).abs();
                    assert!(error <= 4.0 * TOLERANCE * size, "{k}: {error:e}");
                }
            }
        }
    }
}
