//! `powf` of `f32` for WebAssembly.
//!
//! Decoders of MP3 and AAC compute tables with the platform's `powf`, of which last bits differ between libraries. This is
//! the function of glibc and musl (Arm Optimized Routines, `powf`, MIT licence), so that a recording is decoded to the
//! same samples. It replaces the compiler's weak symbol of the same name.

/// `1 / c` and `log2(c)` for `c` near the middle of 16 parts of the mantissa's range.
const LOG2: [(u64, u64); 16] = [
    (0x3ff6_61ec_79f8_f3be, 0xbfde_fec6_5b96_3019),
    (0x3ff5_71ed_4aaf_883d, 0xbfdb_0b68_32d4_fca4),
    (0x3ff4_9539_f0f0_10b0, 0xbfd7_418b_0a1f_b77b),
    (0x3ff3_c995_b0b8_0385, 0xbfd3_9de9_1a6d_cf7b),
    (0x3ff3_0d19_0c88_64a5, 0xbfd0_1d9b_f3f2_b631),
    (0x3ff2_5e22_7b0b_8ea0, 0xbfc9_7c1d_1b3b_7af0),
    (0x3ff1_bb4a_4a1a_343f, 0xbfc2_f9e3_93af_3c9f),
    (0x3ff1_2358_f08a_e5ba, 0xbfb9_60cb_bf78_8d5c),
    (0x3ff0_953f_4199_00a7, 0xbfaa_6f9d_b647_5fce),
    (0x3ff0_0000_0000_0000, 0x0000_0000_0000_0000),
    (0x3fee_608c_fd9a_47ac, 0x3fb3_38ca_9f24_f53d),
    (0x3fec_a4b3_1f02_6aa0, 0x3fc4_76a9_5438_91ba),
    (0x3feb_2036_576a_fce6, 0x3fce_840b_4ac4_e4d2),
    (0x3fe9_c2d1_63a1_aa2d, 0x3fd4_0645_f0c6_651c),
    (0x3fe8_86e6_0378_41ed, 0x3fd8_8e9c_2c1b_9ff8),
    (0x3fe7_67dc_f553_4862, 0x3fdc_e0a4_4eb1_7bcc),
];
/// Polynomial of `log2(1 + r)`, from the highest power on.
const LOG2_POLYNOMIAL: [u64; 5] = [
    0x3fd2_7616_c949_6e0b,
    0xbfd7_1969_a075_c67a,
    0x3fde_c70a_6ca7_badd,
    0xbfe7_1547_48be_f6c8,
    0x3ff7_1547_652a_b82b,
];
/// Polynomial of `2^r`, from the highest power on.
const EXP2_POLYNOMIAL: [u64; 3] = [
    0x3fac_6af8_4b91_2394,
    0x3fce_bfce_50fa_c4f3,
    0x3fe6_2e42_ff0c_52d6,
];
/// Parts of an octave of [`exp2`].
const PARTS: u64 = 32;

