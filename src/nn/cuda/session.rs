//! Execution of a plan on its device, in buffers that later runs reuse.

use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Stream, bytes, bytes_mut};
use super::plan::CudaPlan;
use crate::nn::dropout::DropoutMode;
use crate::nn::graph::ValueId;
use crate::nn::lowering::NO_SLOT;
use crate::nn::session::RunError;
use crate::nn::session::checks::{check_inputs, check_masks};

mod lane;
mod launch;
mod source;

use lane::{InPlaceBuffers, Lane, grow, held, mask_sizes};
pub use source::{Rows, Source};

/// Error of a run on a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaRunError {
    /// Inputs or masks do not have the sizes that the plan needs.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The device fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Input bytes per part: enough to keep the device busy, few enough that it starts early and that
/// later uploads overlap with computation.
const PART: usize = 64 << 20;
/// Rows per part are a multiple of this, except in the last part and in smaller ones.
const ROWS: usize = 4;
/// Limit on the elements of a value on the device: the kernels use 32-bit indices.
const MAX_NUMBERS: usize = 1 << 31;

/// Buffers for running one plan from one thread. A batch is split into parts that fit the device's
/// memory; while one part is computed, the next is uploaded on a second stream.
///
/// [`CudaSession::run_on_device`] reads inputs on the device and leaves the outputs there, for the
/// next network or kernel. It returns before they are computed.
#[derive(Debug)]
pub struct CudaSession {
    plan: Arc<CudaPlan>,
    lanes: [Lane; 2],
    outputs: Vec<Vec<f32>>,
    /// Outputs that stay on the device.
    kept: Vec<Option<Buffer>>,
    /// All values, if the plan keeps them.
    values: Vec<Vec<f32>>,
    part: usize,
    batch: usize,
    draws: usize,
}

/// Rows of a batch assigned to a lane.
#[derive(Debug, Clone, Copy)]
struct Part {
    lane: usize,
    start: usize,
    rows: usize,
}

/// Dropout settings of a run.
#[derive(Debug, Clone, Copy)]
struct Mode<'a> {
    dropout: &'a DropoutMode,
    first_draw: u32,
    draws: usize,
}

impl CudaSession {
    /// Creates a session without buffers for `plan`, which other threads' sessions may share.
    pub fn new(plan: &Arc<CudaPlan>) -> Self {
        let none = |count| std::iter::repeat_with(|| None).take(count).collect();
        let lane = |stream| Lane {
            stream,
            slots: none(plan.lowered.slots),
            masks: none(plan.lowered.dropouts),
            starts: none(plan.lowered.inputs.len()),
        };
        Self {
            plan: Arc::clone(plan),
            lanes: [lane(Stream::A), lane(Stream::B)],
            outputs: vec![Vec::new(); plan.lowered.outputs.len()],
            kept: none(plan.lowered.outputs.len()),
            values: Vec::new(),
            part: PART,
            batch: 0,
            draws: 1,
        }
    }

    /// Sets the input bytes per part (64 MiB by default); a part has at least one row.
    pub fn with_part(mut self, bytes: usize) -> Self {
        self.part = bytes;
        self
    }

    /// The plan, with the shapes of inputs and outputs.
    pub fn plan(&self) -> &CudaPlan {
        &self.plan
    }

    /// Bytes of device memory held by the buffers.
    pub fn held_bytes(&self) -> usize {
        let lanes = self.lanes.iter();
        lanes
            .flat_map(|lane| lane.slots.iter().chain(&lane.masks).chain(&lane.starts))
            .chain(&self.kept)
            .flatten()
            .map(Buffer::bytes)
            .sum()
    }

    /// Computes the outputs for `batch` rows. `inputs` holds one slice per input of the plan, in
    /// its order, with the rows one after the other.
    ///
    /// # Errors
    /// When inputs or masks do not have the sizes that the plan needs, or the device fails.
    pub fn run(
        &mut self,
        inputs: &[&[f32]],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), CudaRunError> {
        self.run_from_draw(0, inputs, batch, dropout)
    }

    /// Like [`CudaSession::run`], but starts with draw number `first`.
    ///
    /// # Errors
    /// See [`CudaSession::run`].
    pub fn run_from_draw(
        &mut self,
        first: u32,
        inputs: &[&[f32]],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), CudaRunError> {
        let inputs: Vec<Source> = inputs.iter().map(|rows| Source::Host(rows)).collect();
        self.execute(first, &inputs, batch, dropout, false)
    }

    /// Like [`CudaSession::run_from_draw`], but takes inputs from the host or the device and leaves
    /// the outputs on the device: see [`CudaSession::on_device`]. Returns before they are computed;
    /// a later failure is reported by the next call that waits for the stream. The inputs may be
    /// freed, or overwritten on [`Stream::A`].
    ///
    /// # Errors
    /// See [`CudaSession::run`].
    pub fn run_on_device(
        &mut self,
        first: u32,
        inputs: &[Source],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), CudaRunError> {
        self.execute(first, inputs, batch, dropout, true)
    }

