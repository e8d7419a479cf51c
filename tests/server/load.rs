//! Many clients, slow clients, disconnecting clients, and shutdown.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::infer::Place;
use crate::model;
use crate::support::{Answer, Server, connect, multipart, send};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/emotion";
const RUNNING: &str = "maeum_running_jobs";
const QUEUED: &str = "maeum_queue_jobs";

/// Returns a request that keeps a thread busy: four minutes at a rate that needs resampling.
fn heavy(place: &Place) -> Vec<u8> {
    let path = place.path("heavy.wav");
    let samples = model::speech_like(240.0, 11_025, 140.0);
    model::write_wav(&path, 11_025, &samples);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    bytes
}

fn post_heavy(address: &str, heavy: &[u8]) -> Answer {
    let headers = [("Content-Type", "audio/wav")];
    send(
        address,
        "POST",
        &format!("{ROUTE}?dropout=1024"),
        &headers,
        heavy,
    )
}

#[test]
fn an_answer_is_the_same_alone_and_among_two_hundred() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let requests: Vec<(String, Vec<u8>)> = ["a.wav", "b.wav", "c.wav"]
        .iter()
        .map(|name| {
            let sound = std::fs::read(place.path(name)).unwrap();
            multipart(&[("seed", "3")], Some((name, &sound)))
        })
        .collect();
    let alone: Vec<Vec<u8>> = requests
        .iter()
        .map(|(kind, body)| server.post(ROUTE, kind, body).expect(200).body)
        .collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let which = next.fetch_add(1, Ordering::Relaxed) % requests.len();
                let (kind, body) = &requests[which];
                let answer = server.post(ROUTE, kind, body).expect(200);
                assert!(answer.body == alone[which], "recording {which} differs");
            });
        }
    });
    assert_eq!(next.into_inner(), 200);
    assert_eq!(server.metric("maeum_held_bytes"), 0.0);
}

#[test]
fn a_full_queue_sets_a_retry_time() {
    let place = Place::new();
    let arguments = [&MODEL[..], &["--threads", "1", "--queue", "1"]].concat();
    let server = Server::start(place.0.path(), &arguments);
    let heavy = heavy(&place);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| post_heavy(&server.address, &heavy));
        server.wait_for(RUNNING, 1.0);
        let second = scope.spawn(|| post_heavy(&server.address, &heavy));
        server.wait_for(QUEUED, 1.0);
        let refused = server.post(ROUTE, "audio/wav", &sound);
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        refused.refused(429, "busy");
        first.join().unwrap().expect(200);
        second.join().unwrap().expect(200);
    });
    server.post(ROUTE, "audio/wav", &sound).expect(200);
}

#[test]
fn disconnected_clients_cost_nothing() {
    let place = Place::new();
    let arguments = [&MODEL[..], &["--threads", "1"]].concat();
    let server = Server::start(place.0.path(), &arguments);
    let heavy = heavy(&place);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| post_heavy(&server.address, &heavy));
        server.wait_for(RUNNING, 1.0);
        let mut leaving = connect(&server.address);
        let head = format!(
            "POST {ROUTE} HTTP/1.1\r\nHost: {}\r\nContent-Type: audio/wav\r\nContent-Length: {}\r\n\r\n",
            server.address,
            sound.len()
        );
        leaving.write_all(head.as_bytes()).unwrap();
        leaving.write_all(&sound).unwrap();
        server.wait_for(QUEUED, 1.0);
        drop(leaving);
        let gone = format!("maeum_requests_total{{route=\"{ROUTE}\",outcome=\"client_gone\"}}");
        while !server.get("/metrics").text().contains(&gone) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        first.join().unwrap().expect(200);
    });
    server.wait_for(RUNNING, 0.0);
    let heard = server.metric("maeum_audio_milliseconds_total");
    assert_eq!(heard, 240_000.0, "the second recording was not begun");
}

#[test]
fn slow_clients_hold_no_worker_and_time_out() {
    let place = Place::new();
    let arguments = [
        &MODEL[..],
        &["--threads", "1", "--queue", "0", "--body-timeout", "3"],
    ]
    .concat();
    let server = Server::start(place.0.path(), &arguments);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let head = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: x.localhost\r\nContent-Type: audio/wav\r\nContent-Length: {}\r\n\r\n",
        sound.len()
    );
    let head = head.replace("x.localhost", &server.address);
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(&server.address);
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&sound[..1000]).unwrap();
            stream
        })
        .collect();
    server.post(ROUTE, "audio/wav", &sound).expect(200);
    for stream in slow {
        let answer = Answer::read(stream);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
        answer.refused(408, "timeout");
    }
    assert_eq!(server.metric("maeum_held_bytes"), 0.0);
}

#[test]
fn running_requests_end_before_the_server() {
    let place = Place::new();
    let mut server = Server::start(place.0.path(), &[&MODEL[..], &["--drain", "300"]].concat());
    let heavy = heavy(&place);
    let address = server.address.clone();
    let answer = std::thread::scope(|scope| {
        let running = scope.spawn(|| post_heavy(&address, &heavy));
        server.wait_for(RUNNING, 1.0);
        server.terminate();
        running.join().unwrap()
    });
    answer.expect(200);
    assert!(server.wait().success());
    assert!(
        server.log().contains("everything ended"),
        "{}",
        server.log()
    );
    assert!(
        std::net::TcpStream::connect(&address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let place = Place::new();
    let mut server = Server::start(place.0.path(), &[&MODEL[..], &["--drain", "0"]].concat());
    let mut stream = connect(&server.address);
    let head = format!(
        "POST {ROUTE} HTTP/1.1\r\nHost: {}\r\nContent-Type: audio/wav\r\nContent-Length: 10\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    server.terminate();
    assert!(server.wait().success());
}
