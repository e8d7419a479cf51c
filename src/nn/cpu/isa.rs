//! Which instructions the processor has, and how a kernel gets compiled for them.

/// Proof that the processor has a set of instructions: only [`Isa::available`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What the compilation target guarantees.
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A computation whose inner loops are written for arrays of lanes, so that the compiler turns
/// them into the vector instructions of whatever instruction set it is compiled for.
pub(crate) trait Kernel {
    type Output;

    /// `PIXELS` is how many outputs of one lane block fit into the registers at once.
    /// Implementations are `#[inline(always)]`.
    fn run<const PIXELS: usize>(self) -> Self::Output;
}

impl Isa {
    /// All instruction sets that this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut all = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Kind::Avx2));
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    all.push(Self(Kind::Avx512));
                }
            }
        }
        all
    }

    /// The fastest available one.
    pub fn best() -> Self {
        *Self::available().last().expect("portable is always there")
    }

    /// Its name, as in reports.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub(crate) fn dispatch<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => kernel.run::<4>(),
            // SAFETY: this value was made by `available`, after the processor said that it has
            // the features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<6>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<12>()
}
