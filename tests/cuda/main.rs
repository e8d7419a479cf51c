//! The CUDA kernels, against the reference and the CPU's engine: on the emulator
//! (`kernels/shim.h`) in three orders of the threads, and on a GPU where there is one; where there is
//! none, all of it once more through a stand-in for NVIDIA's driver ([`stand_in`]).
//!
//! To test a kernel: write one function that takes `&Arc<dyn Driver>`, and run it for each of
//! [`drivers`]. Buffers of the emulator hold NaN until they are written, and what is written past
//! their end is an error of the launch.

mod attention;
#[cfg(feature = "convert")]
#[path = "../common/captures.rs"]
mod captures;
#[path = "../common/mod.rs"]
mod common;
mod compile;
mod emulator;
mod features;
mod front_end;
#[cfg(feature = "convert")]
mod goldens;
#[path = "../common/graphs.rs"]
mod graphs;
#[cfg(feature = "default-model")]
#[path = "../common/infer.rs"]
mod infer;
mod kernels;
#[path = "../common/model.rs"]
mod model;
mod networks;
mod on_device;
#[cfg(feature = "default-model")]
#[path = "../common/profiles.rs"]
mod profiles;
mod program;
mod recognizer;
mod sessions;
mod sharing;
mod stand_in;
mod timing;
mod utterance;
mod watched;
mod whole_way;

use std::sync::{Arc, OnceLock};

use emulator::{Emulator, ORDERS};
use maeum::nn::cuda::{Buffer, DeviceError, Driver, Gpu, Number, Stream, bytes, bytes_mut};

/// The GPU, if there is one that can be used; says once what the tests run on.
pub fn gpu() -> Option<Arc<dyn Driver>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match Gpu::new(0) {
        Ok(gpu) => {
            match std::env::var_os("MAEUM_STAND_IN") {
                None => eprintln!("RUNS ON A DEVICE, and on the emulator: {}", gpu.name()),
                Some(_) => eprintln!("RUNS THROUGH A STAND-IN FOR THE DRIVER, NOT ON A DEVICE"),
            }
            Some(Arc::new(gpu))
        }
        Err(e) => {
            eprintln!("RUNS ON THE EMULATOR ONLY, NOT ON A DEVICE: {e}");
            None
        }
    });
    gpu.clone().map(|gpu| gpu as Arc<dyn Driver>)
}

/// Returns true if `MAEUM_CUDA=gpu` excludes the emulator, which needs a C++ compiler.
pub fn on_gpu_alone() -> bool {
    std::env::var("MAEUM_CUDA").as_deref() == Ok("gpu")
}

/// The emulator in each order of the threads, and the GPU if there is one; or the GPU alone, which
/// must be there then.
pub fn drivers() -> Vec<Arc<dyn Driver>> {
    if on_gpu_alone() {
        return vec![gpu().expect("MAEUM_CUDA=gpu asks for a GPU, and none can be used")];
    }
    let emulated = |&order| Arc::new(Emulator::new(order)) as Arc<dyn Driver>;
    ORDERS.iter().map(emulated).chain(gpu()).collect()
}

/// Uploads elements into a new buffer.
pub fn upload<T: Number>(driver: &dyn Driver, numbers: &[T]) -> Result<Buffer, DeviceError> {
    let buffer = driver.allocate(size_of_val(numbers))?;
    driver.upload(Stream::A, bytes(numbers), &buffer, 0)?;
    Ok(buffer)
}

/// Downloads the first `count` elements of a buffer.
pub fn download<T: Number>(
    driver: &dyn Driver,
    buffer: &Buffer,
    count: usize,
) -> Result<Vec<T>, DeviceError> {
    let mut numbers = vec![T::default(); count];
    driver.download(Stream::A, buffer, 0, bytes_mut(&mut numbers))?;
    Ok(numbers)
}
