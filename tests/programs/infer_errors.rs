//! Error messages of the program `infer`.

use crate::infer::{self, Place, files};
use crate::model;
use maeum::model::ModelInfo;
use maeum::model::bundle;
use serde_json::Value;

/// Invalid recording, a part of its error message, and the remedy in it.
type Bad = (&'static str, &'static str, &'static str);

const BAD: [Bad; 14] = [
    ("gone.wav", "no such file", "check the path"),
    ("empty.wav", "empty", "again"),
    ("cut.wav", "cut short", "again"),
    ("text.wav", "not a recording", "WAV, FLAC"),
    ("nothing.wav", "no audio samples", "again"),
    ("short.wav", "too short", "are needed"),
    ("silence.wav", "digital silence", "record again"),
    ("dither.wav", "digital silence", "record again"),
    ("nan.wav", "not a finite number", "export it again"),
    ("infinite.wav", "not a finite number", "export it again"),
    ("rate0.wav", "sample rate of 0 Hz", "export it again"),
    (
        "rate4g.wav",
        "sample rate of 4294967295 Hz",
        "export it again",
    ),
    ("absurd.wav", "claims 4294967280 bytes", "again"),
    ("absurd.flac", "cut short", "again"),
];

fn write_bad(place: &Place) {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    let write = |name: &str, bytes: &[u8]| std::fs::write(place.path(name), bytes).unwrap();
    let good = std::fs::read(place.path("c.wav")).unwrap();
    write("empty.wav", b"");
    write("cut.wav", &good[..30]);
    write(
        "text.wav",
        b"Dear reader, this is a letter and not a recording at all.\n",
    );
    place.raw_wav("nothing.wav", PCM, 16_000, 16, b"");
    // The recording has 20 ms.
    place.raw_wav("short.wav", PCM, 16_000, 16, &good[1044..1044 + 640]);
    place.raw_wav("silence.wav", PCM, 16_000, 16, &[0; 64_000]);
    let dither = |i: u64| (model::noise(1, i) * 1.9) as i16;
    let dither: Vec<u8> = (0..32_000).flat_map(|i| dither(i).to_le_bytes()).collect();
    place.raw_wav("dither.wav", PCM, 16_000, 16, &dither);
    let mut floats = model::speech_like(2.0, 16_000, 120.0);
    for (name, bad) in [("nan.wav", f32::NAN), ("infinite.wav", f32::NEG_INFINITY)] {
        floats[10_000] = bad;
        let data: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        place.raw_wav(name, FLOAT, 16_000, 32, &data);
    }
    place.raw_wav("rate0.wav", PCM, 0, 16, &good[44..]);
    place.raw_wav("rate4g.wav", PCM, u32::MAX, 16, &good[44..]);
    let mut absurd = good.clone();
    absurd[16..20].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
    write("absurd.wav", &absurd);
    // The first metadata block claims 16 MiB, which do not follow.
    write("absurd.flac", b"fLaC\x00\xFF\xFF\xFF\x10\x00\x10\x00");
}

#[test]
fn every_bad_recording_is_named_with_a_way_out() {
    let place = Place::new();
    write_bad(&place);
    for (name, wrong, way_out) in BAD {
        let run = place.infer(&["--format", "jsonl", name]).expect(1);
        let lines = run.lines();
        let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["error", "code", "file"], "{run:?}");
        assert_eq!(lines[0]["file"], name);
        let error = lines[0]["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(wrong) && error.contains(way_out), "{error}");
        assert_eq!(run.err, format!("infer: {error}\n"));
    }
}

#[test]
fn one_bad_recording_does_not_stop_the_others() {
    let place = Place::new();
    write_bad(&place);
    let mut arguments = vec!["c.wav"];
    for (name, ..) in BAD {
        arguments.extend([name, "c.wav"]);
    }
    let with = |format| {
        let run = place.infer(&[&["--format", format, "--dropout", "2"], &arguments[..]].concat());
        let run = run.expect(1);
        assert!(
            run.err.ends_with("infer: 14 of 29 recordings failed\n"),
            "{}",
            run.err
        );
        run
    };
    let check = |lines: &[Value]| {
        assert_eq!(lines.len(), arguments.len());
        for (line, name) in lines.iter().zip(&arguments) {
            assert_eq!(line.get("error").is_some(), *name != "c.wav", "{line}");
        }
        assert!(lines.iter().step_by(2).all(|l| *l == lines[0]));
    };
    check(&with("codes").lines());
    let jsonl = with("jsonl").lines();
    check(&jsonl);
    assert_eq!(files(&jsonl), arguments);
    let document: Value = serde_json::from_str(&with("json").out).unwrap();
    assert_eq!(document["results"], Value::from(jsonl));
    let csv = with("csv");
    assert_eq!(csv.out.lines().count(), 1 + arguments.len());
    for (line, name) in csv.out.lines().skip(1).zip(&arguments) {
        assert!(line.starts_with(&format!("{name},")), "{line}");
        assert_eq!(line.ends_with(','), *name == "c.wav", "{line}");
    }
    let table = with("table").out;
    assert_eq!(table.matches("\n  error  ").count(), BAD.len());
    assert_eq!(
        table.matches("\n  age  ").count(),
        arguments.len() - BAD.len()
    );
}

#[test]
fn a_recording_cut_in_its_samples_is_analysed_with_a_warning() {
    let place = Place::new();
    let good = std::fs::read(place.path("b.wav")).unwrap();
    std::fs::write(place.path("half.wav"), &good[..good.len() / 2]).unwrap();
    let mut absurd = good.clone();
    absurd[40..44].copy_from_slice(&0x7000_0000u32.to_le_bytes());
    std::fs::write(place.path("absurd.wav"), absurd).unwrap();
    for name in ["half.wav", "absurd.wav"] {
        let record = &place.infer(&["--format", "jsonl", name]).expect(0).lines()[0];
        assert_eq!(record["warnings"][0]["code"], "truncated", "{record}");
    }
}

#[test]
fn the_command_line_is_checked() {
    let place = Place::new();
    #[cfg(not(feature = "default-model"))]
    {
        let run = place.bare(&["c.wav"]).expect(2);
        for expected in ["--model BUNDLE", "convert "] {
            assert!(run.err.contains(expected), "{}", run.err);
        }
    }
    for arguments in [
        &["--dropout", "0", "c.wav"][..],
        &["--dropout", "100001", "c.wav"],
        &["--dropout", "some", "c.wav"],
        &["--threads", "0", "c.wav"],
        &["--seed", "-1", "c.wav"],
        &["--format", "xml", "c.wav"],
        &["--nonsense"],
        &[],
    ] {
        let run = place.infer(arguments).expect(2);
        assert_eq!(run.out, "");
        assert!(run.err.contains("error:"), "{}", run.err);
    }
    let help = place.bare(&["--help"]).expect(0).out;
    assert!(help.contains("not to be used for decisions"), "{help}");
}

#[test]
fn a_bad_model_is_named() {
    let place = Place::new();
    let bytes = std::fs::read(place.path("model.safetensors")).unwrap();
    std::fs::write(place.path("half.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::write(place.path("keras.h5"), b"\x89HDF\r\n\x1a\n").unwrap();
    bundle::save(&model::single_network(), &place.path("single.safetensors")).unwrap();
    let mut joyful = ModelInfo::legacy2020();
    joyful.emotions[3] = "joy".into();
    bundle::save(&model::speech_model(joyful), &place.path("joy.safetensors")).unwrap();
    for (name, expected) in [
        ("gone.safetensors", "cannot read"),
        ("half.safetensors", "convert"),
        ("c.wav", "convert"),
        ("keras.h5", "convert"),
        ("single.safetensors", "no speech model"),
        ("joy.safetensors", "\"happiness\""),
    ] {
        let run = place
            .bare(&["--model", name, "--format", "codes", "c.wav"])
            .expect(1);
        assert!(
            run.err.contains(name) && run.err.contains(expected),
            "{}",
            run.err
        );
        assert_eq!(run.out, "");
    }
    place
        .bare(&["--model", "joy.safetensors", "--format", "csv", "c.wav"])
        .expect(0);
}

#[test]
fn an_instruction_set_can_be_forced_if_it_is_there() {
    let place = Place::new();
    let run = |isa: &str| -> infer::Run {
        infer::command(place.0.path())
            .args(["--model", "model.safetensors", "--format", "codes", "c.wav"])
            .env("MAEUM_ISA", isa)
            .output()
            .unwrap()
            .into()
    };
    let wanted = place.infer(&["--format", "codes", "c.wav"]).expect(0).out;
    for isa in maeum::simd::Isa::available() {
        assert_eq!(run(isa.name()).expect(0).out, wanted, "{}", isa.name());
    }
    let refused = run("sse9").expect(1);
    assert_eq!(refused.out, "");
    for expected in ["MAEUM_ISA", "\"sse9\"", "portable"] {
        assert!(refused.err.contains(expected), "{}", refused.err);
    }
}

#[test]
fn skipped_files_of_a_folder_are_reported() {
    let place = Place::empty();
    let folder = place.path("mixed");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str| std::fs::write(folder.join(name), b"x").unwrap();
    let samples = model::speech_like(2.0, 16_000, 120.0);
    model::write_wav(&folder.join("a.wav"), 16_000, &samples);
    for name in ["b.wma", "notes.txt", "more.TXT", "README"] {
        write(name);
    }
    let run = place.infer(&["--format", "jsonl", "mixed"]).expect(0);
    assert_eq!(files(&run.lines()), ["mixed/a.wav"]);
    assert_eq!(
        run.err,
        "infer: mixed: passed over 4 files (2 .txt, 1 without an ending, 1 .wma); \
         name a file to have it read whatever its ending\n"
    );
    // Folders are searched for every supported extension.
    for ending in ["mp4", "aac", "mov", "opus", "webm"] {
        write(&format!("c.{ending}"));
    }
    let run = place.infer(&["--format", "jsonl", "mixed"]).expect(1);
    assert_eq!(run.lines().len(), 6);
}

#[cfg(unix)]
#[test]
fn endless_inputs_are_not_read() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let place = Place::new();
    let folder = place.path("mixed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(place.path("c.wav"), folder.join("c.wav")).unwrap();
    let fifo = |path: &std::path::Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    fifo(&folder.join("a.wav"));
    std::os::unix::fs::symlink("/dev/zero", folder.join("b.wav")).unwrap();
    let run = place.infer(&["--format", "jsonl", "mixed"]).expect(0);
    assert_eq!(files(&run.lines()), ["mixed/c.wav"]);
    assert!(
        run.err.contains("passed over 2 files (2 pipes or devices)"),
        "{}",
        run.err
    );
    let run = place
        .infer(&["--format", "jsonl", "/dev/zero", "c.wav"])
        .expect(1);
    assert!(
        run.err.contains("/dev/zero: neither a file nor a pipe"),
        "{}",
        run.err
    );
    // A named pipe is read to its end.
    let pipe = place.path("pipe");
    fifo(&pipe);
    let bytes = std::fs::read(place.path("c.wav")).unwrap();
    let child = infer::command(place.0.path())
        .args(["--model", "model.safetensors", "--format", "jsonl", "pipe"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = std::fs::File::create(&pipe).unwrap();
    writer.write_all(&bytes).unwrap();
    drop(writer);
    let run: infer::Run = child.wait_with_output().unwrap().into();
    assert_eq!(files(&run.expect(0).lines()), ["pipe"]);
}

#[test]
fn one_channel_can_be_chosen() {
    let place = Place::empty();
    let samples = model::speech_like(2.5, 16_000, 150.0);
    let integers = samples.iter().map(|x| (x * 32767.0) as i16);
    let frames = integers
        .enumerate()
        .flat_map(|(i, x)| [x, x.saturating_neg().saturating_add((i % 5) as i16)]);
    let data: Vec<u8> = frames.flat_map(i16::to_le_bytes).collect();
    place.raw_wav("opposite.wav", 1, 16_000, 16, &data);
    let path = place.path("opposite.wav");
    let mut wav = std::fs::read(&path).unwrap();
    wav[22] = 2;
    wav[32] = 4;
    std::fs::write(&path, wav).unwrap();
    let record = |arguments: &[&str]| {
        let run =
            place.infer(&[&["--format", "jsonl"][..], arguments, &["opposite.wav"][..]].concat());
        run.expect(0).lines().remove(0)
    };
    let mixed = record(&[]);
    assert_eq!(mixed["warnings"][0]["code"], "channels_cancel", "{mixed}");
    assert_eq!(mixed["voice"]["channel"], Value::Null);
    assert_eq!(record(&["--channel", "mix"]), mixed);
    let left = record(&["--channel", "1"]);
    let warnings = left["warnings"].as_array().unwrap();
    assert!(
        warnings.iter().all(|w| w["code"] != "channels_cancel"),
        "{left}"
    );
    assert_eq!(left["voice"]["channel"], 1);
    let run = place.infer(&["--channel", "3", "opposite.wav"]).expect(1);
    assert!(run.err.contains("no channel 3, only 1 to 2"), "{}", run.err);
    for choice in ["0", "65", "left"] {
        place
            .infer(&["--channel", choice, "opposite.wav"])
            .expect(2);
    }
}

#[test]
fn nothing_ends_behind_the_recording() {
    let place = Place::empty();
    // Conversions of these lengths to 16 kHz and 22,050 Hz round up.
    for (i, length) in [40_001usize, 40_003, 33_337].into_iter().enumerate() {
        let name = format!("{i}.wav");
        let rate = [11_025, 44_100, 16_000][i];
        let mut samples = model::speech_like(length as f64 / f64::from(rate), rate, 120.0);
        samples.resize(length, 0.3);
        model::write_wav(&place.path(&name), rate, &samples);
        let record = place
            .infer(&["--format", "jsonl", &name])
            .expect(0)
            .lines()
            .remove(0);
        let voice = &record["voice"];
        let duration = voice["duration"].as_f64().unwrap();
        let end = |of: &Value| of["end"].as_f64().unwrap();
        assert!(end(&voice["analysed"]) <= duration, "{voice}");
        let spans = voice["speech"].as_array().unwrap().iter();
        let windows = record["timeline"].as_array().unwrap().iter();
        assert!(
            spans.chain(windows).all(|span| end(span) <= duration),
            "{record}"
        );
    }
}
