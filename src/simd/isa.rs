//! Instruction sets of the CPU, and the dispatch of a kernel to them.

#[cfg(any(
    target_arch = "x86_64",
    target_feature = "neon",
    target_feature = "simd128"
))]
use super::lanes;
use super::lanes::Lanes;

/// An instruction set that the CPU has. [`Isa::available`] is the only constructor, so a value is a
/// proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The baseline of the compilation target, except with simd128: portable kernels beside those would only make the
    /// module larger.
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
    Neon,
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    #[cfg(all(
        target_arch = "wasm32",
        target_feature = "simd128",
        feature = "relaxed-simd"
    ))]
    RelaxedSimd,
}

impl Kind {
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    const BASELINE: Self = Self::Portable;
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    const BASELINE: Self = Self::Simd128;
}

/// Environment variable that selects the instruction set.
const VARIABLE: &str = "MAEUM_ISA";

/// Error: the requested instruction set is unknown or missing on this CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE} asks for the instruction set {name:?}; this program has {} for this processor",
    Self::available()
)]
pub struct UnknownIsa {
    name: String,
}

impl UnknownIsa {
    fn available() -> String {
        let names: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        names.join(", ")
    }
}

/// A computation that is compiled once per instruction set.
pub(crate) trait Kernel {
    type Output;

    /// Runs the computation. `V` is the vector type; `MR` is the number of accumulators that the
    /// registers hold beside the operands, the largest GEMM tile height. The compiler vectorises
    /// loops that do not use `V`. Implementations are `#[inline(always)]`.
    fn run<V: Lanes, const MR: usize>(self) -> Self::Output;
}

impl Isa {
    /// Returns all instruction sets of this CPU, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self(Kind::BASELINE)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Kind::Avx2));
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    all.push(Self(Kind::Avx512));
                }
            }
        }
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        all.push(Self(Kind::Neon));
        // An engine refuses a module with instructions that it does not have.
        #[cfg(all(
            target_arch = "wasm32",
            target_feature = "simd128",
            feature = "relaxed-simd"
        ))]
        if lanes::relaxed_is_fused() {
            all.push(Self(Kind::RelaxedSimd));
        }
        all
    }

    /// Returns the fastest available instruction set.
    pub fn best() -> Self {
        *Self::available()
            .last()
            .expect("the baseline is always there")
    }

    /// Returns the instruction set named by the environment variable `MAEUM_ISA`, or the fastest
    /// one if the variable is unset. Results do not depend on the choice.
    ///
    /// # Errors
    /// When this CPU has no instruction set of that name.
    pub fn chosen() -> Result<Self, UnknownIsa> {
        match std::env::var_os(VARIABLE) {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(Self::best()),
        }
    }

    /// Returns [`Self::chosen`], or the fastest instruction set if the chosen one is missing. For code
    /// beside networks, whose plans report the error.
    pub(crate) fn chosen_or_best() -> Self {
        Self::chosen().unwrap_or_else(|_| Self::best())
    }

    /// Returns the available instruction set called `name`.
    ///
    /// # Errors
    /// When this CPU has no instruction set of that name.
    pub fn named(name: &str) -> Result<Self, UnknownIsa> {
        let mut available = Self::available().into_iter();
        available
            .find(|isa| isa.name() == name)
            .ok_or_else(|| UnknownIsa { name: name.into() })
    }

    /// Returns the name used in `MAEUM_ISA` and in reports.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon => "neon",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Simd128 => "simd128",
            #[cfg(all(
                target_arch = "wasm32",
                target_feature = "simd128",
                feature = "relaxed-simd"
            ))]
            Kind::RelaxedSimd => "relaxed-simd",
        }
    }

    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub(crate) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            Kind::Portable => kernel.run::<[f32; super::lanes::LANES], 4>(),
            // SAFETY: `available` made this value after detecting the CPU features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512(kernel) },
            #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
            Kind::Neon => neon(kernel),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Kind::Simd128 => simd128(kernel),
            #[cfg(all(
                target_arch = "wasm32",
                target_feature = "simd128",
                feature = "relaxed-simd"
            ))]
            Kind::RelaxedSimd => relaxed_simd(kernel),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<lanes::Avx2, 6>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<lanes::Avx512, 12>()
}

/// Runs `kernel` in a function of its own; kernels rely on that for register allocation, and
/// inlining would undo it. 6 x 4 accumulators leave eight of the 32 registers for weights and
/// inputs.
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[inline(never)]
fn neon<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<lanes::Neon, 6>()
}

/// Two tile rows: 2 x 4 accumulators leave half of the 16 registers of an x86-64 engine.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline(never)]
fn simd128<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<lanes::Simd128, 2>()
}

#[cfg(all(
    target_arch = "wasm32",
    target_feature = "simd128",
    feature = "relaxed-simd"
))]
#[target_feature(enable = "relaxed-simd")]
#[inline(never)]
fn relaxed_simd<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<lanes::RelaxedSimd, 2>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_can_be_chosen() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        for name in ["", "AVX2", "sse9"] {
            let message = Isa::named(name).unwrap_err().to_string();
            assert!(message.contains(&format!("{name:?}")), "{message}");
            assert!(message.contains(Isa::best().name()), "{message}");
        }
    }
}
