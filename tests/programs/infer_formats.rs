//! Formats with one file per recording, from the command line.

use crate::infer::Place;

#[test]
fn one_recording_goes_anywhere() {
    let place = Place::new();
    for (format, begins) in [
        ("textgrid", "File type = \"ooTextFile\"\n"),
        ("audacity", "0."),
        ("svg", "<?xml "),
        ("rttm", "SPEAKER b 1 "),
    ] {
        let run = place.infer(&["--format", format, "b.wav"]).expect(0);
        assert!(run.out.starts_with(begins), "{}", run.out);
        assert_eq!(run.err, "");
        place
            .infer(&["--format", format, "-o", "out", "b.wav"])
            .expect(0);
        let written = std::fs::read_to_string(place.path("out")).unwrap();
        assert_eq!(written, run.out);
    }
}

#[test]
fn several_recordings_go_into_a_folder() {
    let place = Place::new();
    for folder in ["out", "x", "y"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    for copy in ["x/c.wav", "y/c.wav"] {
        std::fs::copy(place.path("c.wav"), place.path(copy)).unwrap();
    }
    let run = place
        .infer(&[
            "--format", "svg", "-o", "out/", "b.wav", "x", "gone.wav", "y",
        ])
        .expect(1);
    assert_eq!(run.out, "");
    assert!(run.err.contains("gone.wav: no such file"), "{}", run.err);
    let mut written: Vec<String> = std::fs::read_dir(place.path("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, ["b.svg", "c.svg", "c.wav.svg"]);
    for (file, recording) in [("b", "b.wav"), ("c", "x/c.wav"), ("c.wav", "y/c.wav")] {
        let alone = place.infer(&["--format", "svg", recording]).expect(0).out;
        let file = place.path(&format!("out/{file}.svg"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), alone);
    }
}

#[test]
fn several_recordings_do_not_go_into_one_document() {
    let place = Place::new();
    let before = place.files();
    for format in ["textgrid", "audacity", "svg"] {
        for output in [&["-o", "out"][..], &["-o", "none/"], &[]] {
            let command = [&["--format", format], output, &["b.wav", "c.wav"]].concat();
            let run = place.infer(&command).expect(2);
            for expected in [format, "2 recordings", "folder after -o"] {
                assert!(run.err.contains(expected), "{}", run.err);
            }
            assert_eq!(run.out, "");
        }
    }
    let run = place
        .infer(&["--format", "svg", "-o", "none/", "b.wav"])
        .expect(1);
    assert!(run.err.contains("no folder none/"), "{}", run.err);
    assert_eq!(place.files(), before);
    let run = place
        .infer(&["--format", "rttm", "b.wav", "c.wav"])
        .expect(0);
    assert!(run.out.contains("SPEAKER b 1 ") && run.out.contains("SPEAKER c 1 "));
}

#[test]
fn without_an_answer_there_is_no_document() {
    let place = Place::new();
    std::fs::write(place.path("old.svg"), "kept").unwrap();
    let before = place.files();
    for format in ["textgrid", "audacity", "svg", "rttm"] {
        let run = place.infer(&["--format", format, "gone.wav"]).expect(1);
        assert_eq!(run.out, "");
        assert!(run.err.contains("gone.wav: no such file"), "{}", run.err);
    }
    place
        .infer(&["--format", "svg", "-o", "old.svg", "gone.wav"])
        .expect(1);
    assert_eq!(std::fs::read(place.path("old.svg")).unwrap(), b"kept");
    assert_eq!(place.files(), before);
}

#[test]
fn a_recording_is_never_replaced() {
    let place = Place::new();
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    std::fs::write(place.path("c.svg"), &sound).unwrap();
    let before = place.files();
    let run = place
        .infer(&["--format", "svg", "-o", ".", "b.wav", "c.svg"])
        .expect(1);
    assert!(run.err.contains("c.svg is one of the files"), "{}", run.err);
    assert_eq!(std::fs::read(place.path("c.svg")).unwrap(), sound);
    assert_eq!(place.files(), before);
}
