//! Manual pages and shell completions of the programs, generated from their command lines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use maeum::programs;

const SHELLS: [Shell; 5] = [
    Shell::Bash,
    Shell::Elvish,
    Shell::Fish,
    Shell::PowerShell,
    Shell::Zsh,
];

/// Returns the command line of every program in this build.
pub fn commands() -> Vec<Command> {
    vec![
        programs::infer::command(),
        #[cfg(feature = "convert")]
        programs::convert::command(),
        #[cfg(feature = "serve")]
        programs::serve::command(),
    ]
}

/// Writes `man/PROGRAM.1` and `completions/*` into `folder`; returns their paths.
///
/// # Errors
/// When a file cannot be written; the message has its path.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |path: &Path, e: io::Error| format!("cannot write {}: {e}", path.display());
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for made in [&man, &completions] {
        fs::create_dir_all(made).map_err(|e| fail(made, e))?;
    }
    let mut written = Vec::new();
    for mut command in commands() {
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            let path = clap_complete::generate_to(shell, &mut command, &name, &completions);
            written.push(path.map_err(|e| fail(&completions, e))?);
        }
        let mut page = Vec::new();
        let path = man.join(format!("{name}.1"));
        Man::new(command)
            .render(&mut page)
            .and_then(|()| fs::write(&path, page))
            .map_err(|e| fail(&path, e))?;
        written.push(path);
    }
    Ok(written)
}
