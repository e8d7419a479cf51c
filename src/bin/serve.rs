//! Program `serve`; see [`maeum::programs::serve`].

use std::process::ExitCode;

fn main() -> ExitCode {
    maeum::programs::serve::main(std::env::args_os()).into()
}
