//! Run-time compilation of CUDA sources with NVRTC.

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use super::driver::DeviceError;
use super::sources::COMMON;

mod cache;

pub(super) use cache::image;

/// Output of a compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code for one architecture, or zero-terminated PTX.
    pub code: Vec<u8>,
    /// The compiler's log: registers, spills and shared memory of each kernel.
    pub log: String,
}

/// Compiler options. Multiply-adds are fused only where the source does so; the log lists each
/// kernel's resources.
const OPTIONS: [&str; 4] = [
    "--fmad=false",
    "--std=c++17",
    "--ptxas-options=-v",
    // Disables the warning for common functions that a source does not use.
    "--diag-suppress=177",
];

/// Prefix of PTX architectures, for devices newer than the compiler; the driver compiles PTX.
const PTX: &str = "compute_";

/// Compiles a source with NVRTC. An architecture such as `sm_90` yields machine code; one such as
/// `compute_90` yields PTX, which drivers compile for devices of that or a later capability. No GPU
/// is needed.
///
/// # Errors
/// If NVRTC is missing or rejects the source.
pub fn compile(file: &str, source: &str, architecture: &str) -> Result<Compiled, DeviceError> {
    // SAFETY: tries to load the library by its names. Checked first because any call without it
    // panics.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoCompiler);
    }
    let failed = |problem: String| DeviceError::Compile {
        file: file.into(),
        architecture: architecture.into(),
        log: problem,
    };
    let text = CString::new(whole(file, source)).map_err(|e| failed(e.to_string()))?;
    let name = CString::new(file).map_err(|e| failed(e.to_string()))?;
    let error = |e: result::NvrtcError| failed(format!("{e:?}"));
    let program = Program(result::create_program(&text, Some(&name)).map_err(error)?);
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    options.extend(OPTIONS.map(String::from));
    // SAFETY: the program lives until the end of this function, here and below.
    let done = unsafe { result::compile_program(program.0, &options) };
    // SAFETY: see above.
    let log = unsafe { result::get_program_log(program.0) }.unwrap_or_default();
    let log: Vec<u8> = log
        .iter()
        .map(|&c| c as u8)
        .take_while(|&c| c != 0)
        .collect();
    let log = String::from_utf8_lossy(&log).trim().to_owned();
    if let Err(e) = done {
        return Err(failed(match &*log {
            "" => format!("{e:?}"),
            _ => log,
        }));
    }
    let code = if architecture.starts_with(PTX) {
        // SAFETY: see above.
        let text = unsafe { result::get_ptx(program.0) }.map_err(error)?;
        text.iter().map(|&c| c as u8).collect()
    } else {
        let mut size = 0;
        // SAFETY: see above.
        unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }
            .result()
            .map_err(error)?;
        let mut cubin = vec![0u8; size];
        // SAFETY: the buffer has the size that NVRTC reported.
        unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }
            .result()
            .map_err(error)?;
        cubin
    };
    Ok(Compiled { code, log })
}

/// Returns the architecture to compile for, given a compute capability: machine code if the
/// compiler supports it, else the latest earlier PTX.
///
/// # Errors
/// If NVRTC is missing or fails.
pub fn architecture_for([major, minor]: [u32; 2]) -> Result<String, DeviceError> {
    // SAFETY: see `compile`.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoCompiler);
    }
    let failed = |e: result::NvrtcError| DeviceError::Failed {
        what: "nvrtcGetSupportedArchs".into(),
        problem: format!("{e:?}"),
    };
    let mut count = 0;
    // SAFETY: writes one integer.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }
        .result()
        .map_err(failed)?;
    let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the buffer has the length that NVRTC reported.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }
        .result()
        .map_err(failed)?;
    let known: Vec<u32> = known
        .into_iter()
        .filter_map(|n| n.try_into().ok())
        .collect();
    Ok(choose(&known, 10 * major + minor))
}

/// Chooses the architecture from capabilities such as 90. A device older than all `known` ones gets
/// its own, which the compiler then rejects.
fn choose(known: &[u32], capability: u32) -> String {
    let before = known.iter().copied().filter(|&n| n < capability).max();
    match before {
        Some(latest) if !known.contains(&capability) => format!("{PTX}{latest}"),
        _ => format!("sm_{capability}"),
    }
}

struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and not yet destroyed.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn whole(file: &str, source: &str) -> String {
    format!("{COMMON}\n#line 1 \"{file}\"\n{source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_newer_than_the_compiler_is_given_ptx() {
        let known = [50, 80, 86, 90];
        assert_eq!(choose(&known, 90), "sm_90");
        assert_eq!(choose(&known, 120), "compute_90");
        assert_eq!(choose(&known, 89), "compute_86");
        assert_eq!(choose(&known, 35), "sm_35");
    }
}
