//! Program `convert`; see [`maeum::programs::convert`].

use std::process::ExitCode;

#[cfg(unix)]
#[ctor::ctor(unsafe)]
fn before_main() {
    maeum::programs::stdout::look();
}

fn main() -> ExitCode {
    maeum::programs::convert::main(std::env::args_os()).into()
}
