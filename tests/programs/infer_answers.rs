//! Output of the program `infer`.

use std::io::Write;
use std::process::Stdio;

use crate::infer::{Place, Run, command, files};
use crate::model;
use maeum::model::ModelInfo;
use maeum::model::bundle;
use serde_json::Value;

#[test]
fn a_table_shows_the_estimates_and_the_notice_once() {
    let place = Place::new();
    let run = place.infer(&["a.wav", "b.wav"]).expect(0);
    for expected in [
        "a.wav\n",
        "b.wav\n",
        "happiness",
        "± over 32",
        "years",
        "female",
        "voiced of 18.00 s",
    ] {
        assert!(run.out.contains(expected), "{expected}: {}", run.out);
    }
    assert!(run.out.contains("come from its first 15 s"), "{}", run.out);
    assert_eq!(run.out.matches("not to be used for decisions").count(), 1);
    assert_eq!(run.err, "");
    let off = place.infer(&["--dropout", "off", "b.wav"]).expect(0);
    assert!(!off.out.contains("random draws"), "{}", off.out);
}

#[test]
fn json_times_are_those_of_the_recording() {
    let place = Place::new();
    let run = place
        .infer(&[
            "--format",
            "json",
            "--dropout",
            "20",
            "--seed",
            "5",
            "b.wav",
        ])
        .expect(0);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    let record = &document["results"][0];
    let number = |v: &Value| v.as_f64().unwrap();

    let emotions = record["emotions"].as_object().unwrap();
    let sum: f64 = emotions.values().map(|e| number(&e["mean"])).sum();
    // The means are outputs of a 32-bit softmax.
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    assert!(
        emotions.values().any(|e| number(&e["std"]) > 0.0),
        "{record}"
    );
    assert_eq!(
        record["dropout"],
        serde_json::json!({"mode": "draws", "draws": 20, "seed": 5})
    );
    assert_eq!(record["model"]["sha256"].as_str().unwrap().len(), 64);

    let voice = &record["voice"];
    assert_eq!(voice["duration"], 4.0);
    assert_eq!(voice["sample_rate"], 44_100);
    assert_eq!(voice["trimmed"], true, "{voice}");
    let analysed = [
        number(&voice["analysed"]["start"]),
        number(&voice["analysed"]["end"]),
    ];
    // The voice starts after half a second and ends half a second before the end; the detector adds
    // some frames around it.
    assert!(
        (0.3..0.7).contains(&analysed[0]) && (3.3..3.9).contains(&analysed[1]),
        "{voice}"
    );
    assert!(number(&voice["voiced"]) > 1.0, "{voice}");

    let timeline = record["timeline"].as_array().unwrap();
    assert_eq!(number(&timeline[0]["start"]), analysed[0]);
    for window in timeline {
        let (start, end) = (number(&window["start"]), number(&window["end"]));
        assert!(
            start >= analysed[0] && start < end && end <= analysed[1] + 0.005,
            "{window}"
        );
        let weights = window["attention"]["weights"].as_array().unwrap();
        assert_eq!(weights.len(), model::CELLS);
        let sum: f64 = weights.iter().map(number).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}

#[test]
fn codes_are_one_object_per_line() {
    let place = Place::new();
    let run = place
        .infer(&["--format", "codes", "c.wav", "b.wav"])
        .expect(0);
    let expected = [
        "10001", "10002", "10003", "10004", "10005", "10006", "10007", "20000", "20003", "20004",
        "20005", "30001", "30002",
    ];
    let lines = run.lines();
    assert_eq!(lines.len(), 2);
    for (line, text) in lines.iter().zip(run.out.lines()) {
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, expected, "{text}");
        assert_eq!(text.matches(", \"").count(), 12, "{text}");
        assert_eq!(text.matches("\": ").count(), 13, "{text}");
    }
    let json = place
        .infer(&["--format", "jsonl", "c.wav"])
        .expect(0)
        .lines();
    let close = |code: &str, value: &Value| {
        let (code, value) = (lines[0][code].as_f64().unwrap(), value.as_f64().unwrap());
        // Codes are rounded to four decimal places.
        assert!((code - value).abs() <= 0.5e-4 + 1e-9, "{code} {value}");
    };
    close("10001", &json[0]["emotions"]["happiness"]["mean"]);
    close("10007", &json[0]["emotions"]["surprise"]["mean"]);
    close("20000", &json[0]["age"]["years"]);
    close("30001", &json[0]["gender"]["male"]);
}

#[test]
fn answers_do_not_depend_on_threads_and_come_in_order() {
    let place = Place::new();
    let mut arguments = vec!["--format", "jsonl"];
    for i in 0..12 {
        arguments.push(["a.wav", "c.wav", "gone.wav", "b.wav"][i % 4]);
    }
    let with = |threads| {
        place
            .infer(&[&arguments[..], &["--threads", threads]].concat())
            .expect(1)
    };
    let one = with("1");
    let expected: Vec<&str> = arguments[2..].to_vec();
    assert_eq!(files(&one.lines()), expected);
    for threads in ["2", "3", "16"] {
        assert_eq!(with(threads).out, one.out, "{threads} threads");
    }
}

