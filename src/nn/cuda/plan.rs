//! Execution plan of a graph on a device: shapes fixed, weights uploaded, buffers assigned.

use std::fmt;
use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Driver, Stream, bytes};
use super::ops::CudaOp;
use crate::nn::graph::{Graph, GraphError};
use crate::nn::lowering::{self, LoweredGraph, lower};

mod attention;
mod build;
mod fuse;

use build::CudaLowering;

/// Error of planning a graph for a device.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The graph is inconsistent or the shapes do not fit it.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The weights cannot be uploaded.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A graph prepared for a device and fixed input shapes, with its weights uploaded. It is immutable
/// and shared between threads; each runs it through a [`CudaSession`](super::CudaSession).
pub struct CudaPlan {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) lowered: LoweredGraph<CudaOp>,
    pub(super) constants: Buffer,
}

pub(super) type Step = lowering::Step<CudaOp>;

/// Offset of data-independent elements in a plan's constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Constant(pub usize);

impl CudaPlan {
    /// Plans `graph` for inputs of the given shapes (without the batch) and uploads its weights.
    ///
    /// # Errors
    /// When the graph is inconsistent or the shapes do not fit it, or the device fails.
    pub fn new(
        driver: &Arc<dyn Driver>,
        graph: &Graph,
        input_shapes: &[Vec<usize>],
    ) -> Result<Self, PlanError> {
        Self::build(driver, graph, input_shapes, false)
    }

    /// Like [`CudaPlan::new`], but keeps every value readable after a run
    /// ([`CudaSession::value`](super::CudaSession::value)). This takes more memory and disables
    /// fusion.
    ///
    /// # Errors
    /// See [`CudaPlan::new`].
    pub fn keeping_all(
        driver: &Arc<dyn Driver>,
        graph: &Graph,
        input_shapes: &[Vec<usize>],
    ) -> Result<Self, PlanError> {
        Self::build(driver, graph, input_shapes, true)
    }

    fn build(
        driver: &Arc<dyn Driver>,
        graph: &Graph,
        input_shapes: &[Vec<usize>],
        keeps_all: bool,
    ) -> Result<Self, PlanError> {
        let mut builder = CudaLowering::new(graph);
        let lowered = lower(&mut builder, graph, input_shapes, keeps_all)?;
        let numbers = builder.finish();
        let constants = driver.allocate(size_of_val(&*numbers))?;
        driver.upload(Stream::A, bytes(&numbers), &constants, 0)?;
        driver.synchronise(Stream::A)?;
        Ok(Self {
            driver: Arc::clone(driver),
            lowered,
            constants,
        })
    }

    /// The driver of the plan's device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
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

    /// Names of the ops, in the order of the steps.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.lowered.steps.iter().map(|s| s.op.name())
    }
}

impl fmt::Debug for CudaPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaPlan")
            .field("driver", &self.driver.name())
            .field("lowered", &self.lowered)
            .finish_non_exhaustive()
    }
}
