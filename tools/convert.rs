//! Program `convert`; see [`maeum::programs::convert`].

use std::process::ExitCode;

fn main() -> ExitCode {
    maeum::programs::convert::main(std::env::args_os()).into()
}
