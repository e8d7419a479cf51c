//! SIMD: instruction sets, vectors of 16 `f32` and of 8 `f64`, and the dispatch of generic kernels.
//!
//! A kernel is written once, generic over `Lanes`, and compiled for every instruction set.
//! `Isa::dispatch` is the only way to call the compiled variants: an [`Isa`] proves that the CPU has
//! the instructions. Every variant gives the same bits.

pub(crate) mod doubles;
mod fused;
mod isa;
pub(crate) mod lanes;

pub(crate) use fused::mul_add;
pub(crate) use isa::Kernel;
pub use isa::{Isa, UnknownIsa};
