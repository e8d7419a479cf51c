//! `POST /`: the interface of the system of 2020.

use ndarray::Array1;
use ndarray_npy::ReadNpyExt;

use crate::infer::Place;
use crate::support::{Answer, Server, command, multipart, urlencoded};

const FORM: &str = "application/x-www-form-urlencoded";
const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const OPEN: [&str; 4] = ["--model", "model.safetensors", "--files-root", "."];

fn post(server: &Server, fields: &[(&str, &str)]) -> Answer {
    server.post("/", FORM, &urlencoded(fields))
}

#[test]
fn the_object_is_the_one_of_infer_under_the_originals_headers() {
    let place = Place::new();
    std::fs::create_dir(place.path("한국")).unwrap();
    std::fs::copy(place.path("b.wav"), place.path("한국/a b&c.wav")).unwrap();
    let server = Server::start(place.0.path(), &OPEN);
    let wanted = place.infer(&["--format", "codes", "b.wav"]).expect(0).out;
    let wanted = wanted.trim_end();
    let absolute = place.0.path().canonicalize().unwrap();
    let absolute = format!("{}/", absolute.display());
    for (folder, name) in [
        ("./", "b.wav"),
        ("", "b.wav"),
        ("b", ".wav"),
        ("./한국/", "a b&c.wav"),
        (&absolute, "b.wav"),
    ] {
        let fields = [("path_dir", folder), ("wav_name", name)];
        let answer = post(&server, &fields).expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.text(), wanted);
        let (kind, body) = multipart(&fields, None);
        assert_eq!(server.post("/", &kind, &body).expect(200).text(), wanted);
    }
    let whole = post(&server, &[("input_speech", "./한국/a b&c.wav")]).expect(200);
    assert_eq!(whole.text(), wanted);
    let off = Server::start(place.0.path(), &[&OPEN[..], &["--dropout", "off"]].concat());
    let wanted = place
        .infer(&["--format", "codes", "--dropout", "off", "b.wav"])
        .out;
    let answer = post(&off, &[("path_dir", ""), ("wav_name", "b.wav")]).expect(200);
    assert_eq!(answer.text(), wanted.trim_end());
}

#[test]
fn it_is_open_only_where_it_was_opened() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let fields = [("path_dir", "./"), ("wav_name", "b.wav")];
    let message = post(&server, &fields).refused(403, "files_off");
    assert!(message.contains("--files-root"), "{message}");
    let open = Server::start(place.0.path(), &OPEN);
    let writing = [&fields[..], &[("output_path", "./")]].concat();
    let message = post(&open, &writing).refused(403, "writing_off");
    assert!(message.contains("--write-root"), "{message}");
    assert_eq!(
        place.files(),
        ["a.wav", "b.wav", "c.wav", "model.safetensors"]
    );
}

#[test]
fn each_fault_has_its_status() {
    let place = Place::new();
    let inside = place.path("inside");
    std::fs::create_dir_all(inside.join("folder")).unwrap();
    std::fs::copy(place.path("c.wav"), inside.join("c.wav")).unwrap();
    std::fs::write(inside.join("text.wav"), "no sound").unwrap();
    std::fs::write(inside.join("large.wav"), vec![0; (1 << 20) + 1]).unwrap();
    std::os::unix::fs::symlink("../b.wav", inside.join("link.wav")).unwrap();
    let root = [
        "--model",
        "model.safetensors",
        "--files-root",
        "inside",
        "--max-body",
        "1",
    ];
    let server = Server::start(place.0.path(), &root);
    let outside = place.path("b.wav").display().to_string();
    let read = |path: &str| post(&server, &[("path_dir", ""), ("wav_name", path)]);

    for fields in [&[][..], &[("path_dir", "./")], &[("wav_name", "c.wav")]] {
        let message = post(&server, fields).refused(400, "bad_request");
        assert!(message.contains("is missing"), "{message}");
    }
    let json = br#"{"path_dir": "./", "wav_name": "c.wav"}"#;
    server
        .post("/", "application/json", json)
        .refused(400, "bad_request");
    for path in [
        "../b.wav",
        "link.wav",
        &outside,
        "/etc/passwd",
        "folder/../../b.wav",
    ] {
        let message = read(path).refused(403, "outside");
        assert!(message.contains("--files-root"), "{message}");
        assert!(path == outside || !message.contains(place.0.path().to_str().unwrap()));
    }
    for path in ["none.wav", "none/c.wav", "c.wav/x", ""] {
        read(path).refused(404, "not_found");
    }
    for path in ["text.wav", "folder", "."] {
        let message = read(path).refused(422, "unusable_audio");
        assert!(message.starts_with(path), "{message}");
    }
    read("large.wav").refused(413, "too_large");
    let form = urlencoded(&[("path_dir", &"x".repeat(70_000)), ("wav_name", "")]);
    server.post("/", FORM, &form).refused(413, "too_large");
    read("c.wav").expect(200);
}

