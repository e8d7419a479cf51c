//! Steps that can be left out or done together with another.

use super::{After, Parts, Step};
use crate::nn::cuda::ops::{Conv, Op};
use crate::nn::layer::Activation;

/// How often a value is read, and by which step at last.
#[derive(Clone, Copy, Default)]
struct Readers {
    count: usize,
    last: usize,
}

impl Parts {
    /// Leaves out what nobody reads, and does together with a convolution what stands before and
    /// behind it.
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
                && let Some(next) = &mut steps[last]
                && next.outer == step.outer
            {
                if step.absorb(next) {
                    step.output = next.output;
                    steps[last] = None;
                    continue;
                }
                if step.is_scale_of(next) {
                    // The convolution does it; its inputs are the product's.
                    if let Op::Conv(conv) = &mut next.op {
                        conv.scaled = true;
                    }
                    next.inputs = step.inputs.clone();
                    step.output = usize::MAX;
                }
                break;
            }
            if step.output != usize::MAX {
                steps[i] = Some(step);
            }
        }
        self.steps = steps.into_iter().flatten().collect();
        self.drop_unread();
    }

    fn drop_unread(&mut self) {
        let mut read = vec![false; self.values.len()];
        for output in &self.outputs {
            read[output.value] = true;
        }
        let mut kept: Vec<Step> = Vec::with_capacity(self.steps.len());
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            // A dropout is also what asks for its mask.
            if read[step.output] || matches!(step.op, Op::Dropout(_)) {
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

impl Step {
    /// Becomes itself followed by `next`, if that can be done at once.
    fn absorb(&mut self, next: &Self) -> bool {
        if self.after.is_some() {
            return false;
        }
        match (&mut self.op, &next.op) {
            (Op::Dense(dense), Op::Activation(Activation::Relu)) => {
                dense.relu = true;
                true
            }
            (Op::Dense(dense), &Op::Softmax { n, after: 1 }) if dense.units == n && !dense.relu => {
                self.after = Some(After::Softmax(n));
                true
            }
            (Op::Conv(conv), op) => conv.absorb(op),
            _ => false,
        }
    }

    /// Whether this scales the channels of what the convolution `next` reads.
    fn is_scale_of(&self, next: &Self) -> bool {
        let (Op::ChannelMultiply { item, channels }, Op::Conv(conv)) = (&self.op, &next.op) else {
            return false;
        };
        !conv.scaled && *item == conv.input.iter().product::<usize>() && *channels == conv.input[2]
    }
}

impl Conv {
    fn absorb(&mut self, next: &Op) -> bool {
        if self.pool {
            return false;
        }
        match next {
            Op::Activation(Activation::Relu) => match self.affine {
                None => self.relu = true,
                Some(_) => self.relu_last = true,
            },
            &Op::ScaleShift {
                scale,
                shift,
                channels,
            } if self.affine.is_none() && channels == self.output[2] => {
                self.affine = Some((scale, shift));
            }
            Op::Pool(pool)
                if self.tiling.is_some()
                    && pool.image.input == self.output
                    && pool.is_plain_max() =>
            {
                self.pool = true;
            }
            _ => return false,
        }
        true
    }
}
