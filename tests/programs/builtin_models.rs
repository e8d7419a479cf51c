//! Choice of a built-in model in the program `infer`.
#![cfg(feature = "default-model")]

use std::path::Path;

use crate::infer::{Run, command};
use maeum::default_model;
use serde_json::Value;

/// Runs `infer` on the voice.
fn infer(arguments: &[&str]) -> Run {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = command(root);
    command.args(arguments).arg("tests/data/voice.wav");
    command.output().unwrap().into()
}

#[test]
fn infer_needs_nothing_but_a_recording() {
    let table = infer(&[]).expect(0).out;
    for expected in [
        "CC-BY-NC-SA-4.0",
        "CC-BY-4.0",
        "voice-based estimate",
        " years",
    ] {
        assert!(table.contains(expected), "{table}");
    }
    assert!(!table.contains("random draws"), "{table}");
    let records = infer(&["--format", "jsonl"]).expect(0).lines();
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    let model = default_model::load().unwrap();
    assert_eq!(record["model"]["name"], model.info().name.as_str());
    assert_eq!(record["dropout"]["mode"], "off");
    assert_eq!(record["age"]["spread"], Value::Null);
    assert_eq!(record["timeline"][0]["age"], Value::Null);
    let codes = infer(&["--format", "codes"]).expect(0).out;
    assert!(codes.starts_with("{\"10001\": "), "{codes}");
}

/// No estimate of the commercial model has terms that forbid commercial use.
#[cfg(feature = "commercial-model")]
#[test]
fn the_commercial_model_is_chosen_by_its_name() {
    let records = infer(&["--model", "commercial", "--format", "jsonl"])
        .expect(0)
        .lines();
    assert_eq!(records[0]["model"]["name"], "maeum commercial 2");
    let licences = records[0]["model"]["licences"].as_array().unwrap();
    assert_eq!(licences.len(), 1);
    assert_eq!(licences[0]["licence"], "CC-BY-4.0");
    assert_eq!(
        licences[0]["estimates"],
        serde_json::json!(["age", "emotion", "gender"])
    );
}

#[cfg(not(feature = "commercial-model"))]
#[test]
fn a_model_that_is_not_built_in_is_no_file() {
    let message = infer(&["--model", "commercial"]).expect(1).err;
    for expected in ["--features commercial-model", "./commercial"] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn the_default_model_has_a_name() {
    let [named, unnamed] =
        [&["--model", "default"][..], &[]].map(|arguments| infer(arguments).expect(0).out);
    assert_eq!(named, unnamed);
}
