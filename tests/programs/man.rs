//! Manual pages and completions contain every option and value of the command lines.

#[path = "../../tools/man/pages.rs"]
mod pages;

use std::path::Path;

/// Returns every option, and every listed value of an option.
fn names(command: &clap::Command) -> Vec<String> {
    let mut names = vec!["--help".to_owned(), "--version".to_owned()];
    for argument in command.get_arguments() {
        let values = argument.get_possible_values();
        names.extend(argument.get_long().map(|long| format!("--{long}")));
        if argument.get_action().takes_values() {
            names.extend(values.iter().map(|v| v.get_name().to_owned()));
        }
    }
    names
}

fn check(folder: &Path) {
    let read = |path: String| std::fs::read_to_string(folder.join(path)).unwrap();
    let commands = pages::commands();
    let optional = [cfg!(feature = "convert"), cfg!(feature = "serve")];
    let optional = optional.into_iter().filter(|built| *built).count();
    assert_eq!(commands.len(), 1 + optional);
    for command in commands {
        let program = command.get_name();
        let names = names(&command);
        assert!(names.len() > 10, "{names:?}");
        // Hyphens are escaped, so that they are not set as dashes.
        let page = read(format!("man/{program}.1")).replace("\\-", "-");
        assert!(page.contains(&format!(".TH {program} 1")), "{page}");
        for name in &names {
            assert!(page.contains(name.as_str()), "{program}.1 lacks {name}");
        }
        for file in ["{}.bash", "{}.elv", "{}.fish", "_{}.ps1", "_{}"] {
            let file = file.replace("{}", program);
            let completions = read(format!("completions/{file}"));
            // Completions for Elvish and PowerShell have no values.
            let values = !(file.ends_with(".elv") || file.ends_with(".ps1"));
            for name in names.iter().filter(|n| values || n.starts_with("--")) {
                // Completions for fish have long options without hyphens.
                let bare = name.trim_start_matches('-');
                assert!(completions.contains(bare), "{file} lacks {name}");
            }
        }
    }
}

#[test]
fn every_option_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!pages::write(dir.path()).unwrap().is_empty());
    check(dir.path());
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    let error = pages::write(&in_the_way).unwrap_err();
    assert!(error.contains("file"), "{error}");
}

#[cfg(feature = "man")]
#[test]
fn the_program_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_man"));
    let run = { program }.arg(dir.path()).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(String::from_utf8(run.stdout).unwrap().contains("infer.1"));
    check(dir.path());
}
