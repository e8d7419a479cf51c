//! Program `infer`; see [`maeum::programs::infer`].

use std::process::ExitCode;

#[cfg(unix)]
#[ctor::ctor(unsafe)]
fn before_main() {
    maeum::programs::stdout::look();
}

fn main() -> ExitCode {
    maeum::programs::infer::main(std::env::args_os()).into()
}
