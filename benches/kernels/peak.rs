//! Peak rate of fused multiply-adds in registers.

use std::hint::black_box;

use maeum::simd::Isa;

/// Returns the steps that take about a tenth of a millisecond.
pub fn steps(isa: Isa) -> u64 {
    match isa.name() {
        "portable" => 1_000,
        _ => 20_000,
    }
}

/// Runs `steps` steps and returns their floating-point operations.
pub fn run(isa: Isa, steps: u64) -> u64 {
    match isa.name() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this instruction set exists only if the CPU has it.
        "avx2" => unsafe { x86::avx2(steps) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: see above.
        "avx512" => unsafe { x86::avx512(steps) },
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        "neon" => neon::neon(steps),
        _ => portable(steps),
    }
}

/// Defines a function that updates `$sums` accumulators of `$lanes` elements in turn. Their number
/// exceeds latency times throughput of a multiply-add, and fits into the registers.
macro_rules! peak {
    ($(#[$attribute:meta])* $name:ident, $sums:literal x $lanes:literal, $splat:expr, $add:expr) => {
        $(#[$attribute])*
        pub fn $name(steps: u64) -> u64 {
            let (x, y) = ($splat(black_box(0.5)), $splat(black_box(0.25)));
            let mut sums = [$splat(black_box(0.0)); $sums];
            for _ in 0..steps {
                for sum in &mut sums {
                    *sum = $add(x, y, *sum);
                }
            }
            black_box(sums);
            steps * $sums * $lanes * 2
        }
    };
}

peak!(
    portable,
    4 x 16,
    |x| [x; 16],
    |x: [f32; 16], y: [f32; 16], sum: [f32; 16]| -> [f32; 16] {
        std::array::from_fn(|i| x[i].mul_add(y[i], sum[i]))
    }
);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    peak!(
        #[target_feature(enable = "avx2,fma")]
        avx2, 12 x 8, _mm256_set1_ps, _mm256_fmadd_ps
    );
    peak!(
        #[target_feature(enable = "avx512f")]
        avx512, 24 x 16, _mm512_set1_ps, _mm512_fmadd_ps
    );
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon {
    use std::arch::aarch64::*;
    use std::hint::black_box;

    peak!(
        #[target_feature(enable = "neon")]
        neon, 24 x 4, vdupq_n_f32, |x, y, sum| vfmaq_f32(sum, x, y)
    );
}
