//! Speaker profiles, segments and recordings without speech in `infer`.
#![cfg(feature = "default-model")]

use std::path::Path;

use crate::infer::{Place, Run};
use crate::model;
use crate::profiles;
use maeum::model::bundle;
use serde_json::Value;

/// Maximum difference between a profile from which a recording was subtracted and one that was made
/// without it; the networks compute in `f32`.
const LEFT_OUT: f64 = 1e-4;

fn weights(record: &Value) -> Vec<f64> {
    let emotions = record["emotions"].as_object().unwrap();
    let mean = |e: &Value| e["mean"].as_f64().unwrap();
    emotions.values().map(mean).collect()
}

fn distance(a: &Value, b: &Value) -> f64 {
    let pairs = weights(a).into_iter().zip(weights(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn jsonl(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let run = place.infer(&[&["--format", "jsonl"], arguments].concat());
    run.expect(0).lines()
}

#[test]
fn a_profile_is_written_for_its_owner_and_answers_are_relative_to_it() {
    let place = profiles::place();
    let run = place
        .infer(&["--enroll", "me.json", "b.wav", "c.wav"])
        .expect(0);
    assert_eq!((&*run.out, &*run.err), ("", ""));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(place.path("me.json")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    let plain = &jsonl(&place, &["a.wav"])[0];
    assert_eq!(plain["speaker"], Value::Null);
    let relative = &jsonl(&place, &["--profile", "me.json", "a.wav"])[0];
    assert_eq!(relative["speaker"]["recordings"], 2);
    assert!(relative["speaker"]["seconds"].as_f64().unwrap() > 1.0);
    assert!(distance(plain, relative) > 0.001, "{plain} {relative}");
    // Age and gender are independent of the profile.
    assert_eq!(plain["age"], relative["age"]);
    assert_eq!(plain["gender"], relative["gender"]);
    let table = place.infer(&["--profile", "me.json", "a.wav"]).expect(0);
    let message = "relative to this speaker's 2 recordings";
    assert!(table.out.contains(message), "{}", table.out);
    let csv = place
        .infer(&["--profile", "me.json", "--format", "csv", "a.wav"])
        .expect(0);
    let rows = rows(&csv);
    assert_eq!(rows[0]["speaker_recordings"], "2");
}

#[test]
fn a_profile_can_be_replaced_but_no_recording_by_it() {
    let place = profiles::place();
    std::fs::write(place.path("me.json"), "old").unwrap();
    let run = place
        .infer(&["--enroll", "me.json", "gone.wav", "noise.wav", "b.wav"])
        .expect(1);
    assert!(run.err.contains("gone.wav"), "{}", run.err);
    assert!(run.err.contains("noise.wav: no speech"), "{}", run.err);
    assert!(run.err.contains("not in the profile"), "{}", run.err);
    let profile = std::fs::read_to_string(place.path("me.json")).unwrap();
    let profile: Value = serde_json::from_str(&profile).unwrap();
    assert_eq!(profile["recordings"], 1);
    let run = place.infer(&["--enroll", "b.wav", "b.wav"]).expect(1);
    assert!(
        run.err.contains("one of the files that are read"),
        "{run:?}"
    );
    let run = place
        .infer(&["--enroll", "none.json", "noise.wav"])
        .expect(1);
    assert!(run.err.contains("no recording with speech"), "{run:?}");
    assert!(!place.path("none.json").exists());
}

#[test]
fn a_speakers_other_recordings_are_what_it_is_relative_to() {
    let place = profiles::place();
    let names = ["a.wav", "b.wav", "c.wav"];
    let all = jsonl(&place, &[&["--speaker-from", "all"], &names[..]].concat());
    for (i, name) in names.iter().enumerate() {
        let others: Vec<&str> = names.iter().copied().filter(|n| n != name).collect();
        let enroll = [&["--enroll", "others.json"], &others[..]].concat();
        place.infer(&enroll).expect(0);
        let wanted = &jsonl(&place, &["--profile", "others.json", name])[0];
        assert_eq!(all[i]["speaker"]["recordings"], 2);
        assert!(distance(&all[i], wanted) < LEFT_OUT, "{name}");
    }
    let threads = ["--speaker-from", "all", "--threads", "1"];
    assert_eq!(jsonl(&place, &[&threads[..], &names].concat()), all);
}

#[test]
fn recordings_are_grouped_by_folder_and_by_a_column() {
    let place = profiles::place();
    for (folder, name) in [("x", "a.wav"), ("x", "b.wav"), ("y", "c.wav")] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
        std::fs::copy(place.path(name), place.path(folder).join(name)).unwrap();
    }
    let count = |records: &[Value]| -> Vec<Option<u64>> {
        let number = |r: &Value| r["speaker"]["recordings"].as_u64();
        records.iter().map(number).collect()
    };
    let by_folder = jsonl(&place, &["--speaker-from", "folder", "x", "y"]);
    assert_eq!(count(&by_folder), [Some(1), Some(1), None]);
    // A recording alone in its group has the same prediction as without groups.
    assert_eq!(by_folder[2], jsonl(&place, &["y/c.wav"])[0]);
    let each = jsonl(&place, &["--speaker-from", "file", "x", "y"]);
    assert_eq!(count(&each), [None; 3]);

    let manifest = "path,who,corpus\nx/a.wav,A,z\ny/c.wav,A,z\nd.wav,,z\nx/b.wav,B,z\n";
    std::fs::write(place.path("m.csv"), manifest).unwrap();
    let by_column = jsonl(&place, &["--speaker-from", "column:who", "m.csv"]);
    assert_eq!(count(&by_column), [Some(1), Some(1), None, None]);
    let run = place
        .infer(&["--speaker-from", "column:nobody", "m.csv"])
        .expect(1);
    assert!(run.err.contains("no column nobody"), "{}", run.err);
    let before = read(&place.path("m.csv"));
    let over = ["--speaker-from", "column:who", "-o", "m.csv", "m.csv"];
    let run = place.infer(&over).expect(1);
    assert!(
        run.err.contains("one of the files that are read"),
        "{run:?}"
    );
    assert_eq!(read(&place.path("m.csv")), before);
}

/// Returns the profile with another number at `pointer`.
fn changed(profile: &str, pointer: &str, number: f64) -> String {
    let mut profile: Value = serde_json::from_str(profile).unwrap();
    *profile.pointer_mut(pointer).unwrap() = number.into();
    profile.to_string()
}

#[test]
fn unusable_profiles_are_refused_with_a_reason() {
    let place = profiles::place();
    place.infer(&["--enroll", "me.json", "b.wav"]).expect(0);
    let other = profiles::profile_model("second");
    bundle::save(&other, &place.path("other.safetensors")).unwrap();
    let refused = |arguments: &[&str], expected: &str| {
        let run = place.bare(arguments).expect(1);
        assert!(run.err.contains(expected), "{expected}: {}", run.err);
        assert_eq!(run.out, "");
    };
    let with_other = [
        "--model",
        "other.safetensors",
        "--profile",
        "me.json",
        "a.wav",
    ];
    refused(&with_other, "made with another model");
    let legacy = model::speech_model(maeum::model::ModelInfo::legacy2020());
    bundle::save(&legacy, &place.path("legacy.safetensors")).unwrap();
    for more in [
        &["--profile", "me.json", "a.wav"][..],
        &["--enroll", "x.json", "a.wav"],
        &["--speaker-from", "all", "a.wav", "b.wav"],
    ] {
        let all = [&["--model", "legacy.safetensors"], more].concat();
        refused(&all, "cannot use speaker profiles");
    }
    let profile = std::fs::read_to_string(place.path("me.json")).unwrap();
    for (name, text, expected) in [
        ("empty", String::new(), "no speaker profile"),
        ("sound", "RIFF".into(), "no speaker profile"),
        (
            "key",
            profile.replacen('{', "{\"x\": 1,", 1),
            "unknown field",
        ),
        (
            "version",
            profile.replace("\"version\":1", "\"version\":9"),
            "version 9",
        ),
        ("huge", " ".repeat(2 << 20), "more than"),
        (
            "level",
            changed(&profile, "/frames/3", 1e300),
            "no recording",
        ),
        (
            "mean",
            changed(&profile, "/descriptors/mean/7", -1e300),
            "no recording",
        ),
        (
            "deviation",
            changed(&profile, "/descriptors/deviation/0", 1e300),
            "no recording",
        ),
    ] {
        std::fs::write(place.path("bad.json"), text).unwrap();
        let run = place.infer(&["--profile", "bad.json", "a.wav"]).expect(1);
        let names_file = run.err.contains("bad.json");
        assert!(
            names_file && run.err.contains(expected),
            "{name}: {}",
            run.err
        );
    }
    refused(
        &[
            "--model",
            "model.safetensors",
            "--profile",
            "gone.json",
            "a.wav",
        ],
        "gone.json",
    );
    for wrong in [
        &["--profile", "me.json", "--speaker-from", "all", "a.wav"][..],
        &["--profile", "me.json", "--enroll", "x.json", "a.wav"],
        &["--speaker-from", "somebody", "a.wav"],
        &["--speaker-from", "column:", "m.csv"],
        &["--speaker-from", "column:who", "a.wav", "b.wav"],
        &["--speaker-from", "all", "-"],
        &["--enroll", "x.json", "-o", "y.json", "a.wav"],
        &["--segments", "a.wav"],
    ] {
        place.infer(wrong).expect(2);
    }
}

#[test]
fn a_recording_without_speech_has_no_answer_in_any_format() {
    let place = profiles::place();
    let run = place.infer(&["--format", "jsonl", "noise.wav"]).expect(1);
    let record = &run.lines()[0];
    assert_eq!(record["code"], "no_speech");
    assert_eq!(record["file"], "noise.wav");
    assert!(run.err.contains("no speech was found"), "{}", run.err);
    let run = place.infer(&["noise.wav"]).expect(1);
    assert!(run.out.contains("no speech"), "{}", run.out);
    let run = place
        .infer(&["--format", "csv", "noise.wav", "a.wav"])
        .expect(1);
    let rows = rows(&run);
    assert_eq!(rows[0]["error_code"], "no_speech");
    assert!(rows[0]["strongest"].is_empty() && !rows[0]["error"].is_empty());
    assert!(rows[1]["error_code"].is_empty() && rows[1]["error"].is_empty());
    let run = place.infer(&["--format", "jsonl", "gone.wav"]).expect(1);
    assert_eq!(run.lines()[0]["code"], "unreadable");
    std::fs::write(place.path("text.wav"), "no sound").unwrap();
    let run = place.infer(&["--format", "jsonl", "text.wav"]).expect(1);
    assert_eq!(run.lines()[0]["code"], "unusable_audio");
    for format in ["textgrid", "audacity", "svg", "rttm"] {
        let run = place.infer(&["--format", format, "noise.wav"]).expect(1);
        assert_eq!(run.out, "", "{format}");
    }
}

#[test]
fn stretches_of_speech_are_answered_one_by_one_in_every_format() {
    let place = profiles::place();
    let record = &jsonl(&place, &["two.wav"])[0];
    let segments = record["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 2, "{segments:?}");
    let number = |value: &Value| value.as_f64().unwrap();
    let ends = |s: &Value| (number(&s["start"]), number(&s["end"]));
    let [first, second] = [ends(&segments[0]), ends(&segments[1])];
    assert!(first.0 < first.1 && first.1 < second.0 && second.0 < second.1);
    let voiced: Vec<f64> = segments.iter().map(|s| number(&s["voiced"])).collect();
    let sum = voiced[0] + voiced[1];
    for (i, whole) in weights(record).into_iter().enumerate() {
        let parts = segments.iter().zip(&voiced);
        let mean: f64 = parts.map(|(s, v)| weights(s)[i] * v / sum).sum();
        assert!((mean - whole).abs() < 1e-12, "{mean} {whole}");
    }
    for segment in segments {
        let strongest = segment["strongest"].as_str().unwrap();
        let weight = &segment["emotions"][strongest]["mean"];
        assert_eq!(weight, &segment["confidence"]);
        assert_eq!(
            weights(segment).into_iter().fold(0.0, f64::max),
            number(weight)
        );
    }

    let csv = place
        .infer(&["--format", "csv", "--segments", "two.wav", "noise.wav"])
        .expect(1);
    let rows = rows(&csv);
    assert_eq!(rows.len(), 3);
    for (i, segment) in segments.iter().enumerate() {
        assert_eq!(rows[i]["segment"], (i + 1).to_string());
        let column = |name: &str| rows[i][name].parse::<f64>().unwrap();
        assert_eq!((column("start"), column("end")), ends(segment));
        assert_eq!(column("age"), number(&segment["age"]["years"]));
        assert_eq!(rows[i]["strongest"], segment["strongest"].as_str().unwrap());
        assert_eq!(column("voiced"), number(&segment["voiced"]));
    }
    assert_eq!((&*rows[2]["file"], &*rows[2]["segment"]), ("noise.wav", ""));
    // With the byte order mark that spreadsheets need.
    let excel = place
        .infer(&[
            "--format",
            "excel-csv",
            "--segments",
            "two.wav",
            "noise.wav",
        ])
        .expect(1);
    assert_eq!(excel.out.lines().count(), csv.out.lines().count());
    let one = place.infer(&["--format", "csv", "two.wav"]).expect(0);
    assert_eq!(one.out.lines().count(), 2);

    let table = place.infer(&["two.wav"]).expect(0).out;
    assert!(table.contains("segments"), "{table}");
    assert!(!place.infer(&["a.wav"]).expect(0).out.contains("segments"));
    let textgrid = place.infer(&["--format", "textgrid", "two.wav"]).expect(0);
    assert!(
        textgrid.out.contains("name = \"segments\""),
        "{}",
        textgrid.out
    );
    let rttm = place.infer(&["--format", "rttm", "two.wav"]).expect(0).out;
    assert_eq!(rttm.lines().count(), 2, "{rttm}");
    let field = |line: &str, i: usize| line.split(' ').nth(i).unwrap().parse::<f64>().unwrap();
    for (line, segment) in rttm.lines().zip(segments) {
        let (start, end) = ends(segment);
        // Times are rounded to milliseconds.
        assert!((field(line, 3) - start).abs() < 1e-3, "{line}");
        assert!(
            (field(line, 3) + field(line, 4) - end).abs() < 2e-3,
            "{line}"
        );
    }
    let audacity = place.infer(&["--format", "audacity", "two.wav"]).expect(0);
    let label = format!("{:.6}\t{:.6}\t", second.0, second.1);
    assert!(audacity.out.contains(&label), "{label} {}", audacity.out);
}

/// Returns the rows of CSV output by column name.
fn rows(run: &Run) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(run.out.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn an_evaluation_measures_what_profiles_and_refusals_do() {
    let place = profiles::place();
    let manifest = "path,emotion,gender,age,speaker,corpus,condition\n\
        a.wav,anger,male,30,A,x,quiet\n\
        b.wav,neutral,male,30,A,x,loud\n\
        c.wav,sadness,female,40,A,x,quiet\n\
        d.wav,anger,female,20,B,y,loud\n\
        noise.wav,,,,,y,loud\n";
    std::fs::write(place.path("m.csv"), manifest).unwrap();
    let arguments = [
        "--eval",
        "m.csv",
        "-o",
        "e.json",
        "--profile-sizes",
        "all,0,1",
    ];
    let run = place.infer(&arguments).expect(1);
    let e: Value = serde_json::from_str(&read(&place.path("e.json"))).unwrap();
    assert_eq!(e["pooled"]["failed"], 1);
    assert_eq!(e["pooled"]["refused"], 1);
    assert_eq!(e["corpora"][0]["refused"], 0);
    assert_eq!(e["corpora"][1]["refused"], 1);
    assert_eq!(e["failures"][0]["code"], "no_speech");
    let conditions = e["by_condition"].as_array().unwrap();
    let names: Vec<&str> = conditions
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["loud", "quiet"]);
    assert_eq!(conditions[0]["recordings"], 3);

    let points = e["profiles"].as_array().unwrap();
    let key = |p: &Value| {
        (
            p["size"].as_str().unwrap().to_owned(),
            p["from"].as_str().unwrap().to_owned(),
        )
    };
    let keys: Vec<_> = points.iter().map(key).collect();
    let wanted = [
        ("0", "any"),
        ("1", "any"),
        ("1", "neutral"),
        ("all", "any"),
        ("all", "neutral"),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .collect();
    assert_eq!(keys, wanted);
    let mean: Vec<f64> = points
        .iter()
        .map(|p| p["mean_recordings"].as_f64().unwrap())
        .collect();
    // Speaker A has two other recordings per recording, of which b is neutral; B has none.
    assert_eq!(mean, [0.0, 3.0 / 4.0, 2.0 / 4.0, 6.0 / 4.0, 2.0 / 4.0]);
    // Without a profile the emotions equal those of the evaluation itself.
    assert_eq!(
        points[0]["pooled"]["confusion"],
        e["pooled"]["emotion"]["confusion"]
    );
    assert!(run.out.contains("UAR with profiles"), "{}", run.out);
    place.infer(&arguments).expect(1);
    assert_eq!(
        serde_json::from_str::<Value>(&read(&place.path("e.json"))).unwrap(),
        e
    );
    place.infer(&["--profile-sizes", "1", "a.wav"]).expect(2);
    place
        .infer(&["--eval", "m.csv", "--profile-sizes", "some"])
        .expect(2);
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
