//! `POST /v1/audio/emotion`.

use std::io::Write;

use maeum::server::schema;
use serde_json::Value;

use crate::infer::Place;
use crate::support::{Answer, Server, multipart};

const ROUTE: &str = "/v1/audio/emotion";
const MODEL: [&str; 2] = ["--model", "model.safetensors"];

fn upload(server: &Server, fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Answer {
    let (kind, body) = multipart(fields, file);
    server.post(ROUTE, &kind, &body)
}

#[test]
fn the_answer_is_the_one_of_infer_in_every_format() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("b.wav")).unwrap();
    let file = Some(("b.wav", &*sound));
    let models = server.get("/v1/models").json();
    let formats = models["models"][0]["limits"]["formats"].as_array().unwrap();
    assert!(formats.len() >= 5, "{formats:?}");
    for format in formats.iter().map(|f| f.as_str().unwrap()) {
        let wanted = place
            .infer(&[
                "--format",
                format,
                "--dropout",
                "20",
                "--seed",
                "5",
                "b.wav",
            ])
            .expect(0);
        let choices = [
            ("response_format", format),
            ("dropout", "20"),
            ("seed", "5"),
        ];
        let by_form = upload(&server, &choices, file).expect(200);
        assert_eq!(by_form.text(), wanted.out, "{format}");
        let query = format!("{ROUTE}?response_format={format}&dropout=20&seed=5");
        let (kind, body) = multipart(&[], file);
        let by_query = server.post(&query, &kind, &body).expect(200);
        assert_eq!(by_query.body, by_form.body, "{format}");
        server.post(&query, "audio/wav", &sound).expect(200);
    }
    let json = upload(&server, &[], file).expect(200);
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(json.text(), place.infer(&["--format", "json", "b.wav"]).out);
    let mut raw = server.post(ROUTE, "audio/wav", &sound).expect(200).json();
    raw["results"][0]["file"] = "b.wav".into();
    assert_eq!(raw, json.json());
    let csv = upload(&server, &[("response_format", "csv")], file).expect(200);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
}

#[test]
fn the_described_shape_is_the_one_that_is_sent() {
    let place = Place::new();
    let segments = crate::profiles::profile_model("segments");
    maeum::model::bundle::save(&segments, &place.path("segments.safetensors")).unwrap();
    for arguments in [&MODEL[..], &["--model", "segments.safetensors"]] {
        let server = Server::start(place.0.path(), arguments);
        for name in ["a.wav", "b.wav", "c.wav"] {
            let sound = std::fs::read(place.path(name)).unwrap();
            for dropout in ["off", "3"] {
                let answer = upload(&server, &[("dropout", dropout)], Some((name, &sound)));
                let answer = answer.expect(200).json();
                let read: schema::Answer = serde_json::from_value(answer.clone()).unwrap();
                assert_eq!(serde_json::to_value(&read).unwrap(), answer);
                assert_eq!(read.results[0].file, name);
            }
        }
    }
}

#[test]
fn what_cannot_be_recognised_is_said() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let file = Some(("c.wav", &*sound));

    let message = upload(&server, &[], None).refused(400, "bad_request");
    assert!(message.contains("field file is missing"), "{message}");
    for (choice, said) in [
        (("dropout", "1025"), "1 to 1024"),
        (("dropout", "0"), "1 to 1024"),
        (("seed", "-1"), "seed"),
        (("response_format", "xml"), "json"),
        (("form", "json"), "there is no parameter"),
    ] {
        let message = upload(&server, &[choice], file).refused(400, "bad_request");
        assert!(message.contains(said), "{message}");
        let query = format!("{ROUTE}?{}={}", choice.0, choice.1);
        server
            .post(&query, "audio/wav", &sound)
            .refused(400, "bad_request");
    }
    let (kind, mut twice) = multipart(&[], file);
    let end = twice.len() - kind.split_once("boundary=").unwrap().1.len() - 6;
    let again = twice.clone();
    twice.truncate(end);
    twice.extend(again);
    server
        .post(ROUTE, &kind, &twice)
        .refused(400, "bad_request");
    server
        .post(ROUTE, &kind, &sound)
        .refused(400, "bad_request");
    server
        .post(ROUTE, "multipart/form-data", &sound)
        .refused(400, "bad_request");
    let fields = [("seed", "1"); 17];
    let message = upload(&server, &fields, file).refused(400, "bad_request");
    assert!(message.contains("more than 16 fields"), "{message}");

    for kind in [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ] {
        server
            .post(ROUTE, kind, &sound)
            .refused(415, "no_recording");
    }
    server
        .send("POST", ROUTE, &[], &sound)
        .refused(415, "no_recording");

    place.raw_wav("silent.wav", 1, 16_000, 16, &[0; 64_000]);
    let silent = std::fs::read(place.path("silent.wav")).unwrap();
    let message = upload(&server, &[], Some(("s.wav", &silent))).refused(422, "unusable_audio");
    assert!(message.starts_with("s.wav: digital silence"), "{message}");
    for bytes in [
        &b""[..],
        b"x",
        b"RIFF",
        b"not audio at all",
        &sound[..30],
        &[0xFF; 5000],
    ] {
        server
            .post(ROUTE, "audio/wav", bytes)
            .refused(422, "unusable_audio");
        server
            .post(ROUTE, "application/octet-stream", bytes)
            .refused(422, "unusable_audio");
    }
    // What follows bad input is answered as ever.
    upload(&server, &[], file).expect(200);
}

#[test]
fn sizes_and_durations_are_bounded() {
    let place = Place::new();
    let limits = ["--max-body", "1", "--max-seconds", "3"];
    let server = Server::start(place.0.path(), &[&MODEL[..], &limits].concat());
    let short = std::fs::read(place.path("c.wav")).unwrap();
    server.post(ROUTE, "audio/wav", &short).expect(200);
    let long = std::fs::read(place.path("b.wav")).unwrap();
    let message = server
        .post(ROUTE, "audio/wav", &long)
        .refused(413, "too_long");
    assert!(message.contains("longer than 132300 samples"), "{message}");
    let large = vec![0; (1 << 20) + 1];
    let message = server
        .post(ROUTE, "audio/wav", &large)
        .refused(413, "too_large");
    assert!(message.contains("1048576 bytes"), "{message}");
    let announced = [
        ("Content-Type", "audio/wav"),
        ("Content-Length", "99999999999"),
    ];
    server
        .send("POST", ROUTE, &announced, b"")
        .refused(413, "too_large");
    let asking = [
        ("Content-Type", "audio/wav"),
        ("Content-Length", "1048577"),
        ("Expect", "100-continue"),
    ];
    server
        .send("POST", ROUTE, &asking, b"")
        .refused(413, "too_large");
}

#[test]
fn a_body_in_chunks_is_the_same_body() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let mut chunks = Vec::new();
    for part in sound.chunks(1001) {
        chunks.extend(format!("{:x}\r\n", part.len()).bytes());
        chunks.extend(part);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    let mut stream = server.connect();
    let head = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: audio/wav\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&chunks).unwrap();
    let chunked = Answer::read(stream).expect(200);
    let whole = server.post(ROUTE, "audio/wav", &sound).expect(200);
    assert_eq!(chunked.body, whole.body);
    let document: Value = whole.json();
    assert_eq!(document["results"][0]["file"], "recording");
}
