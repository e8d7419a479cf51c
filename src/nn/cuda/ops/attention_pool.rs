//! Attention pooling, a fused pattern of layers.

use super::{KernelLaunch, PlainOp, StepValues, THREADS};
use crate::nn::cuda::driver::{Arg, DeviceError};
use crate::nn::cuda::sources::names;

/// Softmax of scores over the rows of a sequence `[n, width]`, and the weighted sum or mean of its
/// rows. Also writes the attention weights if they are read.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn::cuda) struct AttentionPool {
    pub n: usize,
    pub width: usize,
    pub scores: Scores,
    /// True if there is one weight per row instead of one per element.
    pub narrow: bool,
    pub mean: bool,
}

/// Layout of the scores of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nn::cuda) enum Scores {
    /// `[n, width]`
    AsSequence,
    /// `[width, n]`
    Permuted,
    /// `[n]`
    OfRows,
}

impl AttentionPool {
    /// Arguments as the struct of `attention_pool` in reduce.cu.
    pub fn to_kernel_args(self) -> Vec<u32> {
        let Self { n, width, .. } = self;
        let (row, column, scores) = match self.scores {
            Scores::AsSequence => (width, 1, n * width),
            Scores::Permuted => (1, n, n * width),
            Scores::OfRows => (1, 0, n),
        };
        let weights = if self.narrow { 1 } else { width };
        let mean = usize::from(self.mean);
        let words = [n, width, row, column, scores, weights, mean];
        words.iter().map(|&n| n as u32).collect()
    }
}

impl PlainOp for AttentionPool {
    fn name(&self) -> &'static str {
        "attention pool"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        Ok(KernelLaunch {
            kernel: names::ATTENTION_POOL,
            blocks: step.items() * self.width.div_ceil(32),
            threads: THREADS,
            shared: 0,
            args: vec![
                step.input(0)?,
                step.input(1)?,
                step.second()?.unwrap_or(Arg::Pointer(0)),
                step.output()?,
                Arg::Words(self.to_kernel_args()),
            ],
        })
    }
}