    fn execute(
        &mut self,
        first: u32,
        inputs: &[Source],
        batch: usize,
        dropout: &DropoutMode,
        on_device: bool,
    ) -> Result<(), CudaRunError> {
        let plan = Arc::clone(&self.plan);
        self.check(&plan, inputs, batch, dropout)?;
        let draws = match plan.lowered.dropouts {
            0 => 1,
            _ => dropout.rows(),
        };
        let rows = self.rows_at_once(&plan, batch, draws)?;
        self.batch = batch;
        self.draws = draws;
        self.values.clear();
        for (number, planned) in plan.lowered.outputs.iter().enumerate() {
            let numbers = batch * draws * plan.lowered.values[planned.value].elements;
            self.outputs[number].clear();
            match on_device {
                true => grow(&*plan.driver, &mut self.kept[number], numbers.max(1))?,
                false => self.outputs[number].resize(numbers, 0.0),
            }
        }
        if plan.lowered.keeps_all && !on_device {
            self.values = plan.lowered.values[..plan.lowered.graph_values]
                .iter()
                .map(|v| vec![0.0; batch * if v.per_draw { draws } else { 1 } * v.elements])
                .collect();
        }
        let mode = Mode {
            dropout,
            first_draw: first,
            draws,
        };
        for lane in self.lanes.iter().take(if rows < batch { 2 } else { 1 }) {
            let mut ready = inputs.iter().filter_map(Source::ready);
            if let Some(other) = ready.find(|stream| *stream != lane.stream) {
                plan.driver.wait(lane.stream, other)?;
            }
        }
        let done = match on_device {
            true => self.queue_parts(&plan, inputs, batch, rows, mode),
            false => self.run_parts(&plan, inputs, batch, rows, mode),
        };
        if done.is_err() {
            // Pending work must not use buffers that the next run overwrites.
            for lane in &self.lanes {
                let _ = plan.driver.synchronise(lane.stream);
            }
        }
        done
    }

    /// Splits a batch into parts, which alternate between the lanes.
    fn parts(batch: usize, rows: usize) -> impl Iterator<Item = Part> {
        let starts = (0..batch).step_by(rows.max(1)).enumerate();
        starts.map(move |(i, start)| Part {
            lane: i % 2,
            start,
            rows: rows.min(batch - start),
        })
    }

    fn run_parts(
        &mut self,
        plan: &CudaPlan,
        inputs: &[Source],
        batch: usize,
        rows: usize,
        mode: Mode,
    ) -> Result<(), CudaRunError> {
        let mut before: Option<Part> = None;
        for part in Self::parts(batch, rows) {
            self.queue(plan, inputs, part, mode, false)?;
            if let Some(before) = before.replace(part) {
                self.collect(plan, before)?;
            }
        }
        match before {
            Some(last) => self.collect(plan, last),
            None => Ok(()),
        }
    }

    /// Queues all parts. Outputs are ready for, and outputs of the last run are no longer needed
    /// by, work on the first lane's stream.
    fn queue_parts(
        &mut self,
        plan: &CudaPlan,
        inputs: &[Source],
        batch: usize,
        rows: usize,
        mode: Mode,
    ) -> Result<(), CudaRunError> {
        let [first, second] = [0, 1].map(|lane| self.lanes[lane].stream);
        let both = rows < batch;
        if both {
            plan.driver.wait(second, first)?;
        }
        for part in Self::parts(batch, rows) {
            self.queue(plan, inputs, part, mode, true)?;
        }
        if both {
            plan.driver.wait(first, second)?;
        }
        Ok(())
    }

    fn check(
        &self,
        plan: &CudaPlan,
        inputs: &[Source],
        batch: usize,
        dropout: &DropoutMode,
    ) -> Result<(), RunError> {
        let planned = plan.lowered.inputs.iter().map(|i| (&*i.name, i.elements));
        check_inputs(planned, inputs, Source::holds, batch)?;
        let dropouts = plan.lowered.dropouts().map(|d| (&*d.name, d.units));
        check_masks(dropouts, batch, dropout)
    }

