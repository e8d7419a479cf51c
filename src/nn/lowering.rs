//! From a graph to steps, one after the other, with a buffer for each value: what plans for the
//! processor and for devices have in common.

use super::graph::{Graph, GraphError};
use super::layer::{Activation, Layer, PoolKind};

mod build;
mod fuse;
mod prepare;
mod slots;

pub(super) use build::{Draft, Site, lower};
#[cfg(feature = "cuda")]
pub(super) use fuse::Readers;
pub(super) use prepare::{folded, stretched};

/// Of a value that is computed into no buffer.
pub(super) const NO_SLOT: usize = usize::MAX;

/// What runs the steps.
pub(super) trait Backend {
    /// The computations that it prepares in its own way, of weights above all.
    type Own;

    /// The computation of a layer that is none of the others in [`Op`]. It may change what the step
    /// reads and writes, and put steps before it.
    fn own(&mut self, layer: &Layer, site: &mut Site, draft: &mut Draft<Self::Own>) -> Self::Own;

    /// Whether it reads values that are the same in all draws beside others as they are; for the
    /// rest they are repeated.
    fn mixes_draws(_: &Self::Own) -> bool {
        false
    }

    /// Does steps together other than two that follow each other.
    fn combine(_: &mut Parts<Self::Own>) {}

    /// Makes `op` do `next` as well, which alone reads its result and nothing else, if that can be.
    fn absorb(op: &mut Op<Self::Own>, next: &Op<Self::Own>) -> bool;
}

/// What a plan is made of.
#[derive(Debug)]
pub(super) struct Parts<W> {
    pub inputs: Vec<PlannedInput>,
    pub outputs: Vec<PlannedOutput>,
    /// Inputs, then node outputs, then values that only the plan knows.
    pub values: Vec<Value>,
    pub slots: usize,
    pub steps: Vec<Step<W>>,
    pub dropouts: usize,
    /// Whether every value of the graph stays readable after a run.
    pub keeps_all: bool,
    /// Values of the graph, which come first.
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

/// Where a value is kept.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub shape: Vec<usize>,
    pub elements: usize,
    /// Whether it differs from draw to draw, and so has one row per draw.
    pub drawn: bool,
    pub slot: usize,
}

/// One computation.
#[derive(Debug)]
pub(super) struct Step<W> {
    pub op: Op<W>,
    pub inputs: Vec<usize>,
    pub output: usize,
    /// Another value that it writes: a second result, or memory for itself, which nobody reads.
    pub second: Option<usize>,
    /// Items per row of the value (the layer's leading dimensions that count as batch).
    pub outer: usize,
}

/// A layer with everything that does not depend on the data.
#[derive(Debug)]
pub(super) enum Op<W> {
    /// What the backend prepares.
    Own(W),
    GlobalPool {
        kind: PoolKind,
        pixels: usize,
        channels: usize,
    },
    ZeroPad {
        image: [usize; 3],
        output: [usize; 2],
        top: usize,
        left: usize,
    },
    Reverse {
        rows: usize,
        width: usize,
    },
    /// Dimension `i` of the result is dimension `order[i]` of `shape`.
    Permute {
        shape: Vec<usize>,
        order: Vec<usize>,
    },
    Repeat {
        count: usize,
        width: usize,
    },
    /// Widths (elements from the axis on) of each input and of the output.
    Concat {
        widths: Vec<usize>,
        total: usize,
    },
    Dropout(Dropout),
    Activation {
        function: Activation,
        last: usize,
    },
    /// Softmax over the middle dimension of `[.., n, after]`.
    Softmax {
        n: usize,
        after: usize,
    },
    SumAxis {
        n: usize,
        after: usize,
    },
    SpatialMultiply {
        channels: usize,
    },
    ChannelMultiply {
        item: usize,
        channels: usize,
    },
    /// A value that is the same in all draws, repeated for each.
    Spread,
}

#[derive(Debug)]
pub(super) struct Dropout {
    pub name: String,
    pub number: u32,
    pub rate: f32,
    /// Decisions per row.
    pub units: usize,
    /// How many neighbouring elements share one decision, and how many decisions repeat over the
    /// pixels: element `e` of a row is ruled by unit `e / (pixels * channels) * channels +
    /// e % channels`.
    pub pixels: usize,
    pub channels: usize,
}

impl<W> Parts<W> {
    /// Names and shapes (without the batch) of the outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.outputs.iter().map(|o| (&*o.name, &*o.shape))
    }

    /// Names and shapes (without the batch) of the inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        let inputs = self.inputs.iter();
        inputs.map(|i| (&*i.name, &*self.values[i.value].shape))
    }

    /// The dropouts that stay on, in the order of the steps.
    pub fn dropouts(&self) -> impl Iterator<Item = &Dropout> {
        self.steps.iter().filter_map(|step| match &step.op {
            Op::Dropout(dropout) => Some(dropout),
            _ => None,
        })
    }

    /// Numbers of each slot per row of the batch.
    pub fn slot_sizes(&self, draws: usize) -> Vec<usize> {
        let mut sizes = vec![0; self.slots];
        for value in self.values.iter().filter(|v| v.slot != NO_SLOT) {
            let rows = if value.drawn { draws } else { 1 };
            let elements = value.elements.saturating_mul(rows);
            sizes[value.slot] = elements.max(sizes[value.slot]);
        }
        sizes
    }
}
