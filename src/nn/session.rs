//! Execution of a plan in the buffers of one thread, which later runs reuse.

use std::sync::Arc;

use super::dropout::DropoutMode;
use super::graph::ValueId;
use super::plan::{Op, Plan, Step};
use super::windows::{self, Buffers};

pub(super) mod checks;
mod compute;

use checks::{check_inputs, check_masks};
use compute::{OpContext, drop_units, scratch_len};

/// Error of a run whose inputs do not fit its plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Data for more or fewer inputs than the network has.
    #[error("the network has {expected} inputs, {given} were given")]
    Inputs {
        /// Inputs of the plan.
        expected: usize,
        /// Slices supplied.
        given: usize,
    },
    /// An input's data is not `batch` rows of its shape.
    #[error("input {name} holds {given} numbers; {batch} rows of {elements} are needed")]
    InputLength {
        /// The input's name in the graph.
        name: String,
        /// Elements in the slice.
        given: usize,
        /// Rows of the run.
        batch: usize,
        /// Elements per row.
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
    /// The number of elements in the frames is no multiple of a row of the network's input.
    #[error("the sheet holds {given} numbers, which are no rows of {row}")]
    Frames {
        /// Elements in the frames.
        given: usize,
        /// Elements per row of a window.
        row: usize,
    },
    /// A window lies past the last frame.
    #[error("a window of {rows} rows starts at row {start} of a sheet of {given}")]
    Window {
        /// First row of the window.
        start: usize,
        /// Rows of a window.
        rows: usize,
        /// Number of frames.
        given: usize,
    },
    /// The values of all rows would take more than 4 GiB.
    #[error("{rows} rows are too many for one run; split the batch or draw less often")]
    TooLarge {
        /// Batch times draws.
        rows: usize,
    },
}

/// Maximum number of elements of all values of a run together (4 GiB).
const MAX_RUN_ELEMENTS: usize = 1 << 30;

/// Buffers of one plan for one thread. A run no larger than an earlier one allocates no memory.
#[derive(Debug)]
pub struct Session {
    plan: Arc<Plan>,
    slots: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    windows: Buffers,
    batch: usize,
    draws: usize,
    first_draw: u32,
}

impl Session {
    /// Empty buffers for `plan`, which other threads' sessions may share.
    pub fn new(plan: &Arc<Plan>) -> Self {
        Self {
            slots: vec![Vec::new(); plan.lowered.slots],
            plan: Arc::clone(plan),
            scratch: Vec::new(),
            windows: Buffers::default(),
            batch: 0,
            draws: 1,
            first_draw: 0,
        }
    }

