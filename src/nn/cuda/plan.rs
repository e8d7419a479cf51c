//! A graph made ready to run on a device: shapes fixed, weights uploaded, buffers assigned.

use std::fmt;
use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Driver, Stream, bytes};
use super::ops::Op;
use crate::nn::graph::{Graph, GraphError};
use crate::nn::layer::Activation;

mod build;
mod fuse;
mod slots;

use build::Builder;

/// Why a graph cannot be planned for a device.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The graph is inconsistent or the shapes do not fit it.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Its weights cannot be brought to the device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A graph made ready to run on a device for fixed input shapes, its weights there. It is immutable
/// and shared between threads; each runs it through a [`CudaSession`](super::CudaSession).
pub struct CudaPlan {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) parts: Parts,
    pub(super) constants: Buffer,
}

/// What a plan is before there is a device.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub inputs: Vec<PlannedInput>,
    pub outputs: Vec<PlannedOutput>,
    /// Inputs, then node outputs, then values that only the plan knows.
    pub values: Vec<Value>,
    pub slots: usize,
    pub steps: Vec<Step>,
    pub dropouts: usize,
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

/// Of a value that is computed into no buffer.
pub(super) const NO_SLOT: usize = usize::MAX;

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
    /// A value that is written and read within the step only.
    pub scratch: Option<usize>,
    /// Items per row of the value (the layer's leading dimensions that count as batch).
    pub outer: usize,
    /// What is done to the result in its place.
    pub after: Option<After>,
}

/// A function that the kernel of a step does not compute itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum After {
    /// Over rows of so many numbers.
    Softmax(usize),
    Activation(Activation),
}

/// Numbers that do not depend on the data, by their place among all of a plan's.
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

    /// Like [`CudaPlan::new`], but every value stays readable after a run
    /// ([`CudaSession::value`](super::CudaSession::value)), at the price of memory and of doing
    /// layers together.
    ///
    /// # Errors
    /// As [`CudaPlan::new`].
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
        let (parts, numbers) = Builder::new(graph, input_shapes, keeps_all)?.build();
        let constants = driver.allocate(size_of_val(&*numbers))?;
        driver.upload(Stream::A, bytes(&numbers), &constants, 0)?;
        driver.synchronise(Stream::A)?;
        Ok(Self {
            driver: Arc::clone(driver),
            parts,
            constants,
        })
    }

    /// What it runs on.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Names and shapes (without the batch) of the outputs.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.parts.outputs.iter().map(|o| (&*o.name, &*o.shape))
    }

    /// Names and shapes (without the batch) of the inputs.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        let values = &self.parts.values;
        let inputs = self.parts.inputs.iter();
        inputs.map(|i| (&*i.name, &*values[i.value].shape))
    }

    /// Whether any dropout stays on at inference.
    pub fn is_stochastic(&self) -> bool {
        self.parts.dropouts > 0
    }

    /// What is computed one after the other: for each step the kernels' kind.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &'static str> {
        self.parts.steps.iter().map(|s| s.op.name())
    }
}

impl fmt::Debug for CudaPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaPlan")
            .field("driver", &self.driver.name())
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}
