//! Clients that send before they read, stop sending early, or send invalid HTTP.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::infer::Place;
use crate::support::{Answer, Server};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/emotion";

fn head(server: &Server, method: &str, path: &str, headers: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n",
        server.address
    )
}

#[test]
fn a_client_that_sends_before_reading_gets_the_refusal() {
    let place = Place::new();
    std::fs::write(place.path("key"), "a-secret\n").unwrap();
    let limits = ["--max-body", "4", "--key-file", "key"];
    let server = Server::start(place.0.path(), &[&MODEL[..], &limits].concat());
    let key = "Authorization: Bearer a-secret\r\n";
    let body = vec![7; 12 << 20];
    let wav = format!("{key}Content-Type: audio/wav\r\n");
    for (method, path, headers, status, code) in [
        (
            "POST",
            ROUTE,
            "Content-Type: audio/wav\r\n",
            401,
            "unauthorized",
        ),
        (
            "POST",
            ROUTE,
            &*format!("{wav}Origin: https://evil.example\r\n"),
            403,
            "foreign_origin",
        ),
        ("POST", "/none", key, 404, "no_route"),
        ("PUT", ROUTE, &*wav, 405, "method_not_allowed"),
        (
            "POST",
            ROUTE,
            &*format!("{key}Content-Type: text/plain\r\n"),
            415,
            "no_recording",
        ),
        (
            "POST",
            ROUTE,
            &*format!("{wav}Content-Encoding: gzip\r\n"),
            415,
            "encoded_body",
        ),
        (
            "POST",
            &*format!("{ROUTE}?speed=2"),
            &*wav,
            400,
            "bad_request",
        ),
        (
            "POST",
            &*format!("{ROUTE}?seed=-1"),
            &*wav,
            400,
            "bad_request",
        ),
        ("POST", ROUTE, &*wav, 413, "too_large"),
        ("POST", "/", key, 403, "files_off"),
        ("GET", "/livez", "", 200, ""),
    ] {
        let length = body.len();
        let length = format!("{headers}Connection: close\r\nContent-Length: {length}\r\n");
        let mut stream = server.connect();
        stream
            .write_all(head(&server, method, path, &length).as_bytes())
            .unwrap();
        stream
            .write_all(&body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let answer = Answer::read(stream);
        match status {
            200 => drop(answer.expect(200)),
            _ => drop(answer.refused(status, code)),
        }
    }
    // Invalid HTTP and oversized heads receive a response.
    let long = format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(60_000));
    for text in [vec![b'x'; 1 << 20], long.into_bytes()] {
        let mut stream = server.connect();
        stream.write_all(&text).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
}

#[test]
fn discarded_bytes_are_bounded() {
    let place = Place::empty();
    let limits = ["--max-body", "1", "--body-timeout", "3"];
    let server = Server::start(place.0.path(), &[&MODEL[..], &limits].concat());
    // The limit in bytes is four times the largest body plus the buffers on the way.
    let mut endless = server.connect();
    let length = "Content-Type: text/plain\r\nContent-Length: 99999999999\r\n";
    endless
        .write_all(head(&server, "POST", ROUTE, length).as_bytes())
        .unwrap();
    let mut sent = 0;
    while sent < 1 << 28 && endless.write_all(&[0; 1 << 16]).is_ok() {
        sent += 1 << 16;
    }
    assert!(((4 << 20)..(64 << 20)).contains(&sent), "{sent}");
    // The limit in time applies to a client that sends slowly and to one that stops.
    let mut slow = server.connect();
    slow.write_all(head(&server, "POST", ROUTE, length).as_bytes())
        .unwrap();
    let start = Instant::now();
    while slow.write_all(b"x").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut still = server.connect();
    still
        .write_all(head(&server, "POST", ROUTE, length).as_bytes())
        .unwrap();
    std::thread::sleep(Duration::from_secs(5));
    // The first write is answered by a reset, which the second one reports.
    let _ = still.write_all(b"x");
    std::thread::sleep(Duration::from_millis(300));
    assert!(still.write_all(b"x").is_err());
}

#[test]
fn a_client_that_shuts_down_its_sending_side_gets_the_response() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("a.wav")).unwrap();
    let wanted = server.post(ROUTE, "audio/wav", &sound).expect(200);
    let headers = format!(
        "Content-Type: audio/wav\r\nContent-Length: {}\r\n",
        sound.len()
    );
    let request = [
        head(&server, "POST", ROUTE, &headers).as_bytes(),
        &sound[..],
    ]
    .concat();
    let half_closed = |requests: &[&[u8]]| -> TcpStream {
        let mut stream = server.connect();
        for request in requests {
            stream.write_all(request).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    };
    for _ in 0..5 {
        let answer = Answer::read(half_closed(&[&request])).expect(200);
        assert!(answer.body == wanted.body);
    }
    // HTTP/1.0, a request without a body, and two pipelined requests.
    let old = format!("GET /livez HTTP/1.0\r\nHost: {}\r\n\r\n", server.address);
    Answer::read(half_closed(&[old.as_bytes()])).expect(200);
    let get = head(&server, "GET", "/livez", "");
    Answer::read(half_closed(&[get.as_bytes()])).expect(200);
    let mut both = String::new();
    half_closed(&[get.as_bytes(), &request])
        .read_to_string(&mut both)
        .unwrap();
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
    assert!(both.as_bytes().ends_with(&wanted.body));
    // A client that stops within its body receives 400 or the end of the connection.
    let mut rest = String::new();
    let start = Instant::now();
    half_closed(&[&request[..request.len() / 2]])
        .read_to_string(&mut rest)
        .unwrap();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
        "{rest}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn doubtful_requests_are_refused() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    let raw = |text: &str| {
        let mut stream = server.connect();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let own = &server.address;
    for text in [
        format!("GET /livez HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n"),
        format!(
            "POST {ROUTE} HTTP/1.1\r\nHost: {own}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
        ),
        format!("POST {ROUTE} HTTP/1.1\r\nHost: {own}\r\nContent-Length: -5\r\n\r\nhello"),
        format!(
            "POST {ROUTE} HTTP/1.1\r\nHost: {own}\r\nTransfer-Encoding: chunked, x\r\n\r\nhello"
        ),
        format!("GET /livez HTTP/1.1\r\nHost : {own}\r\n\r\n"),
    ] {
        let answer = raw(&text);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{text}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{text}: {answer}");
    }
    // With both a length and chunks, no data of the body is handled as a request.
    let hidden = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let text = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: {own}\r\nContent-Type: audio/wav\r\nContent-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
        5 + hidden.len()
    );
    let answer = raw(&text);
    assert!(!answer.contains("HTTP/1.1 200 "), "{answer}");
}
