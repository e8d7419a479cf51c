//! Steps that can be left out or done together with another.

use super::{Op, Plan, Step};
use crate::nn::cpu::conv::Finish;
use crate::nn::cpu::gemm::Affine;
use crate::nn::layer::Activation;

/// How often a value is read, and by which step at last.
#[derive(Clone, Copy, Default)]
struct Readers {
    count: usize,
    last: usize,
}

impl Plan {
    /// Leaves out what nobody reads, and does what follows a convolution together with it. The
    /// results are the same bits.
    pub(super) fn fuse(&mut self) {
        self.drop_unread();
        let readers = self.readers();
        let mut steps: Vec<Option<Step>> = std::mem::take(&mut self.steps)
            .into_iter()
            .map(Some)
            .collect();
        for i in 0..steps.len() {
            let Some(mut step) = steps[i].take() else {
                continue;
            };
            while let Readers { count: 1, last } = readers[step.output]
                && let Some(next) = &steps[last]
                && next.outer == step.outer
                && step.op.absorb(&next.op)
            {
                step.output = next.output;
                steps[last] = None;
            }
            steps[i] = Some(step);
        }
        self.steps = steps.into_iter().flatten().collect();
    }

    fn drop_unread(&mut self) {
        let mut read = vec![false; self.values.len()];
        for output in &self.outputs {
            read[output.value] = true;
        }
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            // A dropout is also what asks for its mask.
            if read[step.output] || matches!(step.op, Op::Dropout { .. }) {
                for &input in &step.inputs {
                    read[input] = true;
                }
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }

    /// The plan's outputs count as read by no step.
    fn readers(&self) -> Vec<Readers> {
        let mut readers = vec![Readers::default(); self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for &input in &step.inputs {
                readers[input].count += 1;
                readers[input].last = i;
            }
        }
        for output in &self.outputs {
            readers[output.value].count += 2;
        }
        readers
    }
}

impl Op {
    /// Becomes itself followed by `next`, if that can be done at once.
    fn absorb(&mut self, next: &Self) -> bool {
        match self {
            Self::Conv {
                plan,
                finish,
                activation: Activation::Linear,
                channels,
                ..
            } => finish.absorb(next, plan.size_out(), *channels),
            Self::ScaledConv(conv) => match next {
                Self::Activation {
                    function: Activation::Relu,
                    ..
                } => conv.fuse_relu(),
                Self::ScaleShift { scale, shift } => conv.fuse_affine(scale, shift),
                Self::Pool(pool) => conv.fuse_pool(pool),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Finish {
    /// The same for what follows a convolution whose result has these rows and columns.
    fn absorb(&mut self, next: &Op, [rows, columns]: [usize; 2], channels: usize) -> bool {
        if self.pool.is_some() {
            return false;
        }
        let epilogue = &mut self.epilogue;
        match next {
            Op::Activation {
                function: Activation::Relu,
                ..
            } => match epilogue.affine {
                None => epilogue.relu = true,
                Some(_) => epilogue.relu_last = true,
            },
            Op::ScaleShift { scale, shift }
                if epilogue.affine.is_none() && scale.len() == channels =>
            {
                epilogue.affine = Some(Affine::new(scale, shift));
            }
            Op::Pool(pool) if pool.input() == [rows, columns, channels] => match pool.plain_max() {
                Some(size) => self.pool = Some(size),
                None => return false,
            },
            _ => return false,
        }
        true
    }
}
