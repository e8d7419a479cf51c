//! `GET /v1/audio/stream`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use maeum::server::{Settings, schema};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::infer::Place;
use crate::support::{Server, connect, in_process, multipart, send};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/stream";

/// Bytes of a wav file that [`crate::model::write_wav`] wrote, behind its header.
const HEADER: usize = 44;

pub struct Stream(WebSocket<TcpStream>);

impl Stream {
    fn open(server: &Server, config: &Value) -> Self {
        Self::at(&server.address, config)
    }

    fn at(address: &str, config: &Value) -> Self {
        let url = format!("ws://{address}{ROUTE}");
        let (socket, _) = tungstenite::client(url, connect(address)).unwrap();
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
    let segments = crate::profiles::profile_model("segments");
    maeum::model::bundle::save(&segments, &place.path("segments.safetensors")).unwrap();
    for arguments in [&MODEL[..], &["--model", "segments.safetensors"]] {
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

/// Returns the text messages up to the end of the connection and the code of the close.
fn raw(server: &Server, frames: &[&[u8]]) -> (Vec<String>, Option<u16>) {
    let mut stream = server.connect();
    let head = format!(
        "GET {ROUTE} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    for frame in frames {
        stream.write_all(frame).unwrap();
    }
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("no reset");
    let (mut texts, mut code) = (Vec::new(), None);
    let mut rest = &bytes[..];
    while let [first, length, more @ ..] = rest {
        let (length, more) = match length {
            126 => (usize::from(more[0]) << 8 | usize::from(more[1]), &more[2..]),
            n => (usize::from(*n), more),
        };
        let (content, next) = more.split_at(length);
        rest = next;
        match first & 15 {
            1 => texts.push(String::from_utf8(content.to_vec()).unwrap()),
            8 => code = Some(u16::from(content[0]) << 8 | u16::from(content[1])),
            _ => {}
        }
    }
    (texts, code)
}

/// A masked frame, with zeros as the mask.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match content.len() {
        n if n < 126 => bytes.push(0x80 | n as u8),
        n if n < 65536 => bytes.extend([0xFE, (n >> 8) as u8, n as u8]),
        n => {
            bytes.push(0xFF);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(content);
    bytes
}

#[test]
fn each_fault_has_its_message_and_its_code() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    let setup = frame(0x81, config(16_000).to_string().as_bytes());
    let large = frame(0x82, &vec![0; (1 << 20) + 2]);
    let mut huge = vec![0x82, 0xFF];
    huge.extend((1u64 << 40).to_be_bytes());
    huge.extend([0; 4000]);
    let half = frame(0x02, &vec![0; 700_000]);
    let other_half = frame(0x80, &vec![0; 700_000]);
    for (name, frames, wanted, said) in [
        ("a large message", vec![&setup, &large], 1009, "1048576"),
        (
            "a message of a terabyte",
            vec![&setup, &huge],
            1009,
            "1048576",
        ),
        (
            "large in parts",
            vec![&setup, &half, &other_half],
            1009,
            "1048576",
        ),
        ("a large first message", vec![&large], 1009, "1048576"),
        (
            "no UTF-8",
            vec![&setup, &frame(0x81, b"\xff\xfe")],
            1007,
            "UTF-8",
        ),
        (
            "no UTF-8 at first",
            vec![&frame(0x81, b"\xff\xfe")],
            1007,
            "UTF-8",
        ),
        (
            "not masked",
            vec![&setup, &vec![0x82, 2, 0, 0]],
            1002,
            "mask",
        ),
        (
            "reserved bits",
            vec![&setup, &frame(0xF2, b"xx")],
            1002,
            "frame",
        ),
        (
            "an unknown kind",
            vec![&setup, &frame(0x83, b"xx")],
            1002,
            "frame",
        ),
        (
            "a long ping",
            vec![&setup, &frame(0x89, &[0; 126])],
            1002,
            "frame",
        ),
        (
            "a part without a start",
            vec![&setup, &frame(0x80, b"xx")],
            1002,
            "frame",
        ),
    ] {
        let frames: Vec<&[u8]> = frames.iter().map(|f| &f[..]).collect();
        let (texts, code) = raw(&server, &frames);
        assert_eq!(code, Some(wanted), "{name}: {texts:?}");
        assert_eq!(texts.len(), 1, "{name}: {texts:?}");
        let message: Value = serde_json::from_str(&texts[0]).unwrap();
        assert_eq!(message["type"], "error", "{name}");
        let text = message["error"]["message"].as_str().unwrap();
        assert!(text.contains(said), "{name}: {text}");
    }
    // The client's own close is answered by the same code, with or without a setup.
    for code in [1000u16, 1001, 4000] {
        let close = frame(0x88, &code.to_be_bytes());
        for frames in [
            &[&setup[..], &close[..]][..],
            &[&close[..]],
            &[&setup[..], &frame(0x82, &[0; 64])[..], &close[..]],
        ] {
            assert_eq!(raw(&server, frames), (vec![], Some(code)));
        }
    }
    // Pings before the first message change nothing.
    let end = frame(0x81, br#"{"type": "end"}"#);
    let (texts, code) = raw(&server, &[&frame(0x89, b"x"), &setup, &end]);
    assert_eq!((texts.len(), code), (1, Some(1000)), "{texts:?}");
    server.wait_for("maeum_open_streams", 0.0);
    assert_eq!(server.metric("maeum_held_bytes"), 0.0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn streams_take_nothing_from_requests_and_only_samples_keep_them_open() {
    let place = Place::new();
    let mut settings = Settings {
        max_held: 1 << 20,
        max_streamed: 1 << 20,
        ..Settings::default()
    };
    settings.times.stream_idle = Duration::from_secs(2);
    settings.times.ping = Duration::from_millis(200);
    let address = in_process(place.0.path(), settings);
    let mut config = config(16_000);
    config["interim"] = false.into();
    let mut full = Stream::at(&address, &config);
    full.samples(&vec![1; 1 << 20]);
    let start = Instant::now();
    // Empty messages and pongs, for longer than a stream may be idle.
    let mut idle = Stream::at(&address, &config);
    let mut refused = None;
    while start.elapsed() < Duration::from_secs(20) && refused.is_none() {
        let _ = idle.0.send(Message::binary(Vec::new()));
        let _ = idle.0.send(Message::Pong("x".into()));
        idle.0
            .get_ref()
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        match idle.0.read() {
            Ok(Message::Text(text)) => refused = Some(text.to_string()),
            Ok(_) => {}
            Err(tungstenite::Error::Io(_)) => {}
            Err(e) => panic!("{e}"),
        }
        if start.elapsed() < Duration::from_millis(1500) {
            // One sample keeps the other stream open.
            let sound = std::fs::read(place.path("c.wav")).unwrap();
            let kind = [("Content-Type", "audio/wav")];
            send(&address, "POST", "/v1/audio/emotion", &kind, &sound).expect(200);
        }
    }
    let refused: Value = serde_json::from_str(&refused.expect("it is closed")).unwrap();
    assert_eq!(refused["error"]["code"], "timeout", "{refused}");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    // There is room again once the full stream has been idle for as long.
    let wait_for = |held: f64| {
        let line = format!("maeum_held_bytes {held}\n");
        let metrics = || send(&address, "GET", "/metrics", &[], b"").text();
        while !metrics().contains(&line) {
            assert!(start.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(0.0);
    let mut first = Stream::at(&address, &config);
    first.samples(&vec![1; 1 << 20]);
    wait_for(1_048_576.0);
    let mut second = Stream::at(&address, &config);
    second.samples(&[1; 2]);
    let (error, code) = second.refused();
    assert_eq!((&error["code"], code), (&"busy".into(), 1013), "{error}");
}
