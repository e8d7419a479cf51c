//! Writes the programs' manual pages and shell completions, for those who make packages:
//! `cargo run --features man,serve --bin man [FOLDER]`, into `target` unless a folder is given.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "man/pages.rs"]
mod pages;

fn main() -> ExitCode {
    let folder = std::env::args_os().nth(1);
    let folder = folder.map_or_else(|| PathBuf::from("target"), PathBuf::from);
    match pages::write(&folder) {
        Ok(paths) => {
            for path in paths {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("man: {message}");
            ExitCode::FAILURE
        }
    }
}