    /// Returns the rows per part: about [`PART`] bytes of input, and few enough that both lanes fit
    /// into memory.
    fn rows_at_once(
        &self,
        plan: &CudaPlan,
        batch: usize,
        draws: usize,
    ) -> Result<usize, CudaRunError> {
        let too_large = RunError::TooLarge { rows: draws };
        let input: usize = plan.lowered.inputs.iter().map(|i| i.elements).sum();
        let wanted = (self.part / size_of::<f32>() / input.max(1)).clamp(1, batch.max(1));
        let values = plan.lowered.values.iter().filter(|v| v.slot != NO_SLOT);
        let largest = values
            .map(|v| {
                v.elements
                    .saturating_mul(if v.per_draw { draws } else { 1 })
            })
            .max()
            .unwrap_or(1);
        let countable = (MAX_NUMBERS - 1) / largest.max(1);
        let row = size_of::<f32>() * plan.lowered.slot_sizes(draws).iter().sum::<usize>()
            + size_of::<f32>() * mask_sizes(plan).iter().sum::<usize>();
        let held = self.held_bytes();
        let lanes = if wanted < batch { 2 } else { 1 };
        let mut rows = wanted.min(countable);
        if rows.saturating_mul(row).saturating_mul(lanes) > held {
            // An eighth of the memory is left to other programs.
            let free = plan.driver.free_memory()?.saturating_add(held) / 8 * 7;
            rows = rows.min(free / 2 / row.max(1));
        }
        match rows {
            0 => Err(too_large.into()),
            // Keeps the first row of every part aligned for vector loads.
            _ if rows < batch && rows > ROWS => Ok(rows / ROWS * ROWS),
            _ => Ok(rows),
        }
    }

    /// Queues a part of the batch on its lane. With `on_device`, outputs go to `kept`.
    fn queue(
        &mut self,
        plan: &CudaPlan,
        inputs: &[Source],
        part: Part,
        mode: Mode,
        on_device: bool,
    ) -> Result<(), CudaRunError> {
        let driver = &*plan.driver;
        let lane = &mut self.lanes[part.lane];
        for (slot, elements) in lane
            .slots
            .iter_mut()
            .zip(plan.lowered.slot_sizes(mode.draws))
        {
            grow(driver, slot, part.rows * elements)?;
        }
        if let DropoutMode::Masks(masks) = mode.dropout {
            for (slot, elements) in lane.masks.iter_mut().zip(mask_sizes(plan)) {
                grow(driver, slot, part.rows * elements)?;
            }
            for d in plan.lowered.dropouts() {
                let kept = 1.0 / (1.0 - d.rate);
                let mask = &masks.0[&d.name][part.start * d.units..][..part.rows * d.units];
                let factors: Vec<f32> = mask
                    .iter()
                    .map(|&keep| if keep != 0 { kept } else { 0.0 })
                    .collect();
                let to = held(&lane.masks[d.number as usize]);
                driver.upload(lane.stream, bytes(&factors), to, 0)?;
            }
        }
        let kept: &[Option<Buffer>] = if on_device { &self.kept } else { &[] };
        let in_place = InPlaceBuffers::new(plan, inputs, kept, part, mode.draws)?;
        for (number, input) in inputs.iter().enumerate() {
            lane.load_input(plan, number, input, &in_place, part)?;
        }
        for step in &plan.lowered.steps {
            lane.step(plan, step, &in_place, part.rows, mode)?;
        }
        lane.store_outputs(plan, &in_place, part.rows * mode.draws)
    }

    /// Waits for a part and downloads its results.
    fn collect(&mut self, plan: &CudaPlan, part: Part) -> Result<(), CudaRunError> {
        let lane = &self.lanes[part.lane];
        let bring = |value: usize, copies: usize, to: &mut [f32]| {
            let value = &plan.lowered.values[value];
            let elements = copies * value.elements;
            let to = &mut to[part.start * elements..][..part.rows * elements];
            let from = held(&lane.slots[value.slot]);
            plan.driver.download(lane.stream, from, 0, bytes_mut(to))
        };
        for (output, planned) in self.outputs.iter_mut().zip(&plan.lowered.outputs) {
            bring(planned.value, self.draws, output)?;
        }
        for (number, to) in self.values.iter_mut().enumerate() {
            let per_draw = plan.lowered.values[number].per_draw;
            bring(number, if per_draw { self.draws } else { 1 }, to)?;
        }
        Ok(())
    }

    /// Rows of each output of the last run: its batch times its draws.
    pub fn rows(&self) -> usize {
        self.batch * self.draws
    }

    /// Returns output `index` of the last run: [`CudaSession::rows`] rows, the draws of an input
    /// row side by side. Empty if the output stayed on the device.
    ///
    /// # Panics
    /// If there is no such output.
    pub fn output(&self, index: usize) -> &[f32] {
        &self.outputs[index]
    }

    /// Returns output `index` of the last run on the device: [`CudaSession::rows`] rows, ready on
    /// [`Stream::A`] and valid until the next run.
    ///
    /// # Panics
    /// If there is no such output, or there was no [`CudaSession::run_on_device`].
    pub fn on_device(&self, index: usize) -> Rows<'_> {
        Rows::of(held(&self.kept[index]), self.lanes[0].stream)
    }

    /// Returns any value of the last run on the host, if the plan was made to keep all.
    /// Draw-invariant values have one row per input row, per-draw values one per draw.
    pub fn value(&self, value: ValueId) -> Option<&[f32]> {
        self.values.get(value.0).map(Vec::as_slice)
    }
}
