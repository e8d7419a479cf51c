//! The page at `/ui`, as served and in a browser. It is a program of its own: beside the tests that load a
//! server, a browser waits longer than its test allows.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;

#[path = "common/mod.rs"]
mod common;
#[path = "common/python.rs"]
mod environment;
#[path = "common/infer.rs"]
mod infer;
#[path = "common/model.rs"]
mod model;
#[path = "server/support.rs"]
#[allow(dead_code)] // each test binary uses its own part
mod support;

use environment::{environment, skip, source, succeeds};
use infer::Place;
use support::Server;

/// Server options that `tests/page/browse.py` requires.
const ARGUMENTS: [&str; 6] = [
    "--model",
    "model.safetensors",
    "--max-body",
    "1",
    "--max-seconds",
    "60",
];

/// Returns a Python with Selenium if Chromium is available; otherwise `None` with a message, or in
/// CI a panic.
fn python() -> Option<PathBuf> {
    let has_browser = ["/usr/bin/chromium", "/usr/bin/chromedriver"]
        .iter()
        .all(|program| succeeds(Command::new(program).arg("--version")));
    let python = || environment("page-venv", "tests/page/requirements.txt", "selenium");
    let python = has_browser.then(python).flatten();
    if python.is_none() {
        skip("there is no Python with Selenium, or no Debian chromium and chromium-driver for it");
    }
    python
}

#[test]
fn a_person_can_use_it() {
    let Some(python) = python() else { return };
    let place = Place::empty();
    let server = Server::start(place.0.path(), &ARGUMENTS);
    let output = Command::new(python)
        .arg(source("tests/page/browse.py"))
        .arg(format!("http://{}", server.address))
        .arg(source("tests/data/voice.wav"))
        .arg(place.0.path())
        .env("NO_PROXY", "*")
        .env("SE_OFFLINE", "true")
        .env("SE_AVOID_STATS", "true")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{printed}\n{errors}\n{}",
        server.log()
    );
    assert!(
        printed.ends_with("ok nothing_left_the_server\n"),
        "{printed}"
    );
}

#[test]
fn it_is_sent_complete_and_closed_to_the_outside() {
    let place = Place::empty();
    let server = Server::start(place.0.path(), &ARGUMENTS);
    let page = server.get("/ui").expect(200).text();
    let mut open = vec!["/ui".to_owned()];
    let mut seen = 0;
    // Collects the files that the page names, its scripts import or load by name.
    while let Some(path) = open.get(seen).cloned() {
        seen += 1;
        let answer = server.get(&path).expect(200);
        let header = |name| {
            answer
                .header(name)
                .unwrap_or_else(|| panic!("{path}: no {name}"))
        };
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self';"),
            "{path}: {policy}"
        );
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{path}: {policy}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-cache");
        let kind = header("content-type").to_owned();
        let wanted = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(kind, wanted, "{path}");
        let tag = header("etag");
        let mut stream = server.connect();
        let again = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nIf-None-Match: {tag}\r\nConnection: close\r\n\r\n",
            server.address
        );
        stream.write_all(again.as_bytes()).unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).unwrap();
        assert!(head.starts_with("HTTP/1.1 304 "), "{path}: {head}");
        assert!(head.ends_with("\r\n\r\n"), "{path}: {head}");
        let text = answer.text();
        let relative = text
            .split(['"', '\''])
            .filter_map(|part| match path.as_str() {
                "/ui" => part.strip_prefix("ui/"),
                _ => part
                    .strip_prefix("./")
                    .or_else(|| (part == "worklet.js").then_some(part)),
            });
        for name in relative {
            let path = format!("/ui/{name}");
            if !open.contains(&path) {
                open.push(path);
            }
        }
    }
    assert_eq!(open.len(), 12, "{open:?}");
    assert!(
        page.starts_with("<!doctype html>\n<html lang=\"en\">"),
        "{page}"
    );
    let slash = server.get("/ui/").expect(308);
    assert_eq!(slash.header("location"), Some("../ui"));
    server.get("/ui/no.js").refused(404, "no_route");
}
