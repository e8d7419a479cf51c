//! Interface of the ops that run as they are.

use std::fmt::Debug;

use crate::simd::Isa;

/// An op with its attributes and prepared weights, which is neither fused nor shared between
/// overlapping windows.
pub(crate) trait PlainOp: Debug + Send + Sync {
    /// Returns the scratch elements for `items` items.
    fn scratch(&self, items: usize) -> usize;

    /// Computes the output. Sums have one fixed order and fused multiply-adds, so that every
    /// instruction set, batch size and number of threads gives the same bits.
    fn run(&self, call: OpCall);
}

/// Values of one execution of an op.
pub(crate) struct OpCall<'a, 'v> {
    pub isa: Isa,
    /// Rows of the batch times the dimensions that count as batch.
    pub items: usize,
    /// Returns an input by its number.
    pub input: &'a dyn Fn(usize) -> &'v [f32],
    pub output: &'a mut [f32],
    /// As many elements as [`PlainOp::scratch`] returns, of any value.
    pub scratch: &'a mut [f32],
}
