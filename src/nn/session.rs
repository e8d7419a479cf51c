//! Running a plan: one thread's buffers, used again from run to run.

use std::sync::Arc;

use super::cpu::gemm::{Start, matmul};
use super::cpu::{Isa, elementwise, layout, math, pool};
use super::dropout::{DropoutMode, draw_factors};
use super::graph::ValueId;
use super::layer::{Activation, MergeOp};
use super::plan::{Op, Plan, Step};

/// Why a run is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Data for more or fewer inputs than the network has.
    #[error("the network has {expected} inputs, {given} were given")]
    Inputs {
        /// Inputs of the plan.
        expected: usize,
        /// Slices that were given.
        given: usize,
    },
    /// An input's data is not `batch` rows of its shape.
    #[error("input {name} holds {given} numbers; {batch} rows of {elements} are needed")]
    InputLength {
        /// The input's name in the graph.
        name: String,
        /// Numbers in the slice.
        given: usize,
        /// Rows of the run.
        batch: usize,
        /// Numbers per row.
        elements: usize,
    },
    /// The name of a forced dropout node that [`DropoutMode::Masks`] lacks.
    #[error("no dropout mask is given for {0}")]
    MissingMask(String),
    /// A mask has not one decision per row and unit.
    #[error("the dropout mask for {name} holds {given} decisions, {expected} are needed")]
    MaskLength {
        /// Name of the forced dropout node.
        name: String,
        /// Decisions in the mask.
        given: usize,
        /// Rows times units.
        expected: usize,
    },
    /// The values of all rows would take more than 4 GiB.
    #[error("{rows} rows are too many for one run; split the batch or draw less often")]
    TooLarge {
        /// Batch times draws.
        rows: usize,
    },
}

/// The most numbers that the values of a run may take together (4 GiB).
const MAX_RUN_ELEMENTS: usize = 1 << 30;

/// The buffers for running one plan on one thread. After the first run of a size, no run of that
/// size or smaller allocates memory.
#[derive(Debug)]
pub struct Session {
    plan: Arc<Plan>,
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    batch: usize,
    draws: usize,
    first_draw: u32,
}

