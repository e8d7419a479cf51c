//! The device that the command line names.

/// What computes the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(usize),
    Auto,
}

/// Reads the value of `--device`.
///
/// # Errors
/// Says what it may be.
pub fn parse(text: &str) -> Result<Device, String> {
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        "auto" => Ok(Device::Auto),
        _ => text
            .strip_prefix("cuda:")
            .filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|number| number.parse().ok())
            .map(Device::Cuda)
            .ok_or_else(|| "give `cpu`, `cuda`, `cuda:` and a number from 0, or `auto`".into()),
    }
}

/// The GPU to compute on, if it is to be one. Where there is none, `auto` has that said and does
/// without.
///
/// # Errors
/// When a GPU is asked for by its number and cannot be used.
pub fn open(device: Device, say: impl FnOnce(&str)) -> Result<Option<Gpu>, String> {
    let number = match device {
        Device::Cpu => return Ok(None),
        Device::Cuda(number) => number,
        Device::Auto => 0,
    };
    match (gpu(number), device) {
        (Ok(gpu), _) => Ok(Some(gpu)),
        (Err(e), Device::Auto) => {
            say(&format!("computing on the processor: {e}"));
            Ok(None)
        }
        (Err(e), _) => Err(format!("--device cuda:{number}: {e}")),
    }
}

/// What runs CUDA kernels.
#[cfg(feature = "cuda")]
pub type Gpu = std::sync::Arc<dyn maeum::nn::cuda::Driver>;

#[cfg(feature = "cuda")]
fn gpu(number: usize) -> Result<Gpu, String> {
    let gpu = maeum::nn::cuda::Gpu::new(number).map_err(|e| e.to_string())?;
    Ok(std::sync::Arc::new(gpu))
}

/// There is none.
#[cfg(not(feature = "cuda"))]
pub type Gpu = std::convert::Infallible;

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> Result<Gpu, String> {
    Err(
        "this program was built without CUDA; build it with `--features cuda`, or compute on the CPU"
            .into(),
    )
}
