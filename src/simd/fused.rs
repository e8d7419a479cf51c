//! Fused multiply-adds of `f32` for targets without such an instruction.

/// Bits of an `f64` mantissa below the last bit of an `f32` mantissa, and their value halfway between two `f32`.
const DROPPED: u64 = (1 << 29) - 1;
const HALFWAY: u64 = 1 << 28;

/// Returns `x * y + z`, rounded once: [`f32::mul_add`], of which the library functions of some targets double
/// the rounding of subnormal results and cannot be inlined.
///
/// In `f64` the product is exact, so the sum is rounded once to 53 bits and a second time to 24. Both
/// roundings together differ from a single one only where the first ends halfway between two `f32`
/// without being exact; [`round_to_odd`] repairs these sums.
#[inline(always)]
pub(crate) fn mul_add(x: f32, y: f32, z: f32) -> f32 {
    if cfg!(any(
        target_arch = "wasm32",
        all(target_arch = "x86", target_feature = "sse2")
    )) {
        return in_double(x, y, z);
    }
    x.mul_add(y, z)
}

/// [`mul_add`] without an instruction. Vector kernels have their own: inlined, this one would multiply the code of those that
/// are not used.
#[inline(never)]
fn in_double(x: f32, y: f32, z: f32) -> f32 {
    let (product, z) = (f64::from(x) * f64::from(y), f64::from(z));
    let sum = product + z;
    match is_doubtful(sum) {
        false => sum as f32,
        true => round_to_odd(product, z) as f32,
    }
}

/// Returns true for a sum that is halfway between two `f32`, or nearer to zero than the least normal `f32`, where
/// that halfway is elsewhere in the bits.
#[inline(always)]
fn is_doubtful(sum: f64) -> bool {
    let magnitude = sum.to_bits() & (u64::MAX >> 1);
    sum.to_bits() & DROPPED == HALFWAY
        || magnitude.wrapping_sub(1) < f64::from(f32::MIN_POSITIVE).to_bits() - 1
}

/// Returns `a + b` rounded to odd: the nearer of an inexact sum's two neighbours whose last bit is set. A second
/// rounding to fewer bits then gives what one rounding of the exact sum gives (Boldo and Melquiond, "Emulation of
/// a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers
/// 57(4), 2008).
#[cold]
#[inline(never)]
pub(super) fn round_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // Knuth's exact error of a sum; NaN if a term is not finite.
    let other = sum - a;
    let error = (a - (sum - other)) + (b - other);
    let bits = sum.to_bits();
    if error == 0.0 || error.is_nan() || bits & 1 == 1 {
        return sum;
    }
    // An inexact sum is not zero. Away from zero, the next bit pattern is one more.
    f64::from_bits(match (error > 0.0) == (sum > 0.0) {
        true => bits + 1,
        false => bits - 1,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(x: f32, y: f32, z: f32) {
        let (got, wanted) = (in_double(x, y, z), x.mul_add(y, z));
        assert!(
            got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(),
            "{x:e} * {y:e} + {z:e}: {got:e}, not {wanted:e}"
        );
    }

    proptest! {
        #[test]
        fn any_bits_give_the_instruction_s_result(x: u32, y: u32, z: u32) {
            check(f32::from_bits(x), f32::from_bits(y), f32::from_bits(z));
        }

        /// A product close to halfway between two neighbours of the sum, at every scale down to the subnormals.
        #[test]
        fn sums_beside_halfway_are_rounded_once(
            z: u32, below in 0u32..70, tail in 1u32..4096, is_negative: bool, whole: bool,
        ) {
            let z = f32::from_bits(z);
            prop_assume!(z.is_finite());
            let step = f32::from_bits((z.abs().to_bits() + 1).min(f32::MAX.to_bits())) - z.abs();
            // (1 + t * 2^-23) * step / 2 * (1 or a little more)
            let x = 1.0 + if whole { 0.0 } else { tail as f32 * f32::EPSILON };
            let y = (f64::from(step) / 2.0 * (1.0 + 2f64.powi(-(below as i32)))) as f32;
            check(x, if is_negative { -y } else { y }, z);
            check(x * 2f32.powi(-40), y * 2f32.powi(40), z);
        }
    }

    /// Products slightly nearer to zero than half the distance of `z` and its neighbour, whose mantissa is even.
    #[test]
    fn double_rounding_is_repaired() {
        let normal = (1.0 + f32::EPSILON, 2f32.powi(-24), 2f32.powi(-15));
        let subnormal = (f32::from_bits(0x0040_0001), 2f32.powi(-75), 2f32.powi(-16));
        for ((z, y, a), scale) in [(normal, 1.0), (subnormal, 2f32.powi(-75))] {
            let (x, y) = ((1.0 + a) * scale, (1.0 - a) * y);
            let twice = (f64::from(x) * f64::from(y) + f64::from(z)) as f32;
            assert_ne!(
                twice,
                x.mul_add(y, z),
                "the case is not one of double rounding"
            );
            for (x, y, z) in [(x, y, z), (-x, y, z), (x, y, -z), (-x, y, -z), (y, x, z)] {
                check(x, y, z);
            }
        }
    }
}
