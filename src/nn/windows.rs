//! Sharing of rows between overlapping windows.
//!
//! The first layers of a network over time (convolutions, element-wise functions, max pooling, parts of
//! rows) are local: an output row depends on a few neighbouring input rows. Two windows that contain these
//! input rows have the same output row. Such rows are computed once for the whole sequence of
//! frames. Only the rows near a window's ends are computed per window, because convolutions pad
//! with zeros there. Both ways use the same operations in the same order, so the results are
//! bit-identical.

use super::cpu::axes::SlicePlan;
use super::cpu::conv::{ConvEpilogue, ConvPlan};
use super::cpu::gemm::Packed;
use super::layers::Activation;
use super::lowering::LoweredGraph;
use super::plan::{CpuOp, Op, Step};

mod run;

pub(super) use run::{Buffers, ChainRun};

/// Consecutive steps that are local in time; the first reads the input of the plan.
#[derive(Debug, Default)]
pub(super) struct Chain {
    stages: Vec<Stage>,
    /// Elements per input row.
    row: usize,
    /// Input rows of a window.
    rows: usize,
}

/// One step of a chain.
#[derive(Debug)]
struct Stage {
    /// Index of the step in the plan.
    step: usize,
    /// Input rows read per output row, before pooling.
    span: usize,
    /// Rows of zero padding above and below a window.
    pad_rows: [usize; 2],
    /// Rows pooled into one.
    pool: usize,
    pooling: Pooling,
    /// Epilogue of a convolution without its pooling.
    unpooled: Option<ConvEpilogue>,
    /// Rows of a window and elements per row, before pooling.
    inner: [usize; 2],
    /// Rows of a window and elements per row, after pooling.
    outer: [usize; 2],
}

/// Max pooling of a stage; windows of 1 x 1 for a stage without pooling.
#[derive(Debug)]
struct Pooling {
    size: [usize; 2],
    /// Pixels per row and elements per pixel before pooling.
    width: usize,
    channels: usize,
}

/// An op that is local in time. Other ops end a chain.
enum LocalOp<'p> {
    Conv {
        plan: &'p ConvPlan,
        packed: &'p Packed,
        epilogue: &'p ConvEpilogue,
        activation: Activation,
        channels: usize,
    },
    MaxPool {
        size: [usize; 2],
        input: [usize; 3],
    },
    /// Part of each row.
    Slice(&'p SlicePlan),
    ScaleShift {
        scale: &'p [f32],
        shift: &'p [f32],
    },
    Activation {
        function: Activation,
        last: usize,
    },
}

impl<'p> LocalOp<'p> {
    fn of(op: &'p Op) -> Option<Self> {
        match op {
            Op::Backend(CpuOp::Conv {
                plan,
                packed,
                epilogue,
                activation,
                channels,
            }) => Some(Self::Conv {
                plan,
                packed,
                epilogue,
                activation: *activation,
                channels: *channels,
            }),
            Op::Backend(CpuOp::Pool(pool)) => Some(Self::MaxPool {
                size: pool.non_overlapping_max()?,
                input: pool.input(),
            }),
            Op::Backend(CpuOp::Slice(slice)) => Some(Self::Slice(slice)),
            Op::Backend(CpuOp::ScaleShift { scale, shift }) => {
                Some(Self::ScaleShift { scale, shift })
            }
            &Op::Activation { function, last } => Some(Self::Activation { function, last }),
            _ => None,
        }
    }
}

/// Partition of a plan's steps into chains and steps that run per window.
#[derive(Debug, Default)]
pub(super) struct WindowPlan {
    chains: Vec<Chain>,
    /// The chain of each step.
    pub of_step: Vec<Option<usize>>,
    /// True if any step outside the chains, or an output, reads the windows.
    pub reads_input: bool,
}

impl WindowPlan {
    /// Finds the chains of a plan whose steps and slots are final.
    pub fn new(plan: &LoweredGraph<CpuOp>) -> Self {
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
            let convolves =
                |s: &Stage| matches!(plan.steps[s.step].op, Op::Backend(CpuOp::Conv { .. }));
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

    /// Returns the chain whose last step is `step`.
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

    /// Returns step `number` of the plan as the chain's next stage, if it is local in time.
    fn next(&self, plan: &LoweredGraph<CpuOp>, number: usize) -> Option<Stage> {
        let step = &plan.steps[number];
        let [rows, row] = self.shape();
        let value = &plan.values[step.output];
        if step.outer != 1 || value.per_draw {
            return None;
        }
        let mut stage = Stage {
            step: number,
            span: 1,
            pad_rows: [0; 2],
            pool: 1,
            pooling: Pooling {
                size: [1; 2],
                width: 1,
                channels: row,
            },
            unpooled: None,
            inner: [rows, row],
            outer: [rows, row],
        };
        match LocalOp::of(&step.op)? {
            LocalOp::Conv {
                plan,
                packed,
                epilogue,
                channels: channels_out,
                ..
            } => {
                let (span, pad_rows) = plan.local_rows()?;
                let [time, width, channels] = plan.input();
                if [time, width * channels] != [rows, row] {
                    return None;
                }
                let [_, width] = plan.size_out();
                let size = epilogue.pool.unwrap_or([1; 2]);
                stage.span = span;
                stage.pad_rows = pad_rows;
                stage.pool = size[0];
                stage.pooling = Pooling {
                    size,
                    width,
                    channels: channels_out,
                };
                stage.unpooled = Some(ConvEpilogue {
                    pool: None,
                    ..epilogue.clone()
                });
                stage.inner = [
                    (pad_rows[0] + rows + pad_rows[1] + 1).checked_sub(span)?,
                    width * packed.n,
                ];
                stage.outer = [stage.inner[0] / size[0], width / size[1] * packed.n];
            }
            LocalOp::MaxPool {
                size,
                input: [time, width, channels],
            } => {
                if [time, width * channels] != [rows, row] {
                    return None;
                }
                stage.pool = size[0];
                stage.pooling = Pooling {
                    size,
                    width,
                    channels,
                };
                stage.outer = [rows / size[0], value.elements / (rows / size[0])];
            }
            LocalOp::Slice(slice) if row.is_multiple_of(slice.block()) => {
                stage.outer = [rows, row / slice.block() * slice.sliced()];
            }
            LocalOp::ScaleShift { scale, .. } if row.is_multiple_of(scale.len()) => {}
            LocalOp::Activation { last, .. } if row.is_multiple_of(last) => {}
            LocalOp::Slice(_) | LocalOp::ScaleShift { .. } | LocalOp::Activation { .. } => {
                return None;
            }
        }
        (stage.outer[0] * stage.outer[1] == value.elements).then_some(stage)
    }
}

#[cfg(test)]
mod tests;
