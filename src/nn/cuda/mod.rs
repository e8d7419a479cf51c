//! The networks on NVIDIA GPUs.
//!
//! The kernels are CUDA sources that are part of the program (the folder `kernels`); a [`Driver`]
//! compiles and runs them. Nothing of CUDA is needed to build.

mod driver;
pub mod sources;

pub use driver::{Arg, Buffer, DeviceError, Driver, Launch, Number, Stream, bytes, bytes_mut};