    /// The plan, with the shapes of inputs and outputs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes held by the buffers; they have grown to the largest run.
    pub fn held_bytes(&self) -> usize {
        let slots = self.slots.iter().map(Vec::capacity).sum::<usize>();
        (slots + self.scratch.capacity() + self.windows.capacity()) * size_of::<f32>()
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

    /// Like [`Session::run`], but starts with draw number `first`, so that a large number of draws
    /// can be computed in parts of bounded memory.
    ///
    /// # Errors
    /// See [`Session::run`].
    pub fn run_from_draw(
        &mut self,
        first: u32,
        inputs: &[&[f32]],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), RunError> {
        let plan = Arc::clone(&self.plan);
        let draws = self.check(&plan, batch, dropout)?;
        let planned = plan.lowered.inputs.iter().map(|i| (&*i.name, i.elements));
        check_inputs(planned, inputs, |data, _, _| data.len(), batch)?;
        self.batch = batch;
        self.draws = draws;
        self.first_draw = first;
        for (input, data) in plan.lowered.inputs.iter().zip(inputs) {
            let slot = &mut self.slots[plan.lowered.values[input.value].slot];
            slot.clear();
            slot.extend_from_slice(data);
        }
        for step in &plan.lowered.steps {
            self.step(&plan, step, dropout);
        }
        Ok(())
    }

    /// Computes the outputs for windows of a sequence of frames, such as the rows of a spectrogram.
    /// The plan has one input, whose first dimension is the number of frames in a window; window
    /// `i` begins at frame `starts[i]`. The outputs are bit-identical to those of [`Session::run`]
    /// for the same windows. Rows common to neighbouring windows are computed once if `starts`
    /// ascends.
    ///
    /// # Errors
    /// When the plan has several inputs, or the frames or masks have the wrong size.
    pub fn run_windows(
        &mut self,
        frames: &[f32],
        starts: &[usize],
        dropout: &DropoutMode,
    ) -> Result<(), RunError> {
        let plan = Arc::clone(&self.plan);
        let [input] = &*plan.lowered.inputs else {
            return Err(RunError::Inputs {
                expected: plan.lowered.inputs.len(),
                given: 1,
            });
        };
        let value = &plan.lowered.values[input.value];
        let rows = value.shape.first().copied().unwrap_or(1);
        let row = input.elements / rows;
        if !frames.len().is_multiple_of(row) {
            return Err(RunError::Frames {
                given: frames.len(),
                row,
            });
        }
        let given = frames.len() / row;
        let fits = |start: usize| start.checked_add(rows).is_some_and(|end| end <= given);
        if let Some(&start) = starts.iter().find(|&&start| !fits(start)) {
            return Err(RunError::Window { start, rows, given });
        }
        self.draws = self.check(&plan, starts.len(), dropout)?;
        self.batch = starts.len();
        self.first_draw = 0;
        if plan.windows.reads_input {
            let slot = &mut self.slots[value.slot];
            slot.clear();
            for start in starts {
                slot.extend_from_slice(&frames[start * row..][..input.elements]);
            }
        }
        for (number, step) in plan.lowered.steps.iter().enumerate() {
            if let Some(chain) = plan.windows.ends(number) {
                let value = &plan.lowered.values[step.output];
                let mut output = std::mem::take(&mut self.slots[value.slot]);
                output.resize(starts.len() * value.elements, 0.0);
                windows::ChainRun {
                    isa: plan.isa,
                    plan: &plan.lowered,
                    chain,
                    frames,
                    buffers: &mut self.windows,
                }
                .compute(starts, &mut output);
                self.slots[value.slot] = output;
            } else if plan.windows.of_step[number].is_none() {
                self.step(&plan, step, dropout);
            }
        }
        Ok(())
    }

    /// Returns the number of draws per row, after checking the size of the run and its masks.
    fn check(&self, plan: &Plan, batch: usize, dropout: &DropoutMode) -> Result<usize, RunError> {
        let draws = match plan.lowered.dropouts {
            0 => 1,
            _ => dropout.rows(),
        };
        self.check_size(plan, batch, draws)?;
        let dropouts = plan.lowered.dropouts().map(|d| (&*d.name, d.units));
        check_masks(dropouts, batch, dropout)?;
        Ok(draws)
    }

    fn check_size(&self, plan: &Plan, batch: usize, draws: usize) -> Result<(), RunError> {
        let too_large = RunError::TooLarge {
            rows: batch.saturating_mul(draws),
        };
        // Counts draw-invariant values as if they had a row per draw: an upper bound.
        batch
            .checked_mul(draws)
            .and_then(|rows| rows.checked_mul(plan.elements))
            .filter(|&n| n <= MAX_RUN_ELEMENTS)
            .map(drop)
            .ok_or(too_large)
    }

    /// Rows of each output of the last run: its batch times its draws.
    pub fn rows(&self) -> usize {
        self.batch * self.draws
    }

    /// Returns output `index` of the last run: [`Session::rows`] rows, the draws of an input row
    /// side by side.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn output(&self, index: usize) -> &[f32] {
        &self.slots[self.plan.lowered.values[self.plan.lowered.outputs[index].value].slot]
    }

    /// Returns any value of the last run, if the plan was made to keep all. Draw-invariant values
    /// have one row per input row, per-draw values one per draw.
    pub fn value(&self, value: ValueId) -> Option<&[f32]> {
        let lowered = &self.plan.lowered;
        let slot = lowered.values[..lowered.graph_values].get(value.0)?.slot;
        lowered.keeps_all.then(|| &*self.slots[slot])
    }

    fn step(&mut self, plan: &Plan, step: &Step, dropout: &DropoutMode) {
        let value = &plan.lowered.values[step.output];
        let rows = match value.per_draw {
            true => self.batch * self.draws,
            false => self.batch,
        };
        let items = rows * step.outer;
        // Taken out so that the inputs can be borrowed; no input shares its slot.
        let mut output = std::mem::take(&mut self.slots[value.slot]);
        output.resize(rows * value.elements, 0.0);
        let needed = scratch_len(&step.op, items);
        if self.scratch.len() < needed {
            self.scratch.resize(needed, 0.0);
        }
        let slots = &self.slots;
        let input = |i: usize| &*slots[plan.lowered.values[step.inputs[i]].slot];
        let scratch = &mut self.scratch[..needed];
        if let Op::Dropout(planned) = &step.op {
            let first = self.first_draw;
            drop_units(planned, dropout, first, input(0), &mut output, scratch);
        } else {
            let call = OpContext {
                isa: plan.isa,
                items,
                draws: self.draws,
                elements: value.elements,
            };
            call.compute(&step.op, input, &mut output, scratch);
        }
        self.slots[value.slot] = output;
    }
}
