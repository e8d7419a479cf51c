//! Names of recordings, and host names of the server.

use crate::infer::Place;
use crate::support::{Answer, Server};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/emotion";

fn part(server: &Server, head: &str, content: &[u8]) -> Answer {
    let mut body = format!("--x\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes();
    body.extend(content);
    body.extend(b"\r\n--x--\r\n");
    server.post(ROUTE, "multipart/form-data; boundary=x", &body)
}

#[test]
fn a_korean_name_comes_back_however_it_was_sent() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    for name in [
        r#"filename="음성.wav""#,
        "filename*=utf-8''%EC%9D%8C%EC%84%B1.wav",
        r#"filename="%EC%9D%8C%EC%84%B1.wav"; filename*=utf-8''%EC%9D%8C%EC%84%B1.wav"#,
        r#"filename="%EC%9D%8C%EC%84%B1.wav""#,
    ] {
        let answer = part(&server, &format!("name=\"file\"; {name}"), &sound).expect(200);
        assert_eq!(answer.json()["results"][0]["file"], "음성.wav", "{name}");
    }
}

#[test]
fn a_recording_in_a_wrong_field_is_refused() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    for head in [
        r#"name="audio_file"; filename="a.wav""#,
        r#"name="audio_file""#,
        r#"name="seed"; filename="a.wav""#,
        r#"filename="a.wav""#,
    ] {
        let message = part(&server, head, &sound).refused(400, "bad_request");
        assert!(message.contains("the field `file`"), "{head}: {message}");
    }
    let head = "name=\"file\"; filename=\"a.wav\"\r\nContent-Transfer-Encoding: base64";
    let message = part(&server, head, b"UklGRg==").refused(400, "bad_request");
    assert!(message.contains("base64"), "{message}");
}

#[test]
fn a_compressed_body_is_refused() {
    let place = Place::new();
    let server = Server::start(place.0.path(), &MODEL);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    for coding in ["gzip", "br", "identity, GZip", "deflate"] {
        let headers = [("Content-Type", "audio/wav"), ("Content-Encoding", coding)];
        let answer = server.send("POST", ROUTE, &headers, &sound);
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
        let message = answer.refused(415, "encoded_body");
        let named = coding.rsplit(' ').next().unwrap();
        assert!(message.contains(named), "{message}");
    }
    let headers = [
        ("Content-Type", "audio/wav"),
        ("Content-Encoding", "identity"),
    ];
    server.send("POST", ROUTE, &headers, &sound).expect(200);
}

#[test]
fn a_server_for_others_answers_to_its_names_alone() {
    let place = Place::new();
    let arguments = ["--host", "0.0.0.0", "--allow-host", "Voice.example"];
    let server = Server::start(place.0.path(), &[&MODEL[..], &arguments].concat());
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let wav = ("Content-Type", "audio/wav");
    for host in [
        "voice.EXAMPLE",
        "voice.example:9999",
        "localhost:1",
        "127.0.0.1:9",
    ] {
        server
            .send("POST", ROUTE, &[wav, ("Host", host)], &sound)
            .expect(200);
    }
    for path in ["/metrics", "/", "/v1/models", "/livez"] {
        server
            .send("GET", path, &[("Host", "evil.example:9999")], b"")
            .refused(403, "foreign_host");
    }
    let rebound = [
        wav,
        ("Host", "evil.example"),
        ("Origin", "http://evil.example"),
    ];
    server
        .send("POST", ROUTE, &rebound, &sound)
        .refused(403, "foreign_host");
}

#[test]
fn origins_match_in_whatever_case() {
    let place = Place::new();
    let arguments = ["--allow-origin", "HTTPS://Voice.Example"];
    let server = Server::start(place.0.path(), &[&MODEL[..], &arguments].concat());
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    for origin in ["https://voice.example", "https://Voice.Example"] {
        let headers = [("Content-Type", "audio/wav"), ("Origin", origin)];
        let answer = server.send("POST", ROUTE, &headers, &sound).expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    }
}

#[test]
fn the_description_works_under_a_path_of_a_proxy() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    for path in ["/docs", "/ui"] {
        let html = server.get(path).expect(200).text();
        for attribute in ["href=\"", "src=\""] {
            for link in html.split(attribute).skip(1) {
                assert!(!link.starts_with('/'), "{path}: {}", &link[..30]);
            }
        }
    }
    let document = server.get("/openapi.json").expect(200).json();
    assert_eq!(document["servers"][0]["url"], ".");
}
