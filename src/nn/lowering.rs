//! Lowering of a graph to a sequence of steps with a buffer for each value; common to the CPU and
//! CUDA back ends.

use super::cpu::elementwise::Broadcast;
use super::graph::{Graph, GraphError, WeightId};
use super::layers::BatchNorm;
use super::layers::shapes::Problem;

mod build;
mod fuse;

pub(super) use super::layers::ops::{Dropout, Lowering, NodeShapes, Op};
pub(super) use super::layers::{BackendLayer, CpuOnly};
pub(super) use build::{NodeContext, PlanBuilder, lower};
#[cfg(feature = "cuda")]
pub(super) use fuse::Readers;

/// Slot index of a value that has no buffer.
pub(super) const NO_SLOT: usize = usize::MAX;

/// A back end that executes lowered steps.
pub(super) trait Backend {
    /// Ops of the back end: those with prepared weights or tables.
    type BackendOp;

    /// Returns the op of a layer. May change the inputs of the step in `node` and add steps before
    /// it.
    ///
    /// # Errors
    /// The reason that the back end has no op for the layer.
    fn lower_layer(
        &mut self,
        layer: BackendLayer,
        node: &mut NodeContext,
        builder: &mut PlanBuilder<Self::BackendOp>,
    ) -> Result<Self::BackendOp, Problem>;

    /// Returns true if the op accepts draw-invariant inputs beside per-draw ones without
    /// broadcasting them.
    fn accepts_draw_invariant(_: &Self::BackendOp) -> bool {
        false
    }

    /// Fuses patterns beyond an op and its only consumer.
    fn fuse_patterns(_: &mut LoweredGraph<Self::BackendOp>) {}

    /// Tries to fuse `next`, the only consumer of `op`, into `op`; returns whether it did.
    fn fuse(op: &mut Op<Self::BackendOp>, next: &Op<Self::BackendOp>) -> bool;
}

/// A lowered graph: steps, values, inputs and outputs.
#[derive(Debug)]
pub(super) struct LoweredGraph<W> {
    pub inputs: Vec<PlannedInput>,
    pub outputs: Vec<PlannedOutput>,
    /// Inputs, then node outputs, then intermediate values added by lowering.
    pub values: Vec<Value>,
    pub slots: usize,
    pub steps: Vec<Step<W>>,
    pub dropouts: usize,
    /// True if every value of the graph stays readable after a run.
    pub keeps_all: bool,
    /// Number of values of the graph; they come first in `values`.
    pub graph_values: usize,
}

#[derive(Debug)]
pub(super) struct PlannedInput {
    pub name: String,
    pub value: usize,
    pub elements: usize,
}

#[derive(Debug)]
pub(super) struct PlannedOutput {
    pub name: String,
    pub shape: Vec<usize>,
    pub value: usize,
}

/// A value's shape and buffer.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub shape: Vec<usize>,
    pub elements: usize,
    /// True if the value differs between draws and so has one row per draw.
    pub per_draw: bool,
    pub slot: usize,
}

/// One op with its inputs and output.
#[derive(Debug)]
pub(super) struct Step<W> {
    pub op: Op<W>,
    pub inputs: Vec<usize>,
    pub output: usize,
    /// A second output: another result, or workspace that no step reads.
    pub second: Option<usize>,
    /// Items per row of the value: the product of the layer's leading dimensions that count as
    /// batch.
    pub outer: usize,
}

impl<W> LoweredGraph<W> {
    /// Names and shapes (without the batch) of the outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.outputs.iter().map(|o| (&*o.name, &*o.shape))
    }

    /// Names and shapes (without the batch) of the inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        let inputs = self.inputs.iter();
        inputs.map(|i| (&*i.name, &*self.values[i.value].shape))
    }

    /// Dropouts active at inference, in the order of the steps.
    pub fn dropouts(&self) -> impl Iterator<Item = &Dropout> {
        self.steps.iter().filter_map(|step| match &step.op {
            Op::Dropout(dropout) => Some(dropout),
            _ => None,
        })
    }

    /// Elements of each slot per batch row.
    pub fn slot_sizes(&self, draws: usize) -> Vec<usize> {
        let mut sizes = vec![0; self.slots];
        for value in self.values.iter().filter(|v| v.slot != NO_SLOT) {
            let rows = if value.per_draw { draws } else { 1 };
            let elements = value.elements.saturating_mul(rows);
            sizes[value.slot] = elements.max(sizes[value.slot]);
        }
        sizes
    }
}

/// Folds a batch normalisation into a scale and a shift per channel, computed in `f64`.
pub(crate) fn fold_batch_norm(graph: &Graph, b: &BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let of = |id: WeightId, c: usize| f64::from(graph.weights[id.0].data[c]);
    let channels = 0..graph.weights[b.mean.0].data.len();
    channels
        .map(|c| {
            let deviation = (of(b.variance, c) + f64::from(b.epsilon)).sqrt();
            let scale = b.gamma.map_or(1.0, |g| of(g, c)) / deviation;
            let shift = b.beta.map_or(0.0, |id| of(id, c)) - of(b.mean, c) * scale;
            (scale as f32, shift as f32)
        })
        .unzip()
}

/// Broadcasts a weight to `shape`.
pub(super) fn broadcast_weight(graph: &Graph, id: WeightId, shape: &[usize]) -> Vec<f32> {
    let weight = &graph.weights[id.0];
    let mut full = vec![0.0; shape.iter().product()];
    Broadcast::new(&weight.shape, shape).zip(&weight.data, &mut full, |to, from| *to = from);
    full
}
