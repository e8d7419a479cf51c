//! A log that cannot be written affects no response.

use std::process::Stdio;

use crate::infer::Place;
use crate::support::{Server, command};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/emotion";

fn answers(place: &Place, log: Stdio) {
    let server = Server::with_log(place.0.path(), &MODEL, log);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    for _ in 0..20 {
        server.post(ROUTE, "audio/wav", &sound).expect(200);
        server.get("/livez").expect(200);
        server.get("/none").refused(404, "no_route");
    }
    assert_eq!(server.metric("maeum_panics_total"), 0.0);
}

#[test]
fn a_closed_log_costs_no_response() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    answers(&place, writer.into());
    let full = std::fs::File::options().write(true).open("/dev/full");
    answers(&place, full.unwrap().into());
}

#[test]
fn a_stalled_log_reader_costs_no_response() {
    let place = Place::empty();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::with_log(place.0.path(), &MODEL, writer.into());
    // Fills the pipe, then the log's queue.
    for _ in 0..6000 {
        server.get("/livez").expect(200);
    }
    server.terminate();
    assert!(server.wait().success());
    drop(reader);
}

#[test]
fn a_free_port_is_printed_in_one_line() {
    let place = Place::empty();
    let arguments = [&MODEL[..], &["--quiet"]].concat();
    let (reader, writer) = std::io::pipe().unwrap();
    let server = Server::with_log(place.0.path(), &arguments, writer.into());
    server.get("/livez").expect(200);
    drop(server);
    let log = std::io::read_to_string(reader).unwrap();
    assert_eq!(log, "");
}

#[test]
fn start_errors_are_reported() {
    let place = Place::empty();
    for (arguments, code, expected) in [
        (&["--host", "0.0.0.0"][..], 1, "--allow-host NAME"),
        (&["--host", "::"], 1, "--key-file FILE"),
        (&["--allow-origin", "*"], 2, "name each origin"),
        (
            &["--allow-origin", "http://localhost:3000/"],
            2,
            "http://localhost:3000",
        ),
        (&["--allow-origin", "localhost:3000"], 2, "scheme"),
        (
            &["--allow-origin", "https://a.example:443"],
            2,
            "leave out the port",
        ),
        (&["--allow-origin", ""], 2, "scheme"),
        (
            &["--allow-host", "voice.example:443"],
            2,
            "leave out the port",
        ),
        (
            &["--allow-host", "https://voice.example"],
            2,
            "leave out the scheme",
        ),
        (&["--allow-host", ""], 2, "missing"),
    ] {
        let all = [&MODEL[..], arguments].concat();
        let output = command(place.0.path()).args(&all).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {log}");
        assert!(log.contains(expected), "{arguments:?}: {log}");
        assert!(!log.contains("panicked"), "{arguments:?}: {log}");
    }
}
