//! Python environments for tests that run Python programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Returns a path in the repository.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a command and returns true if it succeeds; otherwise prints its output.
pub fn succeeds(command: &mut Command) -> bool {
    let output = command.output();
    let done = output.as_ref().is_ok_and(|o| o.status.success());
    if !done {
        eprintln!("{command:?}: {output:?}");
    }
    done
}

/// Returns the Python of the environment `name` in which `module` can be imported. A missing
/// environment is created from the requirements file.
pub fn environment(name: &str, requirements: &str, module: &str) -> Option<PathBuf> {
    // Tests of one binary wait for the creation of the environment.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock();
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = venv.join("bin/python");
    let has_module = || succeeds(Command::new(&python).args(["-c", &format!("import {module}")]));
    let install = "-m pip install --quiet --disable-pip-version-check -r";
    let made = python.exists() && has_module()
        || succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv))
            && succeeds(
                Command::new(&python)
                    .args(install.split(' '))
                    .arg(source(requirements)),
            )
            && has_module();
    made.then_some(python)
}

/// Reports a skipped test, or panics in CI.
pub fn skip(missing: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    eprintln!("SKIPPED: {missing}");
}
