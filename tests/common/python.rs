//! Python environments for tests that run Python programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// A path in the repository.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether a command ends well; says what it printed if not.
pub fn succeeds(command: &mut Command) -> bool {
    let output = command.output();
    let done = output.as_ref().is_ok_and(|o| o.status.success());
    if !done {
        eprintln!("{command:?}: {output:?}");
    }
    done
}

/// The Python of an environment of this name in which `module` can be imported, from a file of
/// requirements; made if it is not there yet.
pub fn environment(name: &str, requirements: &str, module: &str) -> Option<PathBuf> {
    // Tests of one binary wait for the one that makes it.
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

/// Says loudly that a test is skipped, or fails in CI.
pub fn skip(missing: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    eprintln!("SKIPPED: {missing}");
}
