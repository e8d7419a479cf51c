//! The interface of the 2020 system from Python with `requests`, the library of its clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common;
use crate::environment::{environment, skip};
use crate::infer::Place;
use crate::support::Server;

/// Returns a Python with `requests`; otherwise `None` with a message, or in CI a panic.
fn python() -> Option<PathBuf> {
    let python = environment("server-venv", "tests/server/requirements.txt", "requests");
    if python.is_none() {
        skip("there is no Python with requests, which stands for the original's clients");
    }
    python
}

fn post(python: &Path, server: &Server, fields: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/client.py");
    let output = Command::new(python)
        .arg(script)
        .arg(format!("http://{}", server.address))
        .args(fields)
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}{errors}"))
}

const KEYS: [&str; 13] = [
    "10001", "10002", "10003", "10004", "10005", "10006", "10007", "20000", "20003", "20004",
    "20005", "30001", "30002",
];

fn keys(answer: &Value) -> Vec<&str> {
    let pairs = answer["json"].as_array().unwrap();
    pairs.iter().map(|p| p[0].as_str().unwrap()).collect()
}

#[test]
fn the_original_client_is_answered() {
    let Some(python) = python() else { return };
    let place = Place::new();
    std::fs::copy(place.path("b.wav"), place.path("test_dis.wav")).unwrap();
    let open = ["--model", "model.safetensors", "--files-root", "."];
    let server = Server::start(place.0.path(), &open);
    let answer = post(&python, &server, &["path_dir=./", "wav_name=test_dis.wav"]);
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["type"], "text/html; charset=utf-8");
    let wanted = place.infer(&["--format", "codes", "b.wav"]).out;
    assert_eq!(answer["text"], wanted.trim_end());
    assert_eq!(keys(&answer), KEYS);
    let refused = post(&python, &server, &["path_dir=./"]);
    assert_eq!(refused["status"], 400);
}

#[test]
fn the_original_models_are_answered_as_by_the_original() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let Some(python) = python() else { return };
    let place = Place::empty();
    let bundle = place.path("reference.safetensors");
    let models = dir.join("models");
    let converted = Command::new(env!("CARGO_BIN_EXE_convert"))
        .args([&models, Path::new("-o"), &bundle])
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    for name in common::all_recordings() {
        std::fs::copy(
            common::recording(&dir, name),
            place.path(&format!("{name}.wav")),
        )
        .unwrap();
    }
    let open = ["--model", "reference.safetensors", "--files-root", "."];
    let server = Server::start(place.0.path(), &open);
    for (name, wanted) in common::RESPONSES {
        let wav = format!("wav_name={name}.wav");
        let answer = post(&python, &server, &["path_dir=./", &wav]);
        assert_eq!(
            (&answer["status"], &*keys(&answer)),
            (&200.into(), &KEYS[..])
        );
        let text = answer["text"].as_str().unwrap();
        let (emotions, rest) = text.split_at(text.find("\"20000\"").unwrap());
        assert_eq!(rest, wanted, "{name}");
        // The emotions are means over draws here and one draw in the capture, in the same format.
        let pairs: Vec<String> = answer["json"].as_array().unwrap()[..7]
            .iter()
            .map(|p| format!("{}: {:?}, ", p[0], p[1].as_f64().unwrap()))
            .collect();
        assert_eq!(emotions, format!("{{{}", pairs.concat()), "{name}");
    }
}
