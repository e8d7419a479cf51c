//! Dead-step removal and fusion of steps.

use super::{Backend, LoweredGraph, Op, Step};

/// Consumers of a value.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::nn) struct Readers {
    pub steps: usize,
    pub last: usize,
    /// True if the value is an output of the plan.
    pub output: bool,
}

impl Readers {
    /// Returns the only step that reads the value, if there is exactly one reader.
    pub fn only(self) -> Option<usize> {
        (self.steps == 1 && !self.output).then_some(self.last)
    }
}

impl<W> LoweredGraph<W> {
    /// Removes dead steps and fuses what the back end supports.
    pub(super) fn fuse<B: Backend<BackendOp = W>>(&mut self) {
        self.remove_dead_steps();
        B::fuse_patterns(self);
        let readers = self.readers();
        let mut steps: Vec<Option<Step<W>>> = std::mem::take(&mut self.steps)
            .into_iter()
            .map(Some)
            .collect();
        for i in 0..steps.len() {
            let Some(mut step) = steps[i].take() else {
                continue;
            };
            while let Some(last) = readers[step.output].only()
                && let Some(next) = &steps[last]
                && next.outer == step.outer
                && next.inputs.len() == 1
                && B::fuse(&mut step.op, &next.op)
            {
                step.output = next.output;
                steps[last] = None;
            }
            steps[i] = Some(step);
        }
        self.steps = steps.into_iter().flatten().collect();
    }

    pub fn remove_dead_steps(&mut self) {
        let mut read = vec![false; self.values.len()];
        for output in &self.outputs {
            read[output.value] = true;
        }
        let mut kept: Vec<Step<W>> = Vec::with_capacity(self.steps.len());
        for step in std::mem::take(&mut self.steps).into_iter().rev() {
            let is_read = read[step.output] || step.second.is_some_and(|v| read[v]);
            // A dropout is kept: it defines the mask that the caller must supply.
            if is_read || matches!(step.op, Op::Dropout(_)) {
                for &input in &step.inputs {
                    read[input] = true;
                }
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }

    pub fn readers(&self) -> Vec<Readers> {
        let mut readers = vec![Readers::default(); self.values.len()];
        for (i, step) in self.steps.iter().enumerate() {
            for &input in &step.inputs {
                readers[input].steps += 1;
                readers[input].last = i;
            }
        }
        for output in &self.outputs {
            readers[output.value].output = true;
        }
        readers
    }
}
