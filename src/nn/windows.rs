//! Windows that overlap share the rows that are the same numbers in each.
//!
//! The first layers of a network over time (convolutions, functions of single numbers, maxima of
//! neighbours) give in each row what a few rows of their input say. So, wherever those rows lie
//! inside two windows, both get the same number from them. Such rows are computed once, for the
//! whole sheet that the windows are cut from; only the rows near a window's first and last are
//! its own, because of the zeros that convolutions see beyond them. A row is computed by the same
//! operations in the same order either way, so that the results are the same bits.

use super::cpu::conv::Finish;
use super::lowering::Parts;
use super::plan::{Op, Own, Step};

mod run;

pub(super) use run::{Buffers, Run};

/// Consecutive layers of a plan, the first of which reads its input, that are local in time.
#[derive(Debug, Default)]
pub(super) struct Chain {
    stages: Vec<Stage>,
    /// Numbers in a row of the input.
    row: usize,
    /// Rows of a window.
    rows: usize,
}

/// One of them.
#[derive(Debug)]
struct Stage {
    /// Its number in the plan.
    step: usize,
    /// Rows of the input per row of a result before pooling.
    span: usize,
    /// Rows of zeros that a window has above and below.
    around: [usize; 2],
    /// Rows that are pooled into one.
    pool: usize,
    /// What follows a convolution but pooling.
    unpooled: Option<Finish>,
    /// Rows of a window and numbers in a row before pooling.
    inner: [usize; 2],
    /// The same of the result.
    outer: [usize; 2],
}

/// How the windows' plan is run: its chains, and what is left.
#[derive(Debug, Default)]
pub(super) struct WindowPlan {
    chains: Vec<Chain>,
    /// For each step of the plan the chain that it belongs to.
    pub of_step: Vec<Option<usize>>,
    /// Whether something else reads the windows themselves.
    pub reads_input: bool,
}

impl WindowPlan {
    /// For a plan that is otherwise done.
    pub fn new(plan: &Parts<Own>) -> Self {
        let mut found = Self {
            of_step: vec![None; plan.steps.len()],
            reads_input: true,
            ..Self::default()
        };
        let [input] = &*plan.inputs else {
            return found;
        };
        let shape = &plan.values[input.value].shape;
        if plan.keeps_all || shape.len() < 2 {
            return found;
        }
        let readers = plan.readers();
        for first in 0..plan.steps.len() {
            if plan.steps[first].inputs != [input.value] {
                continue;
            }
            let mut chain = Chain {
                stages: Vec::new(),
                row: shape[1..].iter().product(),
                rows: shape[0],
            };
            let mut number = first;
            while let Some(stage) = chain.next(plan, number) {
                chain.stages.push(stage);
                match readers[plan.steps[number].output].only() {
                    Some(next) if plan.steps[next].inputs.len() == 1 => number = next,
                    _ => break,
                }
            }
            let convolves = |s: &Stage| matches!(plan.steps[s.step].op, Op::Own(Own::Conv { .. }));
            if chain.stages.iter().any(convolves) {
                for stage in &chain.stages {
                    found.of_step[stage.step] = Some(found.chains.len());
                }
                found.chains.push(chain);
            }
        }
        let is_input = |step: &Step| step.inputs.contains(&input.value);
        let left = plan.steps.iter().zip(&found.of_step);
        found.reads_input = left
            .into_iter()
            .any(|(s, chain)| is_input(s) && chain.is_none())
            || plan.outputs.iter().any(|o| o.value == input.value);
        found
    }

    /// The chain whose last step this is.
    pub fn ends(&self, step: usize) -> Option<&Chain> {
        let chain = &self.chains[self.of_step[step]?];
        (chain.stages.last()?.step == step).then_some(chain)
    }
}

impl Chain {
    fn shape(&self) -> [usize; 2] {
        self.stages
            .last()
            .map_or([self.rows, self.row], |s| s.outer)
    }

    /// Step `number` of the plan as the chain's next stage, if it is local in time.
    fn next(&self, plan: &Parts<Own>, number: usize) -> Option<Stage> {
        let step = &plan.steps[number];
        let [rows, row] = self.shape();
        let value = &plan.values[step.output];
        if step.outer != 1 || value.drawn {
            return None;
        }
        let mut stage = Stage {
            step: number,
            span: 1,
            around: [0; 2],
            pool: 1,
            unpooled: None,
            inner: [rows, row],
            outer: [rows, row],
        };
        match &step.op {
            Op::Own(Own::Conv {
                plan,
                packed,
                finish,
                ..
            }) => {
                let (span, around) = plan.rows_apart()?;
                let [time, width, channels] = plan.input();
                if [time, width * channels] != [rows, row] {
                    return None;
                }
                let [_, width] = plan.size_out();
                stage.span = span;
                stage.around = around;
                stage.pool = finish.pool.map_or(1, |p| p[0]);
                stage.unpooled = Some(Finish {
                    pool: None,
                    ..finish.clone()
                });
                stage.inner = [
                    (around[0] + rows + around[1] + 1).checked_sub(span)?,
                    width * packed.channels,
                ];
                let wide = finish.pool.map_or(1, |p| p[1]);
                stage.outer = [stage.inner[0] / stage.pool, width / wide * packed.channels];
            }
            Op::Own(Own::Pool(pool)) => {
                let [high, _] = pool.plain_max()?;
                let [time, width, channels] = pool.input();
                if [time, width * channels] != [rows, row] {
                    return None;
                }
                stage.pool = high;
                stage.outer = [rows / high, value.elements / (rows / high)];
            }
            Op::Own(Own::ScaleShift { scale, .. }) if row.is_multiple_of(scale.len()) => {}
            Op::Activation { last, .. } if row.is_multiple_of(*last) => {}
            _ => return None,
        }
        (stage.outer[0] * stage.outer[1] == value.elements).then_some(stage)
    }
}

#[cfg(test)]
mod tests;
