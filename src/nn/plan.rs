//! Execution plan of a graph on the CPU: shapes fixed, weights packed, buffers assigned.

use std::sync::Arc;

use super::cpu::axes::SlicePlan;
use super::cpu::channel_scaled::ChannelScaledConv;
use super::cpu::conv::{ConvEpilogue, ConvPlan};
use super::cpu::gemm::Packed;
use super::cpu::op::PlainOp;
use super::cpu::pool::PoolPlan;
use super::graph::{Graph, GraphError};
use super::layers::Activation;
use super::lowering::{self, LoweredGraph, lower};
use super::windows::WindowPlan;
use crate::simd::Isa;

mod build;
mod fuse;

use build::CpuLowering;

/// A graph prepared for fixed input shapes. It is immutable and shared between threads; each thread
/// runs it through its own [`Session`](super::Session).
#[derive(Debug)]
pub struct Plan {
    pub(super) isa: Isa,
    pub(super) lowered: LoweredGraph<CpuOp>,
    /// Elements of all slots together, per batch row.
    pub(super) elements: usize,
    pub(super) windows: WindowPlan,
}

pub(super) type Op = lowering::Op<CpuOp>;
pub(super) type Step = lowering::Step<CpuOp>;

/// Ops of the CPU back end. Those with a variant of their own are fused or shared between windows.
#[derive(Debug)]
pub(super) enum CpuOp {
    Conv {
        plan: ConvPlan,
        packed: Arc<Packed>,
        /// Fused pointwise operations and pooling. Holds the activation if it is a ReLU; any other
        /// activation runs after it.
        epilogue: ConvEpilogue,
        activation: Activation,
        channels: usize,
    },
    /// Convolution of maps times one factor per channel. Maps and factors may each be
    /// draw-invariant.
    ChannelScaledConv(ChannelScaledConv),
    Pool(PoolPlan),
    Slice(SlicePlan),
    ScaleShift {
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// An op that planning does not inspect.
    Plain(Box<dyn PlainOp>),
}

impl Plan {
    /// Plans `graph` for inputs of the given shapes (without the batch) on the instruction set of
    /// [`Isa::chosen`].
    ///
    /// # Errors
    /// When the graph is inconsistent, the shapes do not fit it, or `MAEUM_ISA` names an
    /// unavailable instruction set.
    pub fn new(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Self, GraphError> {
        Self::build(graph, input_shapes, chosen(graph)?, false)
    }

    /// Like [`Plan::new`], on the given instruction set.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn with_isa(
        graph: &Graph,
        input_shapes: &[Vec<usize>],
        isa: Isa,
    ) -> Result<Self, GraphError> {
        Self::build(graph, input_shapes, isa, false)
    }

    /// Like [`Plan::new`], but keeps every value readable after a run
    /// ([`Session::value`](super::Session::value)), which takes more memory.
    ///
    /// # Errors
    /// See [`Plan::new`].
    pub fn keeping_all(graph: &Graph, input_shapes: &[Vec<usize>]) -> Result<Self, GraphError> {
        Self::build(graph, input_shapes, chosen(graph)?, true)
    }

    fn build(
        graph: &Graph,
        input_shapes: &[Vec<usize>],
        isa: Isa,
        keeps_all: bool,
    ) -> Result<Self, GraphError> {
        let lowered = lower(&mut CpuLowering::new(graph), graph, input_shapes, keeps_all)?;
        Ok(Self {
            isa,
            elements: lowered.slot_sizes(1).iter().sum(),
            windows: WindowPlan::new(&lowered),
            lowered,
        })
    }

    /// Names and shapes (without the batch) of the outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.lowered.outputs()
    }

    /// Names and shapes (without the batch) of the inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.lowered.inputs()
    }

    /// Returns true if any dropout stays on at inference.
    pub fn is_stochastic(&self) -> bool {
        self.lowered.dropouts > 0
    }
}

fn chosen(graph: &Graph) -> Result<Isa, GraphError> {
    Isa::chosen().map_err(|unknown| GraphError::Graph {
        graph: graph.name.clone(),
        problem: unknown.to_string(),
    })
}
