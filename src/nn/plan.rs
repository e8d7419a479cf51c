//! A graph made ready to run: shapes fixed, weights packed, buffers assigned.

use std::sync::Arc;

use super::cpu::Isa;
use super::cpu::conv::{ConvPlan, Finish};
use super::cpu::elementwise::Broadcast;
use super::cpu::gemm::Packed;
use super::cpu::layout::UpsamplePlan;
use super::cpu::pool::PoolPlan;
use super::cpu::recurrent::RecurrentPlan;
use super::cpu::scaled::ScaledConv;
use super::graph::{Graph, GraphError};
use super::layer::{Activation, MergeOp, PoolKind};
use super::windows::WindowPlan;

mod build;
mod fuse;
mod slots;

use build::Builder;

/// A graph made ready to run for fixed input shapes. It is immutable and shared between threads;
/// each thread runs it through a [`Session`](super::Session) of its own.
#[derive(Debug)]
pub struct Plan {
    pub(super) isa: Isa,
    pub(super) inputs: Vec<PlannedInput>,
    pub(super) outputs: Vec<PlannedOutput>,
    /// Inputs, then node outputs, then values that only the plan knows.
    pub(super) values: Vec<Value>,
    pub(super) slots: usize,
    /// Numbers that all slots together hold per row.
    pub(super) elements: usize,
    pub(super) steps: Vec<Step>,
    pub(super) dropouts: usize,
    pub(super) keeps_all: bool,
    pub(super) windows: WindowPlan,
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
pub(super) struct Step {
    pub op: Op,
    pub inputs: Vec<usize>,
    pub output: usize,
    /// Items per row of the value (the layer's leading dimensions that count as batch).
    pub outer: usize,
}

/// A layer with everything that does not depend on the data.
#[derive(Debug)]
pub(super) enum Op {
    Conv {
        plan: ConvPlan,
        packed: Arc<Packed>,
        /// What follows at once; the activation is done there or, if it cannot be, after it.
        finish: Finish,
        activation: Activation,
        channels: usize,
    },
    /// Convolution of maps times one factor per channel. Either may be the same in all draws.
    ScaledConv(ScaledConv),
    Dense {
        packed: Arc<Packed>,
        activation: Activation,
    },
    Pool(PoolPlan),
    GlobalPool {
        kind: PoolKind,
        pixels: usize,
        channels: usize,
    },
    Upsample(UpsamplePlan),
    ZeroPad {
        image: [usize; 3],
        output: [usize; 2],
        top: usize,
        left: usize,
    },
    ScaleShift {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    Recurrent(Box<RecurrentPlan>),
    Reverse {
        rows: usize,
        width: usize,
    },
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
    Merge {
        op: MergeOp,
        inputs: Vec<Broadcast>,
    },
    Dropout {
        name: String,
        number: u32,
        rate: f32,
        units: usize,
        /// How many neighbouring elements share one decision, and how many decisions repeat over
        /// the pixels: element `e` of an item is ruled by unit `e / (pixels * channels) * channels
        /// + e % channels`.
        pixels: usize,
        channels: usize,
    },
    Activation {
        function: Activation,
        last: usize,
    },
    /// Softmax over the middle dimension of `[.., n, after]`.
    SoftmaxAxis {
        n: usize,
        after: usize,
    },
    PRelu {
        alpha: Vec<f32>,
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

impl Plan {
    /// Plans `graph` for inputs of the given shapes (without the batch) on the instruction set that
    /// [`Isa::chosen`] gives.
    ///
    /// # Errors
    /// When the graph is inconsistent or the shapes do not fit it, or `MAEUM_ISA` names an
    /// instruction set that is not there.
    pub fn new(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Self, GraphError> {
        Builder::new(graph, input_shapes, chosen(graph)?, false)?.build()
    }

    /// Like [`Plan::new`], on the given instruction set.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_isa(
        graph: &Graph,
        input_shapes: &[Vec<usize>],
        isa: Isa,
    ) -> Result<Self, GraphError> {
        Builder::new(graph, input_shapes, isa, false)?.build()
    }

    /// Like [`Plan::new`], but every value stays readable after a run
    /// ([`Session::value`](super::Session::value)), at the price of memory.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn keeping_all(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Self, GraphError> {
        Builder::new(graph, input_shapes, chosen(graph)?, true)?.build()
    }

    /// Names and shapes (without the batch) of the outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.outputs.iter().map(|o| (&*o.name, &*o.shape))
    }

    /// Names and shapes (without the batch) of the inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.inputs
            .iter()
            .map(|i| (&*i.name, &*self.values[i.value].shape))
    }

    /// Whether any dropout stays on at inference.
    pub fn is_stochastic(&self) -> bool {
        self.dropouts > 0
    }
}

fn chosen(graph: &Graph) -> Result<Isa, GraphError> {
    Isa::chosen().map_err(|unknown| GraphError::Graph {
        graph: graph.name.clone(),
        problem: unknown.to_string(),
    })
}