fn number(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// Returns `log2(x)` of the bits of a normal positive number.
fn log2(bits: u32) -> f64 {
    const OFFSET: u32 = 0x3f33_0000;
    let difference = bits.wrapping_sub(OFFSET);
    let (inverse, log) = LOG2[((difference >> 19) & 15) as usize];
    let top = difference & 0xff80_0000;
    let z = f64::from(f32::from_bits(bits.wrapping_sub(top)));
    let exponent = f64::from(top as i32 >> 23);
    let r = z * number(inverse) - 1.0;
    let y0 = number(log) + exponent;
    let [a, b, c, d, e] = LOG2_POLYNOMIAL.map(number);
    let r2 = r * r;
    let y = a * r + b;
    let p = c * r + d;
    let r4 = r2 * r2;
    let q = e * r + y0;
    let q = p * r2 + q;
    y * r4 + q
}

/// Returns `2^x`, negative for a sign.
fn exp2(x: f64, is_negative: bool) -> f64 {
    /// Adding and subtracting it rounds to a multiple of `1 / PARTS`.
    const SHIFT: f64 = (3u64 << 51) as f64 / PARTS as f64;
    let shifted = x + SHIFT;
    let k = shifted.to_bits();
    let r = x - (shifted - SHIFT);
    let sign = if is_negative { 1 << 63 } else { 0 };
    // 2^(i / PARTS) without i's whole octaves, which come back with k.
    let part = EXP2[(k % PARTS) as usize];
    let scale = number(part.wrapping_add(k << 47).wrapping_add(sign));
    let [a, b, c] = EXP2_POLYNOMIAL.map(number);
    let z = a * r + b;
    let r2 = r * r;
    let y = c * r + 1.0;
    (z * r2 + y) * scale
}

/// Bits of `2^(i / PARTS)`, less `i << 47`.
const EXP2: [u64; PARTS as usize] = [
    0x3ff0_0000_0000_0000,
    0x3fef_d9b0_d315_8574,
    0x3fef_b558_6cf9_890f,
    0x3fef_9301_d012_5b51,
    0x3fef_72b8_3c7d_517b,
    0x3fef_5487_3168_b9aa,
    0x3fef_387a_6e75_6238,
    0x3fef_1e9d_f51f_dee1,
    0x3fef_06fe_0a31_b715,
    0x3fee_f1a7_373a_a9cb,
    0x3fee_dea6_4c12_3422,
    0x3fee_ce08_6061_892d,
    0x3fee_bfda_d536_2a27,
    0x3fee_b42b_569d_4f82,
    0x3fee_ab07_dd48_5429,
    0x3fee_a47e_b03a_5585,
    0x3fee_a09e_667f_3bcd,
    0x3fee_9f75_e8ec_5f74,
    0x3fee_a114_73eb_0187,
    0x3fee_a589_994c_ce13,
    0x3fee_ace5_422a_a0db,
    0x3fee_b737_b0cd_c5e5,
    0x3fee_c491_82a3_f090,
    0x3fee_d503_b23e_255d,
    0x3fee_e89f_995a_d3ad,
    0x3fee_ff76_f2fb_5e47,
    0x3fef_199b_dd85_529c,
    0x3fef_3720_dcef_9069,
    0x3fef_5818_dcfb_a487,
    0x3fef_7c97_337b_9b5f,
    0x3fef_a4af_a2a4_90da,
    0x3fef_d076_5b6e_4540,
];

/// Returns `x^y`.
pub fn powf(x: f32, y: f32) -> f32 {
    const NORMAL: u32 = 0x0080_0000;
    const INFINITE: u32 = 0x7f80_0000;
    const SIGN: u32 = 0x8000_0000;
    let (mut bits, exponent) = (x.to_bits(), y.to_bits());
    let is_special = |bits: u32| bits.wrapping_mul(2).wrapping_sub(1) >= 2 * INFINITE - 1;
    let mut is_negative = false;
    if bits.wrapping_sub(NORMAL) >= INFINITE - NORMAL || is_special(exponent) {
        if is_special(exponent) {
            // y is 0, infinite or NaN.
            return match () {
                () if exponent.wrapping_mul(2) == 0 || x == 1.0 => 1.0,
                () if x.is_nan() || y.is_nan() => f32::NAN,
                () if x == -1.0 => 1.0,
                () if (x.abs() < 1.0) == (y < 0.0) => f32::INFINITY,
                () => 0.0,
            };
        }
        let parity = parity(y);
        if is_special(bits) {
            // x is 0, infinite or NaN.
            let square = x * x;
            let signed = if x.is_sign_negative() && parity == Parity::Odd {
                -square
            } else {
                square
            };
            return if y < 0.0 { 1.0 / signed } else { signed };
        }
        if x < 0.0 {
            match parity {
                Parity::Fraction => return f32::NAN,
                Parity::Odd => is_negative = true,
                Parity::Even => {}
            }
            bits &= !SIGN;
        }
        if bits < NORMAL {
            bits = ((f32::from_bits(bits) * 8_388_608.0).to_bits() & !SIGN).wrapping_sub(23 << 23);
        }
    }
    let power = f64::from(y) * log2(bits);
    // Beyond these powers the result is infinite or 0.
    let signed = |value: f32| if is_negative { -value } else { value };
    if power > 128.0 {
        return signed(f32::INFINITY);
    }
    if power <= -150.0 {
        return signed(0.0);
    }
    exp2(power, is_negative) as f32
}

#[derive(Clone, Copy, PartialEq)]
enum Parity {
    Fraction,
    Odd,
    Even,
}

fn parity(y: f32) -> Parity {
    match () {
        () if y.trunc() != y => Parity::Fraction,
        () if (y / 2.0).trunc() != y / 2.0 => Parity::Odd,
        () => Parity::Even,
    }
}