#[test]
fn draws_follow_the_seed() {
    let place = Place::new();
    let with = |seed| {
        place
            .infer(&[
                "--format",
                "codes",
                "--seed",
                seed,
                "--dropout",
                "3",
                "c.wav",
            ])
            .expect(0)
            .out
    };
    assert_eq!(with("1"), with("1"));
    assert_ne!(with("1"), with("2"));
}

#[test]
fn a_folder_stands_for_the_recordings_in_it() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("set/inner")).unwrap();
    std::fs::create_dir(place.path("none")).unwrap();
    for name in ["set/b.wav", "set/inner/a.WAV"] {
        std::fs::copy(place.path("c.wav"), place.path(name)).unwrap();
    }
    std::fs::write(place.path("set/notes.txt"), "no sound").unwrap();
    let run = place
        .infer(&["--format", "jsonl", "set", "c.wav"])
        .expect(0);
    assert_eq!(
        files(&run.lines()),
        ["set/b.wav", "set/inner/a.WAV", "c.wav"]
    );
    let run = place
        .infer(&["--format", "jsonl", "none", "c.wav"])
        .expect(1);
    let lines = run.lines();
    assert_eq!(files(&lines), ["none", "c.wav"]);
    let error = lines[0]["error"].as_str().unwrap();
    assert!(
        error.starts_with("none: no recordings in this folder"),
        "{error}"
    );
}

#[test]
fn standard_input_is_read_once() {
    let place = Place::new();
    let mut child = command(place.0.path())
        .args([
            "--model",
            "model.safetensors",
            "--format",
            "jsonl",
            "c.wav",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes = std::fs::read(place.path("c.wav")).unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let lines = Run::from(child.wait_with_output().unwrap())
        .expect(0)
        .lines();
    assert_eq!(files(&lines), ["c.wav", "-"]);
    assert_eq!(lines[0]["emotions"], lines[1]["emotions"]);
    let run = place.infer(&["-", "-"]).expect(2);
    assert!(run.err.contains("only once"), "{}", run.err);
    let run = place.infer(&["--format", "jsonl", "-"]).expect(1);
    let error = run.lines()[0]["error"].as_str().unwrap().to_owned();
    assert!(
        error.starts_with("standard input: ") && error.contains("empty"),
        "{error}"
    );
}

#[test]
fn the_self_test_prints_its_result() {
    let place = Place::new();
    let run = place.infer(&["--self-test"]).expect(0);
    assert!(
        run.err.contains("self-test passed: 5 of 5 networks"),
        "{}",
        run.err
    );
    let run = place
        .infer(&["--self-test", "--format", "codes", "c.wav"])
        .expect(0);
    assert!(run.err.contains("self-test passed"), "{}", run.err);
    assert_eq!(run.lines().len(), 1);

    let good = model::speech_model(ModelInfo::legacy2020());
    let save = |name: &str, spoil: fn(&mut maeum::model::Network)| {
        let mut networks = good.networks().to_vec();
        networks.iter_mut().for_each(spoil);
        let bad = maeum::model::Model::new(networks, good.info().clone()).unwrap();
        bundle::save(&bad, &place.path(name)).unwrap();
    };
    save("wrong.safetensors", |n| {
        n.self_test.as_mut().unwrap().outputs[0][0] += 0.01
    });
    save("none.safetensors", |n| n.self_test = None);
    for (name, expected) in [
        ("wrong.safetensors", "fails its self-test"),
        ("none.safetensors", "nothing to test"),
    ] {
        let run = place
            .bare(&["--model", name, "--self-test", "c.wav"])
            .expect(1);
        assert!(
            run.err.contains(name) && run.err.contains(expected),
            "{}",
            run.err
        );
        assert_eq!(run.out, "");
    }
}

#[test]
fn an_output_file_is_complete_and_never_an_input() {
    let place = Place::new();
    let before = place.files();
    for name in [
        "c.wav",
        "./c.wav",
        "model.safetensors",
        ".",
        "none/out.json",
    ] {
        let run = place.infer(&["-o", name, "c.wav"]).expect(1);
        assert!(run.err.contains(name), "{}", run.err);
    }
    assert_eq!(place.files(), before);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let run = place
        .infer(&["--format", "codes", "-o", "out.txt", "c.wav", "gone.wav"])
        .expect(1);
    assert_eq!(run.out, "");
    assert!(run.err.contains("gone.wav: no such file"), "{}", run.err);
    let direct = place
        .infer(&["--format", "codes", "c.wav", "gone.wav"])
        .expect(1);
    assert_eq!(
        std::fs::read_to_string(place.path("out.txt")).unwrap(),
        direct.out
    );
    assert_eq!(std::fs::read(place.path("c.wav")).unwrap(), sound);
    assert_eq!(place.files().len(), before.len() + 1);
}

#[test]
fn answers_that_nobody_reads_are_an_error() {
    let place = Place::new();
    let many = ["c.wav"; 40];
    for format in ["jsonl", "table"] {
        let mut child = command(place.0.path())
            .args(["--model", "model.safetensors", "--format", format])
            .args(many)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let run = Run::from(child.wait_with_output().unwrap()).expect(1);
        assert!(run.err.contains("not complete"), "{}", run.err);
    }
}
