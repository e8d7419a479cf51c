//! The run-time compiler.

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use super::driver::DeviceError;
use super::sources::COMMON;

mod cache;

pub(super) use cache::image;

/// A compiled source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code for one architecture, or PTX, a text that ends with a zero.
    pub code: Vec<u8>,
    /// What the compiler says: registers, spills and shared memory of each kernel.
    pub log: String,
}

/// Products and sums are joined only where the source says so; the log tells what each kernel uses.
const OPTIONS: [&str; 4] = [
    "--fmad=false",
    "--std=c++17",
    "--ptxas-options=-v",
    // Not every source uses every common function.
    "--diag-suppress=177",
];

/// What a device newer than the compiler is given: the driver makes machine code of it.
const PTX: &str = "compute_";

/// Compiles a source with NVRTC, for an architecture such as `sm_90` to machine code, for one such as
/// `compute_90` to PTX, which drivers compile for devices of that capability and later ones. No GPU
/// is needed.
///
/// # Errors
/// If there is no NVRTC, or it refuses the source.
pub fn compile(file: &str, source: &str, architecture: &str) -> Result<Compiled, DeviceError> {
    // SAFETY: looks for the library by its names; asked first, since any call without it panics.
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
    // SAFETY: the program is there until the end of this function; so in what follows.
    let done = unsafe { result::compile_program(program.0, &options) };
    // SAFETY: as above.
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
        // SAFETY: as above.
        let text = unsafe { result::get_ptx(program.0) }.map_err(error)?;
        text.iter().map(|&c| c as u8).collect()
    } else {
        let mut size = 0;
        // SAFETY: as above.
        unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }
            .result()
            .map_err(error)?;
        let mut cubin = vec![0u8; size];
        // SAFETY: the compiler writes the number of bytes that it has told.
        unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }
            .result()
            .map_err(error)?;
        cubin
    };
    Ok(Compiled { code, log })
}

/// The architecture to compile for, to run on devices of this compute capability: machine code where
/// the compiler knows it, else the latest PTX that it knows before it.
///
/// # Errors
/// If there is no NVRTC, or it does not answer.
pub fn architecture_for([major, minor]: [u32; 2]) -> Result<String, DeviceError> {
    // SAFETY: as in `compile`.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoCompiler);
    }
    let failed = |e: result::NvrtcError| DeviceError::Failed {
        what: "nvrtcGetSupportedArchs".into(),
        problem: format!("{e:?}"),
    };
    let mut count = 0;
    // SAFETY: it writes a number.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }
        .result()
        .map_err(failed)?;
    let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: it writes so many numbers as it has told.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }
        .result()
        .map_err(failed)?;
    let known: Vec<u32> = known
        .into_iter()
        .filter_map(|n| n.try_into().ok())
        .collect();
    Ok(choose(&known, 10 * major + minor))
}

/// As [`architecture_for`], by numbers such as 90. A device older than all that the compiler knows is
/// left to it to refuse.
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
