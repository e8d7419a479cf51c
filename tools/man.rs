//! Writer of the programs' manual pages and shell completions, for packagers.
//!
//! Run `cargo run --features man,serve --bin man [FOLDER]`; the default folder is `target`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[path = "man/pages.rs"]
mod pages;

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1);
    let folder = folder.map_or_else(|| PathBuf::from("target"), PathBuf::from);
    match pages::write(&folder) {
        Ok(paths) => {
            let list: String = paths.iter().map(|p| format!("{}\n", p.display())).collect();
            match io::stdout().write_all(list.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(message) => {
            // A closed standard error is ignored.
            let _ = writeln!(io::stderr(), "man: {message}");
            ExitCode::FAILURE
        }
    }
}
