//! Program `infer`; see [`maeum::programs::infer`].

use std::process::ExitCode;

fn main() -> ExitCode {
    maeum::programs::infer::main(std::env::args_os()).into()
}
