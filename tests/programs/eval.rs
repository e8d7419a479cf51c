//! Outputs of `infer --eval` and `infer --dump-features`.

use std::path::Path;

use crate::infer::Place;
use maeum::audio::{decode, resample};
use maeum::front_end::utterance::{FRAME_VALUES, STATS, UtteranceExtractor};
use maeum::nn::npz::{Array, NpzFile};
use serde_json::Value;

const MANIFEST: &str = "speaker,path,emotion,gender,age,split,note\n\
    A,a.wav,anger,male,30,test,x\n\
    B,b.wav,sadness,female,9,test,x\n\
    B,gone.wav,sadness,female,9,test,x\n\
    C,c.wav,neutral,,,train,x\n";

/// Creates recordings in two corpora, one folder below the manifest `lists/m.csv`.
fn place(manifest: &str) -> Place {
    let place = Place::new();
    for (from, to) in [("a.wav", "one"), ("b.wav", "two"), ("c.wav", "two")] {
        let folder = place.path("lists").join(to);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::rename(place.path(from), folder.join(from)).unwrap();
    }
    let manifest = manifest
        .replace("a.wav", "one/a.wav")
        .replace("b.wav", "two/b.wav")
        .replace("c.wav", "two/c.wav");
    std::fs::write(place.path("lists/m.csv"), manifest).unwrap();
    place
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn an_evaluation_agrees_with_the_answers_it_is_made_of() {
    let place = place(MANIFEST);
    let arguments = ["--eval", "lists/m.csv", "--split", "test", "-o", "e.json"];
    let run = place.infer(&arguments).expect(1);
    assert!(run.err.contains("gone.wav"), "{}", run.err);
    assert!(run.out.contains("Reliability"), "{}", run.out);
    let e = json(&place.path("e.json"));
    assert_eq!(e["split"], "test");
    assert_eq!(e["recordings"], 3);
    assert_eq!(e["failures"].as_array().unwrap().len(), 1);
    assert_eq!(e["failures"][0]["path"], "gone.wav");

    let answers = place
        .infer(&["--format", "jsonl", "lists/one/a.wav", "lists/two/b.wav"])
        .expect(0)
        .lines();
    let (a, b) = (&answers[0], &answers[1]);
    let years = |r: &Value| r["age"]["years"].as_f64().unwrap();
    let error = ((years(a) - 30.0).abs() + (years(b) - 9.0).abs()) / 2.0;
    let measured = e["pooled"]["age"]["mean_absolute"].as_f64().unwrap();
    assert!((measured - error).abs() < 1e-9, "{measured} {error}");

    let emotion = &e["pooled"]["emotion"]["confusion"];
    let labels = emotion["labels"].as_array().unwrap();
    for (truth, record) in [("anger", a), ("sadness", b)] {
        let at = |name: &Value| labels.iter().position(|l| l == name).unwrap();
        let row = &emotion["counts"][at(&Value::from(truth))];
        assert_eq!(row[at(&record["strongest"])], 1, "{record}");
        let count: u64 = row
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c.as_u64().unwrap())
            .sum();
        assert_eq!(count, 1);
    }
    let gender = |r: &Value, g: &str| r["gender"][g].as_f64().unwrap();
    let male = gender(a, "male") > gender(a, "female");
    assert_eq!(e["pooled"]["gender"]["uar"], f64::from(u8::from(male)));
    let female = gender(b, "female") > gender(b, "male");
    assert_eq!(
        e["pooled"]["gender_under_12"]["uar"],
        f64::from(u8::from(female))
    );
    // `gone.wav` is not in a folder.
    let corpora: Vec<&Value> = e["corpora"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = corpora.iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["none", "one", "two"]);
}

#[test]
fn the_two_forms_go_where_they_are_sent() {
    let place = place("path,emotion,gender,age,speaker\nb.wav,anger,male,,A\n");
    let base = ["--eval", "lists/m.csv"];
    let with = |more: &[&str]| place.infer(&[&base, more].concat());
    let both = with(&["-o", "e.json", "--text", "e.txt"]).expect(0);
    assert_eq!((&*both.out, &*both.err), ("", ""));
    let text = with(&[]).expect(0);
    assert_eq!(
        std::fs::read_to_string(place.path("e.txt")).unwrap(),
        text.out
    );
    let document = with(&["--format", "json", "--threads", "1"]).expect(0);
    assert_eq!(
        std::fs::read_to_string(place.path("e.json")).unwrap(),
        document.out
    );
    with(&["--format", "csv"]).expect(2);
    with(&["-o", "same", "--text", "same"]).expect(2);
    with(&["b.wav"]).expect(2);
    with(&["-o", "lists/m.csv"]).expect(1);
    place.infer(&["--split", "test", "b.wav"]).expect(2);
}

