//! `GET /v1/audio/stream`.

use std::net::TcpStream;

use maeum::server::schema;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::infer::Place;
use crate::support::{Server, multipart};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/stream";

/// Bytes of a wav file that [`crate::model::write_wav`] wrote, behind its header.
const HEADER: usize = 44;

struct Stream(WebSocket<TcpStream>);

impl Stream {
    fn open(server: &Server, config: &Value) -> Self {
        let url = format!("ws://{}{ROUTE}", server.address);
        let (socket, _) = tungstenite::client(url, server.connect()).unwrap();
        let mut stream = Self(socket);
        stream.text(&config.to_string());
        stream
    }

    fn text(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn samples(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// The next text message, or the code that the server closes with.
    fn next(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return Ok(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => return Err(frame.unwrap().code.into()),
                _ => {}
            }
        }
    }

    /// The messages up to the end, and the code of the close.
    fn rest(mut self) -> (Vec<Value>, u16) {
        let mut messages = Vec::new();
        loop {
            match self.next() {
                Ok(message) => messages.push(message),
                Err(code) => return (messages, code),
            }
        }
    }

    /// The only message, which says what was wrong.
    fn refused(self) -> (Value, u16) {
        let (messages, code) = self.rest();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(messages[0]["type"], "error");
        (messages[0]["error"].clone(), code)
    }
}

fn config(rate: u32) -> Value {
    json!({"sample_rate": rate, "encoding": "s16le"})
}

#[test]
fn the_last_result_is_the_files_bit_for_bit() {
    let place = Place::new();
    for arguments in [&MODEL[..], &[]] {
        let server = Server::start(place.0.path(), arguments);
        for (name, rate, piece) in [
            ("a.wav", 16_000, 4001),
            ("b.wav", 44_100, 999),
            ("c.wav", 8_000, 1),
        ] {
            let file = std::fs::read(place.path(name)).unwrap();
            let (kind, body) = multipart(&[("dropout", "9"), ("seed", "4")], Some((name, &file)));
            let wanted = server
                .post("/v1/audio/emotion", &kind, &body)
                .expect(200)
                .text();
            let wanted = wanted.lines().nth(1).unwrap();
            let mut config = config(rate);
            config["dropout"] = 9.into();
            config["seed"] = 4.into();
            config["name"] = name.into();
            let mut stream = Stream::open(&server, &config);
            for part in file[HEADER..].chunks(piece) {
                stream.samples(part);
            }
            stream.text(r#"{"type": "end"}"#);
            let last = loop {
                match stream.0.read().unwrap() {
                    Message::Text(text) if text.starts_with(r#"{"type":"final""#) => break text,
                    Message::Close(frame) => panic!("{frame:?}"),
                    _ => {}
                }
            };
            assert_eq!(
                last.as_str(),
                format!(r#"{{"type":"final","result":{wanted}}}"#),
                "{name}"
            );
            assert_eq!(stream.next(), Err(1000));
        }
    }
}

#[test]
fn results_on_the_way_are_of_the_last_seconds_and_marked() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let samples = std::fs::read(place.path("a.wav")).unwrap()[HEADER..].to_vec();
    let mut stream = Stream::open(&server, &config(16_000));
    // 17.5 s of the 18: one second at a time, each after the result of the one before, so that a
    // thread is always free.
    let mut heard = Vec::new();
    for (second, part) in samples[..560_000].chunks(32_000).enumerate() {
        stream.samples(part);
        let complete = second as u64 + 1;
        if (2..=17).contains(&complete) {
            let message = stream.next().unwrap();
            assert_eq!(message["type"], "interim");
            assert_eq!(message["end"], complete);
            assert_eq!(message["start"], complete.saturating_sub(15));
            heard.push(message);
        }
    }
    stream.text(r#"{"type": "end"}"#);
    let (last, code) = stream.rest();
    assert_eq!((last.len(), code), (1, 1000), "{last:?}");
    assert_eq!(last[0]["type"], "final");
    for message in &heard {
        let record: schema::Record = serde_json::from_value(message["result"].clone()).unwrap();
        let (start, end) = (
            message["start"].as_f64().unwrap(),
            message["end"].as_f64().unwrap(),
        );
        assert_eq!(record.voice.duration, end - start);
        assert_eq!(record.file, "stream");
        assert!(!record.timeline.is_empty());
        // Resampling rounds up, by less than two samples of 16 kHz.
        let inside = |a: f64, b: f64| start <= a && a < b && b <= end + 2.0 / 16_000.0;
        for window in &record.timeline {
            assert!(inside(window.start, window.end), "{window:?}");
        }
        assert!(inside(
            record.voice.analysed.start,
            record.voice.analysed.end
        ));
        assert!(record.voice.speech.iter().all(|s| inside(s.start, s.end)));
    }
    // The first is what a file of the first two seconds gives.
    let place = Place::empty();
    let mut wav = std::fs::read(write(&place, &samples[..64_000])).unwrap();
    wav.truncate(HEADER + 64_000);
    let answer = server
        .post("/v1/audio/emotion", "audio/wav", &wav)
        .expect(200)
        .json();
    let mut wanted = answer["results"][0].clone();
    wanted["file"] = "stream".into();
    assert_eq!(heard[0]["result"], wanted);
}

fn write(place: &Place, samples: &[u8]) -> std::path::PathBuf {
    place.raw_wav("part.wav", 1, 16_000, 16, samples);
    place.path("part.wav")
}

#[test]
fn what_breaks_a_rule_is_told_and_closed() {
    let place = Place::new();
    let server = Server::start(
        place.0.path(),
        &[&MODEL[..], &["--max-seconds", "3"]].concat(),
    );
    for (config, said) in [
        (json!({}), "sample_rate"),
        (json!({"sample_rate": 16000, "encoding": "opus"}), "s16le"),
        (json!({"sample_rate": 1, "encoding": "s16le"}), "1000"),
        (
            json!({"sample_rate": 16000, "encoding": "s16le", "dropout": 2000}),
            "1024",
        ),
    ] {
        let (error, code) = Stream::open(&server, &config).refused();
        assert_eq!(
            (&error["code"], code),
            (&"bad_request".into(), 1008),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    let mut stream = Stream::open(&server, &config(16_000));
    stream.text("hello");
    assert_eq!(stream.refused().0["code"], "bad_request");
    let url = format!("ws://{}{ROUTE}", server.address);
    let mut first = Stream(tungstenite::client(url, server.connect()).unwrap().0);
    first.samples(&[0; 100]);
    assert_eq!(first.refused().0["code"], "bad_request");
    let mut long = config(16_000);
    long["interim"] = false.into();
    let mut stream = Stream::open(&server, &long);
    stream.samples(&vec![1; 96_000]);
    stream.samples(&[1; 2]);
    assert_eq!(stream.refused().0["code"], "too_long");
}

#[test]
fn a_stream_without_sound_ends_with_why() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    for bytes in [&[][..], &[0], &[0; 200], &[0; 64_000]] {
        let mut stream = Stream::open(&server, &config(16_000));
        stream.samples(bytes);
        stream.text(r#"{"type": "end"}"#);
        let (messages, code) = stream.rest();
        let last = messages.last().unwrap();
        assert_eq!((&last["type"], code), (&"final".into(), 1000), "{last}");
        assert_eq!(last["error"]["code"], "unusable_audio", "{last}");
        assert!(last.get("result").is_none());
    }
    server.wait_for("maeum_open_streams", 0.0);
    assert_eq!(server.metric("maeum_held_bytes"), 0.0);
}

#[test]
fn a_server_that_ends_says_so() {
    let place = Place::empty();
    let mut server = Server::start(place.0.path(), &MODEL);
    let stream = Stream::open(&server, &config(16_000));
    server.wait_for("maeum_open_streams", 1.0);
    server.terminate();
    let (error, code) = stream.refused();
    assert_eq!((&error["code"], code), (&"draining".into(), 1001));
    assert!(server.wait().success());
}