#[test]
fn the_arrays_of_the_multimodal_system_are_written() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("out/sub")).unwrap();
    let server = Server::start(
        place.0.path(),
        &[&OPEN[..], &["--write-root", "out"]].concat(),
    );
    let post = |prefix: &str| {
        post(
            &server,
            &[("input_speech", "b.wav"), ("output_path", prefix)],
        )
    };
    let answer = post("sub/one_").expect(200).json();
    let array = |name: &str| -> Vec<f64> {
        let file = std::fs::File::open(place.path("out").join(name)).unwrap();
        Array1::<f64>::read_npy(file).unwrap().to_vec()
    };
    let rounded = |values: Vec<f64>| -> Vec<f64> {
        values
            .iter()
            .map(|x| format!("{x:.4}").parse().unwrap())
            .collect()
    };
    let codes = |codes: &[&str]| -> Vec<f64> {
        codes.iter().map(|c| answer[*c].as_f64().unwrap()).collect()
    };
    let emotions = [
        "10001", "10002", "10003", "10004", "10005", "10006", "10007",
    ];
    assert_eq!(
        rounded(array("sub/one_speech_emotion.npy")),
        codes(&emotions)
    );
    assert_eq!(rounded(array("sub/one_speech_age.npy")), codes(&["20000"]));
    assert_eq!(
        rounded(array("sub/one_speech_gender.npy")),
        codes(&["30001", "30002"])
    );
    post("").expect(200);
    assert_eq!(array("speech_age.npy"), array("sub/one_speech_age.npy"));
    post("none/").refused(404, "not_found");
    for prefix in ["../", "/tmp/", "sub/../../"] {
        post(prefix).refused(403, "outside");
    }
    let count = |folder: &str| std::fs::read_dir(place.path(folder)).unwrap().count();
    assert_eq!((count("out"), count("out/sub")), (4, 3));
    assert_eq!(
        place.files(),
        ["a.wav", "b.wav", "c.wav", "model.safetensors", "out"]
    );
}

#[test]
fn a_full_disk_is_said_and_nothing_is_written() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("out")).unwrap();
    std::fs::write(place.path("out/speech_age.npy"), "older").unwrap();
    let root = [&OPEN[..], &["--write-root", "out"]].concat();
    let files = || {
        let entries = std::fs::read_dir(place.path("out")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let fields = [("input_speech", "b.wav"), ("output_path", "")];
    {
        // A process that may write no file is one whose disk is full.
        let program = command(place.0.path());
        let mut limited = std::process::Command::new("bash");
        limited
            .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args())
            .args(&root)
            .current_dir(place.0.path())
            .env_remove("MAEUM_KEY")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let server = Server::run(&mut limited);
        let message = post(&server, &fields).refused(507, "disk_full");
        assert!(message.starts_with("speech_emotion.npy"), "{message}");
        assert_eq!(files(), ["speech_age.npy"]);
        // Without writing it answers.
        post(&server, &fields[..1]).expect(200);
    }
    let server = Server::start(place.0.path(), &root);
    std::fs::create_dir(place.path("out/speech_gender.npy")).unwrap();
    let message = post(&server, &fields).refused(409, "name_taken");
    assert!(message.starts_with("speech_gender.npy"), "{message}");
    assert_eq!(files(), ["speech_age.npy", "speech_gender.npy"]);
    let older = std::fs::read(place.path("out/speech_age.npy")).unwrap();
    assert_eq!(older, b"older");
}

#[test]
fn a_server_that_could_not_keep_its_word_does_not_start() {
    let place = Place::new();
    let mut info = maeum::model::ModelInfo::legacy2020();
    info.emotions[2] = "joy".into();
    let other = crate::model::speech_model(info);
    maeum::model::bundle::save(&other, &place.path("other.safetensors")).unwrap();
    let damaged = crate::model::speech_model(maeum::model::ModelInfo::legacy2020());
    let mut networks = damaged.networks().to_vec();
    networks[1].self_test.as_mut().unwrap().outputs[0][0] += 1.0;
    let damaged = maeum::model::Model::new(networks, damaged.info().clone()).unwrap();
    maeum::model::bundle::save(&damaged, &place.path("damaged.safetensors")).unwrap();
    for (arguments, said) in [
        (
            &["--model", "other.safetensors", "--files-root", "."][..],
            "start without --files-root",
        ),
        (&["--model", "damaged.safetensors"], "damaged.safetensors: "),
        (&["--model", "none.safetensors"], "none.safetensors"),
        (&["--files-root", "none"], "--files-root none"),
        (&["--write-root", "."], "--files-root"),
        (&["--key-file", "none"], "--key-file none"),
        (&["--host", "203.0.113.1"], "needs a key"),
        (
            &["--host", "203.0.113.1", "--allow-host", "voice.example"],
            "cannot listen on 203.0.113.1",
        ),
        (
            &["--device", "cuda:1000"],
            "--device cuda:1000: there is no",
        ),
    ] {
        let output = command(place.0.path()).args(arguments).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}: {log}");
        assert!(log.contains(said), "{arguments:?}: {log}");
    }
    // Without the compatible route the same model serves.
    Server::start(place.0.path(), &["--model", "other.safetensors"]);
}
