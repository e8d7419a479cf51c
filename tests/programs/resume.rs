//! `infer --resume`: a batch that is killed at any moment is continued, and nothing is lost or doubled.
#![cfg(all(feature = "default-model", unix))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Recordings of the batch.
const RECORDINGS: usize = 120;

fn infer(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
    command.args(["--threads", "2"]).current_dir(folder);
    if !arguments.contains(&"--format") {
        command.args(["--format", "jsonl"]);
    }
    command.args(arguments);
    command
}

fn run(arguments: &[&str], folder: &Path) -> Output {
    infer(arguments, folder).output().unwrap()
}

/// A folder of recordings that differ, and some files without an answer.
fn recordings() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let voice = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/voice.wav")).unwrap();
    for i in 0..RECORDINGS {
        let path = folder.path().join(format!("in/{i:03}.wav"));
        match i % 10 {
            7 => fs::write(path, b"no recording").unwrap(),
            // Cut at another place each, which the header contradicts.
            _ => fs::write(path, &voice[..voice.len() - 200 * i]).unwrap(),
        }
    }
    folder
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn a_batch_survives_being_killed() {
    let folder = recordings();
    let at = |name: &str| folder.path().join(name);
    let whole = run(&["-o", "whole.jsonl", "in"], folder.path());
    assert_eq!(whole.status.code(), Some(1));
    let wanted = text(at("whole.jsonl"));
    assert_eq!(wanted.lines().count(), RECORDINGS);

    let arguments = ["--resume", "-o", "out.jsonl", "in"];
    let mut interrupted = 0;
    for round in 1..=10 {
        let before = text(at("out.jsonl")).len();
        let mut child = infer(&arguments, folder.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later in its output, at a moment that the scheduler chooses.
        let mut waited = 0;
        while text(at("out.jsonl")).len() < before + 700 * round && waited < 3000 {
            std::thread::sleep(Duration::from_millis(1));
            waited += 1;
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        interrupted += usize::from(status.code().is_none());
        let got = text(at("out.jsonl"));
        assert!(wanted.starts_with(&got), "round {round}");
    }
    assert!(interrupted >= 5, "{interrupted} of 10 runs were killed");
    let last = run(&arguments, folder.path());
    assert_eq!(last.status.code(), Some(1));
    assert_eq!(text(at("out.jsonl")), wanted);
    // Nothing is left to do, and the failures still count.
    let again = run(&arguments, folder.path());
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(text(at("out.jsonl")), wanted);
}

#[test]
fn an_incomplete_line_is_computed_again() {
    let folder = recordings();
    let at = |name: &str| folder.path().join(name);
    let files = ["in/000.wav", "in/001.wav", "in/000.wav"];
    let all = ["-o", "whole.jsonl", files[0], files[1], files[2]];
    assert!(run(&all, folder.path()).status.success());
    let wanted = text(at("whole.jsonl"));
    let lines: Vec<&str> = wanted.lines().collect();
    for cut in [0, 1, lines[0].len(), lines[0].len() + 1, wanted.len() - 1] {
        fs::write(at("out.jsonl"), &wanted[..cut]).unwrap();
        let resumed = ["--resume", "-o", "out.jsonl", files[0], files[1], files[2]];
        assert!(run(&resumed, folder.path()).status.success());
        assert_eq!(text(at("out.jsonl")), wanted, "cut at {cut}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn recordings_with_equal_names_in_the_output_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/voice.wav");
    // Neither name is UTF-8, and the output shows both with the same replacement character.
    for name in [b"a\xff.wav", b"a\xfe.wav"] {
        fs::copy(voice, folder.path().join(OsStr::from_bytes(name))).unwrap();
    }
    let output = run(&["--resume", "-o", "out.jsonl", "."], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("rename one of them"), "{message}");
}

#[test]
fn foreign_files_are_not_continued() {
    let folder = recordings();
    let at = |name: &str| folder.path().join(name);
    let refused = |arguments: &[&str], word: &str| {
        let output = run(arguments, folder.path());
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(word), "{message}");
    };
    let resumed = ["--resume", "-o", "out.jsonl", "in/000.wav"];
    for (content, word) in [
        ("no json\n", "line 1"),
        (
            "{\"file\":\"in/000.wav\",\"model\":{\"sha256\":\"0\"}}\n",
            "model",
        ),
        ("[1]\n", "line 1"),
        ("my only notes", "line 1"),
        ("\0\0\0", "line 1"),
        ("{\"file\":\"x\"}\n", "no model"),
    ] {
        fs::write(at("out.jsonl"), content).unwrap();
        refused(&resumed, word);
        assert_eq!(text(at("out.jsonl")), content);
    }
    refused(&["--resume", "in/000.wav"], "--output");
    refused(
        &["--format", "csv", "--resume", "-o", "out.csv", "in/000.wav"],
        "jsonl",
    );
    for (output, word) in [
        ("in", "regular"),
        ("/dev/stdout", "regular"),
        ("/dev/null", "regular"),
    ] {
        refused(&["--resume", "-o", output, "in/000.wav"], word);
    }
    refused(&["--resume", "-o", "out.jsonl", "-"], "name a file");
    fs::write(at("out.jsonl"), "").unwrap();
    let mono = [
        "--channel",
        "1",
        "--resume",
        "-o",
        "out.jsonl",
        "in/000.wav",
    ];
    assert!(run(&mono, folder.path()).status.success());
    refused(&resumed, "channel");
    fs::write(at("out.jsonl"), "").unwrap();
    let file = fs::File::open(at("out.jsonl")).unwrap();
    file.lock().unwrap();
    refused(&resumed, "another program");
}
