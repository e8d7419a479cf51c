//! API description of the server.

use std::collections::BTreeSet;

use crate::infer::Place;
use crate::support::{Server, multipart};

const MODEL: [&str; 2] = ["--model", "model.safetensors"];
/// Every documented route with its methods.
const ROUTES: [(&str, &[&str]); 8] = [
    ("/", &["get", "post"]),
    ("/livez", &["get"]),
    ("/metrics", &["get"]),
    ("/readyz", &["get"]),
    ("/v1/audio/emotion", &["post"]),
    ("/v1/audio/stream", &["get"]),
    ("/v1/models", &["get"]),
    ("/v1/speaker/profile", &["post"]),
];

#[test]
fn the_description_names_every_route_and_error() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    let answer = server.get("/openapi.json").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<(&str, Vec<&str>)> = paths
        .iter()
        .map(|(path, methods)| {
            (
                &**path,
                methods.as_object().unwrap().keys().map(|k| &**k).collect(),
            )
        })
        .collect();
    let wanted = ROUTES.map(|(path, methods)| (path, methods.to_vec()));
    assert_eq!(described, BTreeSet::from(wanted));
    let page = server.get("/docs").expect(200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let html = page.text();
    for (path, methods) in ROUTES {
        for method in methods {
            let operation = &document["paths"][path][method];
            let title = format!("<code>{} {path}</code>", method.to_uppercase());
            assert!(html.contains(&title), "{title}");
            assert!(
                operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
                "{path}"
            );
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(s, _)| &***s >= "400") {
                let schema = &response["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/ErrorBody", "{path} {status}");
            }
        }
    }
    // The page loads no external resources.
    assert!(
        !html.contains("src=") && !html.contains("http-equiv"),
        "{html}"
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[test]
fn unknown_routes_are_refused_in_the_same_shape() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    for path in ["/none", "/v1", "/v1/audio/emotion/", "/ui/..", "//"] {
        server.get(path).refused(404, "no_route");
        server
            .post(path, "audio/wav", b"x")
            .refused(404, "no_route");
    }
    for (method, path) in [
        ("PUT", "/"),
        ("DELETE", "/"),
        ("GET", "/v1/audio/emotion"),
        ("POST", "/v1/models"),
        ("POST", "/livez"),
        ("POST", "/metrics"),
        ("POST", "/docs"),
    ] {
        let answer = server.send(method, path, &[], b"");
        assert!(answer.header("allow").is_some(), "{answer:?}");
        answer.refused(405, "method_not_allowed");
    }
    let pointer = server.get("/").expect(200).json();
    assert_eq!(
        (&pointer["ui"], &pointer["docs"], &pointer["name"]),
        (&"/ui".into(), &"/docs".into(), &"maeum".into())
    );
    server.get("/v1/audio/stream").refused(400, "no_websocket");
}

#[test]
fn the_model_is_named_with_its_terms_and_limits() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &MODEL);
    let models = server.get("/v1/models").expect(200).json();
    let model = &models["models"][0];
    assert_eq!(model["emotions"].as_array().unwrap().len(), 7);
    assert_eq!(model["sha256"].as_str().unwrap().len(), 64);
    assert!(model["card"].is_null());
    assert_eq!(model["limits"]["body_bytes"], 25 << 20);
    assert_eq!(model["limits"]["audio_seconds"], 600);
    #[cfg(feature = "default-model")]
    {
        let server = Server::start(place.0.path(), &[]);
        let models = server.get("/v1/models").expect(200).json();
        let model = &models["models"][0];
        assert!(
            model["card"]
                .as_str()
                .unwrap()
                .starts_with("# The default model")
        );
        assert_eq!(model["licences"].as_array().unwrap().len(), 2);
    }
    #[cfg(feature = "commercial-model")]
    {
        let server = Server::start(place.0.path(), &["--model", "commercial"]);
        let models = server.get("/v1/models").expect(200).json();
        let model = &models["models"][0];
        assert_eq!(model["name"], "maeum commercial 2");
        let card = model["card"].as_str().unwrap();
        assert!(card.starts_with("# The commercial model"));
        assert_eq!(model["licences"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn requests_are_counted_and_nothing_of_a_recording_is_logged() {
    let place = Place::new();
    std::fs::rename(place.path("c.wav"), place.path("private.wav")).unwrap();
    let arguments = [&MODEL[..], &["--files-root", "."]].concat();
    let server = Server::start(place.0.path(), &arguments);
    let sound = std::fs::read(place.path("private.wav")).unwrap();
    let (kind, body) = multipart(&[], Some(("private.wav", &sound)));
    let route = "/v1/audio/emotion";
    for _ in 0..3 {
        server.post(route, &kind, &body).expect(200);
    }
    server
        .post(route, "audio/wav", b"x")
        .refused(422, "unusable_audio");
    server
        .post("/private.wav?private", "audio/wav", b"x")
        .refused(404, "no_route");
    let form = "application/x-www-form-urlencoded";
    server
        .post("/", form, b"path_dir=./&wav_name=private.wav")
        .expect(200);
    server
        .post("/", form, b"path_dir=./private&wav_name=no.wav")
        .refused(404, "not_found");
    let count = |labels: &str| server.metric(&format!("maeum_requests_total{{{labels}}}"));
    assert_eq!(count("route=\"/v1/audio/emotion\",outcome=\"ok\""), 3.0);
    assert_eq!(
        count("route=\"/v1/audio/emotion\",outcome=\"unusable_audio\""),
        1.0
    );
    assert_eq!(count("route=\"other\",outcome=\"no_route\""), 1.0);
    assert_eq!(count("route=\"/\",outcome=\"ok\""), 1.0);
    assert_eq!(server.metric("maeum_audio_milliseconds_total"), 10_000.0);
    assert_eq!(
        server.metric("maeum_request_seconds_count{route=\"/v1/audio/emotion\"}"),
        4.0
    );
    assert_eq!(server.metric("maeum_queue_jobs"), 0.0);
    assert_eq!(server.metric("maeum_panics_total"), 0.0);
    let text = server.get("/metrics").expect(200).text();
    assert!(
        text.contains("maeum_request_seconds_bucket{route=\"/v1/audio/emotion\",le=\"+Inf\"} 4")
    );
    let log = server.log();
    assert!(
        log.contains("/v1/audio/emotion") && log.contains("422"),
        "{log}"
    );
    assert!(
        !log.contains("private") && !text.contains("private"),
        "{log}"
    );
    assert!(!log.contains(place.0.path().to_str().unwrap()), "{log}");
}

#[test]
fn the_probe_checks_readiness() {
    let place = Place::empty();
    std::fs::write(place.path("key"), "a-secret\n").unwrap();
    let arguments = [&MODEL[..], &["--key-file", "key"]].concat();
    let mut server = Server::start(place.0.path(), &arguments);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let probe = |host: &str| {
        let program = std::process::Command::new(env!("CARGO_BIN_EXE_serve"));
        let arguments = ["--probe", "--host", host, "--port", &port];
        let run = { program }.args(arguments).output().unwrap();
        let log = String::from_utf8(run.stderr).unwrap();
        (run.status.code(), log)
    };
    assert_eq!(probe("127.0.0.1"), (Some(0), String::new()));
    assert_eq!(probe("0.0.0.0"), (Some(0), String::new()));
    server.terminate();
    server.wait();
    let (code, log) = probe("127.0.0.1");
    assert_eq!(code, Some(1));
    assert!(log.contains("no answer from 127.0.0.1"), "{log}");
}
