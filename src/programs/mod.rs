//! The programs `infer`, `convert` and `serve` as functions, for the binaries and the Python package.
//!
//! Each takes its arguments, the first of which is the program's name in the description of its usage, and
//! returns an exit code. A program may be run once per process: it installs handlers of signals and panics.

#[cfg(feature = "convert")]
pub mod convert;
mod device;
pub mod infer;
mod model;
#[cfg(feature = "serve")]
pub mod serve;
mod signals;
pub mod stdout;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, Parser};

/// Exit code of success.
const SUCCESS: u8 = 0;
/// Exit code of a failure.
const FAILURE: u8 = 1;
/// Exit code of a wrong command line, as clap's.
const USAGE: u8 = 2;

/// Parses a command line. Prints the help or the usage error otherwise, and returns the exit code.
fn parse<A: Parser>(arguments: &[OsString]) -> Result<A, u8> {
    A::try_parse_from(arguments).map_err(|e| {
        // A closed output is ignored.
        let _ = e.print();
        match e.use_stderr() {
            true => USAGE,
            false => SUCCESS,
        }
    })
}

/// Prints a usage error that clap cannot find by itself, in its format; returns the exit code.
fn usage_error(command: Command, arguments: &[OsString], kind: ErrorKind, message: &str) -> u8 {
    let mut command = match arguments.first().map(std::path::Path::new) {
        Some(name) => {
            let name = name.file_name().unwrap_or(name.as_os_str());
            command.bin_name(name.to_string_lossy())
        }
        None => command,
    };
    let _ = command.error(kind, message).print();
    USAGE
}
