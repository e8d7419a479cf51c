//! The CUDA kernels, against the reference and the CPU's engine: on the emulator
//! (`kernels/shim.h`) in three orders of the threads, and on a GPU where there is one.
//!
//! To test a kernel: write one function that takes `&Arc<dyn Driver>`, and run it for each of
//! [`drivers`]. Buffers of the emulator hold NaN until they are written, and what is written past
//! their end is an error of the launch.

#[path = "cuda/emulator.rs"]
mod emulator;
#[path = "cuda/kernels.rs"]
mod kernels;

use std::sync::Arc;

use emulator::{Emulator, ORDERS};
use maeum::nn::cuda::{DeviceError, Driver, Number, Stream, bytes, bytes_mut};

/// The emulator in each order of the threads, and the GPU if there is one; says which.
pub fn drivers() -> Vec<Arc<dyn Driver>> {
    let all: Vec<Arc<dyn Driver>> = ORDERS
        .iter()
        .map(|&order| Arc::new(Emulator::new(order)) as Arc<dyn Driver>)
        .collect();
    for driver in &all {
        println!("runs on: {}", driver.name());
    }
    all
}

/// Uploads numbers into a buffer of their own.
pub fn upload<T: Number>(
    driver: &dyn Driver,
    numbers: &[T],
) -> Result<maeum::nn::cuda::Buffer, DeviceError> {
    let buffer = driver.allocate(size_of_val(numbers))?;
    driver.upload(Stream::A, bytes(numbers), &buffer, 0)?;
    Ok(buffer)
}

/// The first `count` numbers of a buffer.
pub fn download<T: Number>(
    driver: &dyn Driver,
    buffer: &maeum::nn::cuda::Buffer,
    count: usize,
) -> Result<Vec<T>, DeviceError> {
    let mut numbers = vec![T::default(); count];
    driver.download(Stream::A, buffer, 0, bytes_mut(&mut numbers))?;
    Ok(numbers)
}