impl Session {
    /// Empty buffers for `plan`, which other threads' sessions may share.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self {
            slots: vec![Vec::new(); plan.slots],
            plan: Arc::clone(plan),
            scratch: Vec::new(),
            batch: 0,
            draws: 1,
            first_draw: 0,
        }
    }

    /// What it runs, with the shapes of inputs and outputs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes that the buffers take: those of the largest run.
    pub fn held_bytes(&self) -> usize {
        let slots = self.slots.iter().map(Vec::capacity).sum::<usize>();
        (slots + self.scratch.capacity()) * size_of::<f32>()
    }

    /// Computes the outputs for `batch` rows. `inputs` holds one slice per input of the plan, in
    /// its order, with the rows one after the other.
    ///
    /// # Errors
    /// When inputs or masks do not have the sizes that the plan needs.
    pub fn run(
        &mut self,
        inputs: &[&[f32]],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), RunError> {
        self.run_from_draw(0, inputs, batch, dropout)
    }

    /// Like [`Session::run`], but the draws are those from number `first` on: many draws can be
    /// computed in parts of bounded memory.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_from_draw(
        &mut self,
        first: u32,
        inputs: &[&[f32]],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), RunError> {
        let plan = Arc::clone(&self.plan);
        if inputs.len() != plan.inputs.len() {
            return Err(RunError::Inputs {
                expected: plan.inputs.len(),
                given: inputs.len(),
            });
        }
        let draws = match plan.dropouts {
            0 => 1,
            _ => dropout.rows(),
        };
        self.check_size(&plan, batch, draws)?;
        self.check_masks(&plan, batch, dropout)?;
        for (input, data) in plan.inputs.iter().zip(inputs) {
            if data.len() != batch * input.elements {
                return Err(RunError::InputLength {
                    name: input.name.clone(),
                    given: data.len(),
                    batch,
                    elements: input.elements,
                });
            }
        }
        self.batch = batch;
        self.draws = draws;
        self.first_draw = first;
        for (input, data) in plan.inputs.iter().zip(inputs) {
            let slot = &mut self.slots[plan.values[input.value].slot];
            slot.clear();
            slot.extend_from_slice(data);
        }
        for step in &plan.steps {
            self.step(&plan, step, dropout);
        }
        Ok(())
    }

    fn check_size(&self, plan: &Plan, batch: usize, draws: usize) -> Result<(), RunError> {
        let too_large = RunError::TooLarge {
            rows: batch.saturating_mul(draws),
        };
        // Values that no dropout touches are counted as if they had a row per draw: an upper bound.
        batch
            .checked_mul(draws)
            .and_then(|rows| rows.checked_mul(plan.elements))
            .filter(|&n| n <= MAX_RUN_ELEMENTS)
            .map(drop)
            .ok_or(too_large)
    }

    fn check_masks(&self, plan: &Plan, batch: usize, mode: &DropoutMode) -> Result<(), RunError> {
        let DropoutMode::Masks(masks) = mode else {
            return Ok(());
        };
        for step in &plan.steps {
            if let Op::Dropout { name, units, .. } = &step.op {
                let mask = masks
                    .0
                    .get(name)
                    .ok_or_else(|| RunError::MissingMask(name.clone()))?;
                if mask.len() != batch * units {
                    return Err(RunError::MaskLength {
                        name: name.clone(),
                        given: mask.len(),
                        expected: batch * units,
                    });
                }
            }
        }
        Ok(())
    }

    /// Rows of each output of the last run: its batch times its draws.
    pub fn rows(&self) -> usize {
        self.batch * self.draws
    }

    /// Output number `index` of the last run, [`Session::rows`] rows: for each input row its
    /// draws one after the other.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn output(&self, index: usize) -> &[f32] {
        &self.slots[self.plan.values[self.plan.outputs[index].value].slot]
    }

    /// Any value of the last run, if the plan was made to keep all. Values that no dropout
    /// touches have one row per input row, the others one per draw.
    pub fn value(&self, value: ValueId) -> Option<&[f32]> {
        let slot = self.plan.values.get(value.0)?.slot;
        self.plan.keeps_all().then(|| &*self.slots[slot])
    }

    fn step(&mut self, plan: &Plan, step: &Step, dropout: &DropoutMode) {
        let value = &plan.values[step.output];
        let rows = match value.drawn {
            true => self.batch * self.draws,
            false => self.batch,
        };
        let items = rows * step.outer;
        // Taken out so that the inputs can be read while it is written; no input shares its slot.
        let mut output = std::mem::take(&mut self.slots[value.slot]);
        output.resize(rows * value.elements, 0.0);
        let needed = match &step.op {
            Op::Conv { plan, .. } => plan.scratch(),
            Op::Recurrent(plan) => plan.scratch(items),
            Op::Dropout { units, .. } => *units,
            Op::SoftmaxAxis { n, .. } => *n,
            _ => 0,
        };
        if self.scratch.len() < needed {
            self.scratch.resize(needed, 0.0);
        }
        let slots = &self.slots;
        let input = |i: usize| &*slots[plan.values[step.inputs[i]].slot];
        let scratch = &mut self.scratch[..needed];
        if let Op::Dropout { .. } = step.op {
            let first = self.first_draw;
            drop_units(&step.op, dropout, first, input(0), &mut output, scratch);
        } else {
            let call = Call {
                isa: plan.isa,
                items,
                draws: self.draws,
                elements: value.elements,
            };
            call.compute(&step.op, step.inputs.len(), input, &mut output, scratch);
        }
        self.slots[value.slot] = output;
    }
}

/// What a computation needs to know besides its data.
struct Call {
    isa: Isa,
    items: usize,
    draws: usize,
    elements: usize,
}

