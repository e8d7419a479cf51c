//! Access control.

use crate::infer::Place;
use crate::support::Server;

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
const ROUTE: &str = "/v1/audio/emotion";

#[test]
fn a_key_is_required_if_set() {
    let place = Place::new();
    std::fs::write(place.path("key"), "a-secret\n").unwrap();
    let server = Server::start(
        place.0.path(),
        &[&MODEL[..], &["--key-file", "key"]].concat(),
    );
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let routes = [
        ("POST", "/"),
        ("POST", ROUTE),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/v1/audio/stream"),
    ];
    for (method, path) in routes {
        for key in [
            &[][..],
            &[("Authorization", "Bearer wrong")],
            &[("Authorization", "a-secret")],
        ] {
            let answer = server.send(method, path, key, b"");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            answer.refused(401, "unauthorized");
        }
    }
    let headers = [
        ("Authorization", "Bearer a-secret"),
        ("Content-Type", "audio/wav"),
    ];
    server.send("POST", ROUTE, &headers, &sound).expect(200);
    for path in ["/", "/docs", "/openapi.json", "/livez", "/readyz"] {
        server.get(path).expect(200);
    }
    assert!(!server.log().contains("secret"), "{}", server.log());
}

#[test]
fn pages_of_other_sites_do_not_get_through() {
    let place = Place::new();
    let arguments = [&MODEL[..], &["--files-root", "."]].concat();
    let server = Server::start(place.0.path(), &arguments);
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let form = b"path_dir=./&wav_name=c.wav";
    let urlencoded = ("Content-Type", "application/x-www-form-urlencoded");
    let wav = ("Content-Type", "audio/wav");
    let foreign = ("Origin", "https://evil.example");
    server
        .send("POST", "/", &[urlencoded, foreign], form)
        .refused(403, "foreign_origin");
    server
        .send("POST", ROUTE, &[wav, foreign], &sound)
        .refused(403, "foreign_origin");
    let upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade"), foreign];
    server
        .send("GET", "/v1/audio/stream", &upgrade, b"")
        .refused(403, "foreign_origin");
    let own = format!("http://{}", server.address);
    let answer = server
        .send("POST", ROUTE, &[wav, ("Origin", &own)], &sound)
        .expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    for path in ["/", "/v1/models", "/livez"] {
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
fn allowed_hosts_and_origins_are_accepted() {
    let place = Place::new();
    let named = [
        "--allow-origin",
        "https://voice.example",
        "--allow-host",
        "api.example",
    ];
    let server = Server::start(place.0.path(), &[&MODEL[..], &named].concat());
    let sound = std::fs::read(place.path("c.wav")).unwrap();
    let headers = [
        ("Content-Type", "audio/wav"),
        ("Origin", "https://voice.example"),
        ("Host", "api.example"),
    ];
    let answer = server.send("POST", ROUTE, &headers, &sound).expect(200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://voice.example"));
    let asking = [
        ("Origin", "https://voice.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let answer = server.send("OPTIONS", ROUTE, &asking, b"").expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), allowed);
    let other = [
        ("Content-Type", "audio/wav"),
        ("Origin", "https://other.example"),
    ];
    server
        .send("POST", ROUTE, &other, &sound)
        .refused(403, "foreign_origin");
}
