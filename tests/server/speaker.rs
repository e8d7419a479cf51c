//! `POST /v1/speaker/profile`, and predictions relative to a speaker.

use maeum::server::schema;
use serde_json::{Value, json};
use tungstenite::Message;

use crate::infer::Place;
use crate::profiles;
use crate::support::{Answer, Server, multipart};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const PROFILE: &str = "/v1/speaker/profile";
const EMOTION: &str = "/v1/audio/emotion";
const BOUNDARY: &str = "a-boundary-between-recordings";

/// Sends a form with several recordings of the folder.
fn enroll(server: &Server, place: &Place, names: &[&str]) -> Answer {
    let mut body = Vec::new();
    for name in names {
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(std::fs::read(place.path(name)).unwrap());
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    server.post(PROFILE, &kind, &body)
}

fn ask(server: &Server, place: &Place, name: &str, fields: &[(&str, &str)]) -> Answer {
    let sound = std::fs::read(place.path(name)).unwrap();
    let (kind, body) = multipart(fields, Some((name, &sound)));
    server.post(EMOTION, &kind, &body)
}

#[test]
fn the_profile_is_the_one_of_infer_and_so_are_the_answers() {
    let place = profiles::place();
    let server = Server::start(place.0.path(), &MODEL);
    let made = enroll(&server, &place, &["b.wav", "c.wav"]).expect(200);
    assert_eq!(made.header("content-type"), Some("application/json"));
    place
        .infer(&["--enroll", "me.json", "b.wav", "c.wav"])
        .expect(0);
    let wanted: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("me.json")).unwrap()).unwrap();
    let found = made.json();
    assert_eq!(found["recordings"], 2);
    assert_eq!(found["model"], wanted["model"]);
    assert_eq!(found["segments"], wanted["segments"]);

    std::fs::write(place.path("made.json"), made.text()).unwrap();
    let by_infer = place
        .infer(&["--format", "json", "--profile", "made.json", "two.wav"])
        .expect(0);
    let by_server = ask(&server, &place, "two.wav", &[("profile", &made.text())]).expect(200);
    assert_eq!(by_server.text(), by_infer.out);
    let answer: schema::Answer = serde_json::from_value(by_server.json()).unwrap();
    let record = &answer.results[0];
    assert_eq!(record.speaker.as_ref().unwrap().recordings, 2);
    assert_eq!(record.segments.len(), 2);
    let models = server.get("/v1/models").expect(200).json();
    assert_eq!(models["models"][0]["speaker_profiles"], true);
    // The server stores nothing: the next request is independent of earlier ones.
    let plain = ask(&server, &place, "two.wav", &[]).expect(200).json();
    assert_eq!(plain["results"][0]["speaker"], Value::Null);
}

#[test]
fn recordings_without_a_profile_are_named() {
    let place = profiles::place();
    std::fs::write(place.path("text.wav"), "no sound").unwrap();
    let arguments = [&MODEL[..], &["--max-seconds", "6"]].concat();
    let server = Server::start(place.0.path(), &arguments);
    let message = enroll(&server, &place, &["b.wav", "noise.wav"]).refused(422, "no_speech");
    assert!(message.contains("noise.wav"), "{message}");
    let message = enroll(&server, &place, &["text.wav"]).refused(422, "unusable_audio");
    assert!(message.contains("text.wav"), "{message}");
    enroll(&server, &place, &["a.wav", "c.wav"]).refused(413, "too_long");
    enroll(&server, &place, &[]).refused(400, "bad_request");
    server
        .post(PROFILE, "audio/wav", b"RIFF")
        .refused(415, "no_recording");
    let (kind, body) = multipart(&[("seed", "1")], None);
    let message = server
        .post(PROFILE, &kind, &body)
        .refused(400, "bad_request");
    assert!(message.contains("\"seed\""), "{message}");

    let profile = enroll(&server, &place, &["b.wav"]).expect(200).text();
    let other = profile.replace("\"model\":\"", "\"model\":\"0");
    for bad in ["", "{}", "[1]", &other, &" ".repeat(300 << 10)] {
        ask(&server, &place, "a.wav", &[("profile", bad)]).refused(400, "bad_profile");
    }
    let twice = [("profile", &*profile), ("profile", &profile)];
    ask(&server, &place, "a.wav", &twice).refused(400, "bad_request");
    // Proxies log queries, so a profile must not be in one.
    let sound = std::fs::read(place.path("a.wav")).unwrap();
    server
        .post(&format!("{EMOTION}?profile=x"), "audio/wav", &sound)
        .refused(400, "bad_request");
    ask(&server, &place, "noise.wav", &[]).refused(422, "no_speech");
}

#[test]
fn a_model_without_profiles_is_reported() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let message = enroll(&server, &place, &["b.wav"]).refused(400, "bad_profile");
    assert!(message.contains("cannot use speaker profiles"), "{message}");
    let models = server.get("/v1/models").expect(200).json();
    assert_eq!(models["models"][0]["speaker_profiles"], false);
}

#[test]
fn a_stream_is_relative_to_the_speaker_from_the_beginning() {
    let place = profiles::place();
    let server = Server::start(place.0.path(), &MODEL);
    let profile = enroll(&server, &place, &["b.wav", "c.wav"]).expect(200);
    let config = |profile: Value| json!({"sample_rate": 16_000, "encoding": "s16le", "name": "two.wav", "profile": profile});
    let open = |config: &Value| {
        let url = format!("ws://{}/v1/audio/stream", server.address);
        let (mut socket, _) = tungstenite::client(url, server.connect()).unwrap();
        socket.send(Message::text(config.to_string())).unwrap();
        socket
    };
    let mut socket = open(&config(profile.json()));
    let file = std::fs::read(place.path("two.wav")).unwrap();
    // Skips the header of 44 bytes; 5 s include the start of the second stretch.
    socket
        .send(Message::binary(file[44..][..160_000].to_vec()))
        .unwrap();
    let mut next = || loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str::<Value>(&text).unwrap();
        }
    };
    let interim = next();
    assert_eq!(interim["type"], "interim");
    assert_eq!(interim["result"]["speaker"]["recordings"], 2);
    let record: schema::Record = serde_json::from_value(interim["result"].clone()).unwrap();
    assert!(
        record
            .segments
            .iter()
            .all(|s| s.start < s.end && s.end <= 5.1)
    );
    socket
        .send(Message::binary(file[44 + 160_000..].to_vec()))
        .unwrap();
    socket.send(Message::text(r#"{"type": "end"}"#)).unwrap();
    let last = loop {
        match socket.read().unwrap() {
            Message::Text(text) if text.contains("\"final\"") => break text,
            Message::Close(frame) => panic!("{frame:?}"),
            _ => {}
        }
    };
    let last: Value = serde_json::from_str(&last).unwrap();
    let wanted = ask(&server, &place, "two.wav", &[("profile", &profile.text())]).expect(200);
    assert_eq!(last["result"], wanted.json()["results"][0]);

    let mut socket = open(&config(json!({"format": "other"})));
    let Message::Text(text) = socket.read().unwrap() else {
        panic!("a text is sent");
    };
    let refused: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(refused["error"]["code"], "bad_profile");
}
