//! Outputs that cannot be written, and programs that are ended by a signal.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::infer::{Place, command};

const ANSWER: [&str; 3] = ["--model", "model.safetensors", "c.wav"];

/// Returns a standard output with a closed reader, and one on a full disk.
fn lost() -> [(&'static str, Stdio); 2] {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    [
        ("its reader", writer.into()),
        ("No space left", full.into()),
    ]
}

fn fails(mut program: Command, arguments: &[&str]) {
    for (expected, out) in lost() {
        let output = program
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
        assert!(log.contains(expected), "{arguments:?}: {log}");
        assert!(!log.contains("panicked"), "{arguments:?}: {log}");
        program = {
            let mut again = Command::new(program.get_program());
            if let Some(folder) = program.get_current_dir() {
                again.current_dir(folder);
            }
            again
        };
    }
}

#[test]
fn an_answer_that_is_lost_fails() {
    let place = Place::new();
    for format in ["table", "json", "jsonl", "csv", "codes", "svg"] {
        let arguments = [&ANSWER[..], &["--format", format]].concat();
        fails(command(place.0.path()), &arguments);
    }
    let manifest = "path,emotion,gender,age,speaker\nc.wav,anger,male,30,a\n";
    std::fs::write(place.path("m.csv"), manifest).unwrap();
    let arguments = ["--model", "model.safetensors", "--eval", "m.csv"];
    fails(command(place.0.path()), &arguments);
}

/// Runs a program whose standard output is closed.
fn without_output(program: &str, arguments: &[&str], place: &Place) -> Output {
    Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" >&-", program])
        .args(arguments)
        .current_dir(place.0.path())
        .output()
        .unwrap()
}

#[test]
fn a_closed_standard_output_is_an_error_if_the_answer_would_go_there() {
    let place = Place::new();
    let manifest = "path,emotion,gender,age,speaker\nc.wav,anger,male,30,a\n";
    std::fs::write(place.path("m.csv"), manifest).unwrap();
    let infer = env!("CARGO_BIN_EXE_infer");
    let eval = ["--model", "model.safetensors", "--eval", "m.csv"];
    for arguments in [&ANSWER[..], &eval] {
        let output = without_output(infer, arguments, &place);
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("standard output is closed"), "{log}");
    }
    let arguments = [&ANSWER[..], &["--format", "json", "-o", "out.json"]].concat();
    let output = without_output(infer, &arguments, &place);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(place.path("out.json").exists());
    #[cfg(feature = "convert")]
    {
        let convert = env!("CARGO_BIN_EXE_convert");
        let output = without_output(convert, &["--inspect", "model.safetensors"], &place);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

#[cfg(feature = "convert")]
#[test]
fn a_bundle_can_be_written_to_a_pipe() {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/models/default");
    let output = Command::new(env!("CARGO_BIN_EXE_convert"))
        .args([models, "-o", "/dev/stdout"])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{report}");
    assert!(report.contains("self-test passed"), "{report}");
    let bundle = std::fs::read(Path::new(models).join("maeum.safetensors")).unwrap();
    assert!(output.stdout == bundle);
}

#[cfg(feature = "convert")]
#[test]
fn convert_fails_if_its_output_cannot_be_written() {
    let place = Place::empty();
    let convert = || {
        let mut convert = Command::new(env!("CARGO_BIN_EXE_convert"));
        convert.current_dir(place.0.path());
        convert
    };
    fails(convert(), &["--inspect", "model.safetensors"]);
    fails(convert(), &["--self-test", "model.safetensors"]);
    // Without a reader the message is lost, but not the exit code.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = convert()
        .arg("--inspect")
        .arg("none")
        .stderr(writer)
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_file_on_a_full_disk_is_not_there() {
    let place = Place::new();
    let run = place
        .infer(&["--format", "json", "-o", "/dev/full", "c.wav"])
        .expect(1);
    assert!(run.err.contains("/dev/full"), "{}", run.err);
    // A file size limit of 0 simulates a full disk.
    let before = place.files();
    for output in [
        &["--format", "json", "-o", "out"][..],
        &["--dump-features", "out"],
    ] {
        let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
        let output = Command::new("bash")
            .args(["-c", limited, env!("CARGO_BIN_EXE_infer")])
            .args(ANSWER)
            .args(output)
            .current_dir(place.0.path())
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("out"), "{log}");
        assert_eq!(place.files(), before);
    }
}

#[test]
fn a_terminated_program_leaves_no_files() {
    let place = Place::new();
    let before = place.files();
    for signal in ["TERM", "INT", "HUP"] {
        // The test runner may have set the signals to be ignored.
        let mut child = Command::new("env")
            .arg("--default-signal")
            .arg(env!("CARGO_BIN_EXE_infer"))
            .args(["--model", "model.safetensors", "-o", "out", "-"])
            .current_dir(place.0.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Waiting for the program would close its standard input.
        let _stdin = child.stdin.take();
        let start = Instant::now();
        // The program waits for its recording after it has created its output.
        while place.files() == before {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(5));
        }
        let kill = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{signal}");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.signal().is_some(), "{signal}: {status}");
        assert_eq!(place.files(), before, "{signal}");
    }
}

#[test]
fn a_file_keeps_the_rights_of_the_one_that_it_replaces() {
    let place = Place::new();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(place.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    let under = |umask: &str, name: &str| {
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let status = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_infer")])
            .args(ANSWER)
            .args(["-o", name])
            .current_dir(place.0.path())
            .status();
        assert!(status.unwrap().success());
    };
    under("027", "new");
    assert_eq!(mode("new"), 0o640);
    under("022", "other");
    assert_eq!(mode("other"), 0o644);
    for wanted in [0o600, 0o664, 0o606] {
        let rights = std::fs::Permissions::from_mode(wanted);
        std::fs::set_permissions(place.path("new"), rights).unwrap();
        under("077", "new");
        assert_eq!(mode("new"), wanted);
    }
}