#[test]
fn an_unknown_label_is_named_before_any_work() {
    let place = place("path,emotion,gender,age,speaker\na.wav,,,,\nb.wav,joy,,,\n");
    let run = place.infer(&["--eval", "lists/m.csv"]).expect(1);
    assert!(run.err.contains("line 3, column emotion"), "{}", run.err);
    assert_eq!(run.out, "");
}

/// Returns a reader of the file's arrays by name.
fn arrays(path: &Path) -> impl Fn(&str) -> Array + use<> {
    let file = NpzFile::open(path).unwrap();
    move |name| file.read(name).unwrap()
}

fn paths(array: &Array) -> Vec<String> {
    let bytes = array.data.iter().map(|&b| b as u8).collect();
    let text = String::from_utf8(bytes).unwrap();
    text.split('\n').map(str::to_owned).collect()
}

#[test]
fn a_dump_holds_what_the_front_end_computes() {
    let place = place(MANIFEST);
    let dump = |more: &[&str]| {
        let base = ["--dump-features", "f.npz", "lists/m.csv"];
        place.bare(&[&base, more].concat())
    };
    let run = dump(&["--front-end", "utterance"]).expect(1);
    assert!(run.err.contains("gone.wav"), "{}", run.err);
    let read = arrays(&place.path("f.npz"));
    let names = paths(&read("paths_utf8"));
    // Each stretch of speech has a row.
    assert_eq!(names, ["one/a.wav", "one/a.wav", "two/b.wav", "two/c.wav"]);
    let extractor = UtteranceExtractor::new();
    let (mut stats, mut frames, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for name in ["one/a.wav", "two/b.wav", "two/c.wav"] {
        let recording = decode::decode_path(place.path("lists").join(name)).unwrap();
        let signal = resample::resample(&recording.samples, recording.sample_rate, 16_000);
        for utterance in extractor.analyse_segments(signal.into()).unwrap().segments {
            lengths.push((utterance.frames.len() / FRAME_VALUES) as f32);
            stats.extend(utterance.stats);
            frames.extend(utterance.frames);
        }
    }
    let shape = vec![frames.len() / FRAME_VALUES, FRAME_VALUES];
    assert_eq!(read("lengths").data, lengths);
    assert_eq!(read("stats").shape, [4, STATS]);
    assert_eq!(read("stats").data, stats);
    assert_eq!(
        read("frames"),
        Array {
            shape,
            data: frames
        }
    );

    dump(&["--front-end", "utterance", "--split", "train"]).expect(0);
    let read = arrays(&place.path("f.npz"));
    assert_eq!(paths(&read("paths_utf8")), ["two/c.wav"]);
    assert_eq!(read("frames").data.len() % FRAME_VALUES, 0);
}

#[test]
fn the_model_selects_the_dumped_features() {
    let place = Place::new();
    let run = place.infer(&["--dump-features", "f.npz", "b.wav", "c.wav"]);
    run.expect(0);
    let read = arrays(&place.path("f.npz"));
    let lengths = read("lengths").data;
    assert_eq!(
        read("windows").shape,
        [lengths.iter().sum::<f32>() as usize, 200, 40]
    );
    assert_eq!(read("dct").shape, [2, 40, 40]);
    assert_eq!(read("moments").shape, [2, 40, 8]);
    assert_eq!(paths(&read("paths_utf8")), ["b.wav", "c.wav"]);
    let again = [
        "--dump-features",
        "g.npz",
        "--front-end",
        "reference",
        "b.wav",
        "c.wav",
    ];
    place.bare(&again).expect(0);
    let other = arrays(&place.path("g.npz"));
    for name in ["windows", "dct", "dst", "histogram", "moments"] {
        assert_eq!(read(name), other(name), "{name}");
    }
}

#[test]
fn a_dump_that_fails_leaves_nothing_behind() {
    let place = Place::empty();
    let before = place.files();
    let base = ["--front-end", "utterance", "--dump-features"];
    let dump = |more: &[&str]| place.bare(&[&base, more].concat());
    let run = dump(&["f.npz", "gone.wav"]).expect(1);
    assert!(run.err.contains("not written"), "{}", run.err);
    let run = dump(&["none/f.npz", "gone.wav"]).expect(1);
    assert!(run.err.contains("none/f.npz"), "{}", run.err);
    let run = dump(&["model.safetensors", "model.safetensors"]).expect(1);
    assert!(
        run.err.contains("one of the files that are read"),
        "{}",
        run.err
    );
    dump(&["f.npz", "--split", "x", "gone.wav"]).expect(2);
    assert_eq!(place.files(), before);
}
