//! Neural networks on NVIDIA GPUs.
//!
//! A [`CudaPlan`] prepares a graph for a [`Driver`], and a [`CudaSession`] runs it, like the CPU's
//! [`Plan`](super::Plan) and [`Session`](super::Session). Batches of any size are split into parts
//! that fit the device's memory; no layer returns to the host. Convolutions, dense and recurrent
//! layers sum in the CPU's order and give its bits. Functions of CUDA's maths library, softmax,
//! means and scaled channels differ from the CPU by at most 1e-5 of a layer's largest element.
//! Dropout makes the same decisions.
//!
//! The kernels are CUDA sources embedded in the program (folder `kernels`), which a [`Driver`]
//! compiles at run time. Building the program needs no part of CUDA.

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
