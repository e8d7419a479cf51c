//! Parametric ReLU.

use super::{KernelLaunch, PlainOp, StepValues, size_arg};
use crate::nn::cuda::driver::DeviceError;
use crate::nn::cuda::plan::Constant;
use crate::nn::cuda::sources::names;

/// `x` where `x > 0`, else `alpha * x`.
#[derive(Debug)]
pub(in crate::nn::cuda) struct PRelu {
    /// Slopes of the size of an item.
    pub alpha: Constant,
    pub item: usize,
}

impl PlainOp for PRelu {
    fn name(&self) -> &'static str {
        "parametric relu"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        let args = vec![
            step.input(0)?,
            step.constant(self.alpha)?,
            step.output()?,
            size_arg(self.item),
        ];
        Ok(KernelLaunch::each(names::PRELU, step.count(), args))
    }
}
