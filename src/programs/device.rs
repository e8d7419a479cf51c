//! Device option of the command line.

/// Device that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(usize),
    Auto,
}

/// Parses the value of `--device`.
///
/// # Errors
/// The message lists the valid values.
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

/// Opens the GPU that `device` selects. If there is none, `auto` calls `report` with the reason and
/// returns `None`.
///
/// # Errors
/// When a GPU is selected by its number and cannot be used.
pub fn open(device: Device, report: impl FnOnce(&str)) -> Result<Option<Gpu>, String> {
    let number = match device {
        Device::Cpu => return Ok(None),
        Device::Cuda(number) => number,
        Device::Auto => 0,
    };
    match (gpu(number), device) {
        (Ok(gpu), _) => Ok(Some(gpu)),
        (Err(e), Device::Auto) => {
            report(&format!("computing on the processor: {e}"));
            Ok(None)
        }
        (Err(e), _) => Err(format!("--device cuda:{number}: {e}")),
    }
}

/// GPU driver.
#[cfg(feature = "cuda")]
pub type Gpu = std::sync::Arc<dyn crate::nn::cuda::Driver>;

#[cfg(feature = "cuda")]
fn gpu(number: usize) -> Result<Gpu, String> {
    let gpu = crate::nn::cuda::Gpu::new(number).map_err(|e| e.to_string())?;
    Ok(std::sync::Arc::new(gpu))
}

/// Uninhabited type: a build without CUDA has no GPU.
#[cfg(not(feature = "cuda"))]
pub type Gpu = std::convert::Infallible;

#[cfg(not(feature = "cuda"))]
fn gpu(_: usize) -> Result<Gpu, String> {
    Err(
        "this program was built without CUDA; build it with `--features cuda`, or compute on the CPU"
            .into(),
    )
}
