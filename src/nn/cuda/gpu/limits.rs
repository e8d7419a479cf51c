//! Hardware properties of a device.

use cudarc::driver::{result, sys};

use super::failed;
use crate::nn::cuda::driver::DeviceError;

/// Hardware properties of a device, which bound its performance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Compute capability: major and minor number.
    pub capability: [u32; 2],
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Maximum clock of the multiprocessors, in kHz.
    pub clock: u32,
    /// Maximum memory clock, in kHz; there are two transfers per period.
    pub memory_clock: u32,
    /// Width of the memory bus, in bits.
    pub memory_width: u32,
}

impl Limits {
    pub(super) fn of(device: sys::CUdevice) -> Result<Self, DeviceError> {
        use sys::CUdevice_attribute_enum as A;
        let attribute = |which| {
            // SAFETY: the device comes from the driver.
            let value = unsafe { result::device::get_attribute(device, which) };
            let value = value.map_err(failed("cuDeviceGetAttribute"))?;
            Ok::<_, DeviceError>(u32::try_from(value).unwrap_or(0))
        };
        Ok(Self {
            capability: [
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ],
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            clock: attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            memory_clock: attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
            memory_width: attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
        })
    }

    /// Architecture name, such as `sm_90`.
    pub fn architecture(&self) -> String {
        let [major, minor] = self.capability;
        format!("sm_{major}{minor}")
    }

    /// Peak `f32` operations per second without tensor cores; a multiply-add counts two.
    /// Multiply-adds per period and multiprocessor are those of the CUDA C++ Programming Guide's
    /// table of arithmetic instructions: 64 for capability 7.0 to 8.0, 128 for later ones and 6.1.
    pub fn flops(&self) -> f64 {
        let lanes = match self.capability {
            [6, 0] | [7, _] | [8, 0] => 64.0,
            _ => 128.0,
        };
        2.0 * lanes * f64::from(self.multiprocessors) * f64::from(self.clock) * 1e3
    }

    /// Peak memory bandwidth in bytes per second.
    pub fn bandwidth(&self) -> f64 {
        2.0 * f64::from(self.memory_clock) * 1e3 * f64::from(self.memory_width) / 8.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Properties of an H200 against NVIDIA's data sheet: 66.9 Tflop/s and 4.8 TB/s.
    #[test]
    fn limits_of_a_known_card() {
        let limits = Limits {
            capability: [9, 0],
            multiprocessors: 132,
            clock: 1_980_000,
            memory_clock: 3_201_000,
            memory_width: 6_144,
        };
        assert_eq!(limits.architecture(), "sm_90");
        assert!((limits.flops() / 66.9e12 - 1.0).abs() < 1e-3);
        assert!((limits.bandwidth() / 4.8e12 - 1.0).abs() < 0.03);
    }
}