impl Call {
    fn compute<'a>(
        &self,
        op: &Op,
        inputs: usize,
        input: impl Fn(usize) -> &'a [f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let isa = self.isa;
        let x = input(0);
        match op {
            Op::Conv {
                plan,
                packed,
                activation,
                channels,
            } => {
                let relu = *activation == Activation::Relu;
                plan.run(isa, x, packed, output, scratch, relu);
                if !relu {
                    math::activate(isa, *activation, *channels, output);
                }
            }
            Op::Dense { packed, activation } => {
                let relu = *activation == Activation::Relu;
                let rows = x.len() / packed.terms;
                matmul(isa, x, rows, packed, Start::Bias, output, relu);
                if !relu {
                    math::activate(isa, *activation, packed.channels, output);
                }
            }
            Op::Pool(plan) => plan.run(isa, x, output),
            Op::GlobalPool {
                kind,
                pixels,
                channels,
            } => pool::global_pool(*kind, *pixels, *channels, x, output),
            Op::Upsample(plan) => plan.run(x, output),
            Op::ZeroPad {
                image,
                output: size,
                top,
                left,
            } => layout::zero_pad(*image, *size, [*top, *left], x, output),
            Op::ScaleShift { scale, shift } => {
                elementwise::scale_shift(isa, scale, shift, x, output);
            }
            Op::Recurrent(plan) => plan.run(isa, self.items, x, output, scratch),
            Op::Reverse { rows, width } => layout::reverse(*rows, *width, x, output),
            Op::Permute { shape, order } => layout::permute(shape, order, x, output),
            Op::Repeat { count, width } => layout::repeat(*count, *width, x, output),
            Op::Concat { widths, total } => {
                let mut at = 0;
                for (i, &width) in widths.iter().enumerate() {
                    layout::scatter(width, *total, at, input(i), output);
                    at += width;
                }
            }
            Op::Merge { op, inputs: how } => {
                how[0].zip(x, output, |o, x| *o = x);
                for (i, how) in how.iter().enumerate().skip(1) {
                    elementwise::merge(*op, how, input(i), output);
                }
                if *op == MergeOp::Average {
                    let n = inputs as f32;
                    output.iter_mut().for_each(|o| *o /= n);
                }
            }
            Op::Activation { function, last } => {
                output.copy_from_slice(x);
                math::activate(isa, *function, *last, output);
            }
            Op::SoftmaxAxis { n, after } => {
                output.copy_from_slice(x);
                softmax_axis(*n, *after, output, scratch);
            }
            Op::PRelu { alpha } => elementwise::prelu(alpha, x, output),
            Op::SumAxis { n, after } => elementwise::sum_axis(*n, *after, x, output),
            Op::SpatialMultiply { channels } => {
                elementwise::spatial_multiply(*channels, x, input(1), output);
            }
            Op::ChannelMultiply { item, channels } => {
                elementwise::channel_multiply(*item, *channels, x, input(1), output);
            }
            Op::Spread => layout::repeat(self.draws, self.elements, x, output),
            Op::Dropout { .. } => unreachable!("computed by drop_units"),
        }
    }
}

/// Softmax over the middle dimension of `[.., n, after]`.
fn softmax_axis(n: usize, after: usize, values: &mut [f32], scratch: &mut [f32]) {
    for block in values.chunks_exact_mut(n * after) {
        for lane in 0..after {
            for (s, v) in scratch.iter_mut().zip(block[lane..].iter().step_by(after)) {
                *s = *v;
            }
            math::softmax_row(scratch);
            for (v, s) in block[lane..].iter_mut().step_by(after).zip(&*scratch) {
                *v = *s;
            }
        }
    }
}

/// Multiplies each row by its draw's (or mask's) factors; with dropout off it only copies.
fn drop_units(
    op: &Op,
    mode: &DropoutMode,
    first_draw: u32,
    input: &[f32],
    output: &mut [f32],
    factors: &mut [f32],
) {
    let Op::Dropout {
        name,
        number,
        rate,
        units,
        pixels,
        channels,
    } = op
    else {
        unreachable!("only called for dropout");
    };
    let row = units * pixels;
    let rows = input.chunks_exact(row).zip(output.chunks_exact_mut(row));
    for (r, (x, y)) in rows.enumerate() {
        match mode {
            DropoutMode::Off => {
                y.copy_from_slice(x);
                continue;
            }
            DropoutMode::Draws { n, seed } => {
                let draw = first_draw.wrapping_add((r % n.get() as usize) as u32);
                draw_factors(*seed, draw, *number, *rate, factors);
            }
            DropoutMode::Masks(masks) => {
                let kept = 1.0 / (1.0 - rate);
                let decisions = &masks.0[name][r * units..][..*units];
                for (f, &keep) in factors.iter_mut().zip(decisions) {
                    *f = if keep != 0 { kept } else { 0.0 };
                }
            }
        }
        let groups = x
            .chunks_exact(pixels * channels)
            .zip(y.chunks_exact_mut(pixels * channels));
        for ((x, y), factors) in groups.zip(factors.chunks_exact(*channels)) {
            for (x, y) in x.chunks_exact(*channels).zip(y.chunks_exact_mut(*channels)) {
                for c in 0..*channels {
                    y[c] = x[c] * factors[c];
                }
            }
        }
    }
}
