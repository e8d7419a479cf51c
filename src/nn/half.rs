//! IEEE 754 binary16, the format in which bundles store weights that it represents exactly.

/// Fraction bits of `f32` that binary16 lacks.
const CUT: u32 = 23 - 10;
/// Difference between the exponent biases of `f32` (127) and binary16 (15).
const BIAS: u32 = 127 - 15;
/// 2 to the power of [`BIAS`].
const REBIAS: f32 = f32::from_bits((127 + BIAS) << 23);
/// The unit in the last place of binary16's subnormal numbers, 2^-24.
const SUBNORMAL: f32 = 1.0 / (1 << 24) as f32;

/// Converts `half` to `f32`, exactly.
pub fn widen(half: u16) -> f32 {
    let half = u32::from(half);
    let (sign, magnitude) = (half >> 15 << 31, (half & 0x7fff) << CUT);
    // The product rescales the exponent, also for subnormals. Without a branch the loop vectorises.
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    let infinite = magnitude | 255 << 23;
    let is_finite = half >> 10 & 31 != 31;
    f32::from_bits(sign | if is_finite { finite } else { infinite })
}

/// Returns the finite binary16 value that equals `x` including the sign of zero, or `None`.
pub fn narrow(x: f32) -> Option<u16> {
    let bits = x.to_bits();
    let exponent = bits >> 23 & 255;
    let magnitude = if exponent > BIAS {
        ((bits & 0x7fff_ffff) - (BIAS << 23)) >> CUT
    } else {
        (x.abs() / SUBNORMAL) as u32
    };
    // A magnitude that is too large reaches the exponent of infinity or overflows `u16`.
    let half = u16::try_from(magnitude).ok()? | u16::from(x.is_sign_negative()) << 15;
    (x.is_finite() && widen(half).to_bits() == bits).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for half in 0..=u16::MAX {
            let x = widen(half);
            let finite = half >> 10 & 31 != 31;
            assert_eq!(x.is_finite(), finite, "{half:#x}");
            assert_eq!(narrow(x), finite.then_some(half), "{half:#x}");
        }
    }

    #[test]
    fn every_half_is_that_of_the_crate_half() {
        for half in 0..=u16::MAX {
            let (got, wanted) = (widen(half), ::half::f16::from_bits(half).to_f32());
            // The bits of a NaN are not specified.
            let is_equal = got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan();
            assert!(is_equal, "{half:#x}: {got} {wanted}");
        }
    }

    #[test]
    fn other_numbers_have_no_half() {
        for x in [
            0.1,
            1.0 + 2f32.powi(-11),
            65504.0 + 16.0,
            65536.0,
            1e38,
            2f32.powi(-25),
            1.5 * 2f32.powi(-24),
            2f32.powi(-14) + 2f32.powi(-25),
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::INFINITY,
            f32::NAN,
        ] {
            assert_eq!(narrow(x), None, "{x}");
            assert_eq!(narrow(-x), None, "-{x}");
        }
    }
}
