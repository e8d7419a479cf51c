//! The networks on NVIDIA GPUs.
//!
//! A [`CudaPlan`] makes a graph ready to run on a [`Driver`], and a [`CudaSession`] runs it, like the
//! CPU's [`Plan`](super::Plan) and [`Session`](super::Session): batches of any size, done in
//! parts that fit the device's memory, without a step back to the host between layers. Convolutions,
//! dense and recurrent layers sum up in the CPU's order and give its bits; with the functions of CUDA's
//! library, softmax, means and scaled channels the numbers are the CPU's within 1e-5 of a layer's
//! largest. Draws of dropout make the same decisions.
//!
//! The kernels are CUDA sources that are part of the program (the folder `kernels`); a [`Driver`]
//! compiles and runs them. Nothing of CUDA is needed to build.

mod compile;
mod driver;
mod gpu;
mod means;
pub(crate) mod memory;
mod ops;
mod peaks;
mod plan;
mod session;
pub mod sources;
mod tile;
mod timed;
mod work;

pub use compile::{Compiled, architecture_for, compile};
pub use driver::{
    Arg, Buffer, DeviceError, Driver, Event, Launch, Number, Stream, bytes, bytes_mut,
};
pub use gpu::{Gpu, Limits};
pub(crate) use means::{Means, RowParts};
pub(crate) use memory::Memory;
pub use peaks::{Effort, Peaks};
pub use plan::{CudaPlan, PlanError};
pub use session::{CudaRunError, CudaSession, Rows, Source};
pub use timed::{Timed, Timing};
pub use work::Work;
