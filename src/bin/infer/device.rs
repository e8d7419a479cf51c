//! Where the networks run.

use maeum::report::batch::Batch;

use super::arguments::Device;
use super::complain;

/// The batch on the device that was asked for. Without a GPU `auto` says why and stays on the
/// processor; who asked for a GPU has an error.
pub fn place(batch: Batch<'_>, device: Device) -> Result<Batch<'_>, String> {
    let number = match device {
        Device::Cpu => return Ok(batch),
        Device::Cuda(number) => number,
        Device::Auto => 0,
    };
    match (gpu::open(number), device) {
        (Ok(gpu), _) => gpu::place(batch, gpu),
        (Err(e), Device::Auto) => {
            complain(&format!("computing on the processor: {e}"));
            Ok(batch)
        }
        (Err(e), _) => Err(format!("--device cuda:{number}: {e}")),
    }
}

#[cfg(feature = "cuda")]
mod gpu {
    use std::sync::Arc;

    use maeum::nn::cuda::{Driver, Gpu};
    use maeum::report::batch::Batch;

    pub fn open(number: usize) -> Result<Arc<dyn Driver>, String> {
        let gpu = Gpu::new(number).map_err(|e| e.to_string())?;
        Ok(Arc::new(gpu))
    }

    pub fn place(batch: Batch<'_>, gpu: Arc<dyn Driver>) -> Result<Batch<'_>, String> {
        let name = gpu.name();
        batch.on_device(&gpu).map_err(|e| format!("{name}: {e}"))
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use std::convert::Infallible;

    use maeum::report::batch::Batch;

    pub fn open(_: usize) -> Result<Infallible, String> {
        Err("this program was built without CUDA; build it with `--features cuda`".into())
    }

    pub fn place(_: Batch<'_>, gpu: Infallible) -> Result<Batch<'_>, String> {
        match gpu {}
    }
}
