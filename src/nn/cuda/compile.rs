//! The run-time compiler, and what it compiled before.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::driver::DeviceError;
use super::sources::COMMON;

/// A compiled source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code for one architecture.
    pub cubin: Vec<u8>,
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

/// Compiles a source for an architecture such as `sm_90` with NVRTC. No GPU is needed.
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
    let code = |e: result::NvrtcError| failed(format!("{e:?}"));
    let program = Program(result::create_program(&text, Some(&name)).map_err(code)?);
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
    let mut size = 0;
    // SAFETY: as above.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }
        .result()
        .map_err(code)?;
    let mut cubin = vec![0u8; size];
    // SAFETY: the compiler writes the number of bytes that it has told.
    unsafe { sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }
        .result()
        .map_err(code)?;
    Ok(Compiled { cubin, log })
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

/// The machine code of a source, from the cache or compiled now. `fresh` asks for the latter.
pub(super) fn cubin(
    file: &str,
    source: &str,
    architecture: &str,
    fresh: bool,
) -> Result<Vec<u8>, DeviceError> {
    let mut hash = Sha256::new();
    hash.update(whole(file, source));
    hash.update(OPTIONS.join(" "));
    let hash: String = hash.finalize()[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let path = cache().map(|dir| dir.join(format!("{file}-{architecture}-{hash}.cubin")));
    if let Some(path) = path.as_ref().filter(|_| !fresh)
        && let Ok(cubin) = std::fs::read(path)
    {
        return Ok(cubin);
    }
    let compiled = compile(file, source, architecture)?;
    if let Some(path) = path {
        // Without a cache everything works, only later.
        let _ = store(&path, &compiled.cubin);
    }
    Ok(compiled.cubin)
}

/// The user's folder for what can be made again.
fn cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("maeum").join("cuda"))
}

fn store(path: &Path, cubin: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Whole or not at all, whoever else writes it.
    let own = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&own, cubin)?;
    std::fs::rename(&own, path)
}
