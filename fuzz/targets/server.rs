//! Requests to the server.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use maeum::Recognizer;
use maeum::audio::decode::{MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};
use maeum::model::ModelInfo;
use maeum::nn::DropoutMode;
use maeum::server::body::{self, Field};
use maeum::server::errors::ApiError;
use maeum::server::settings::MAX_FIELDS;
use maeum::server::stream::messages::{Setup, is_end};
use maeum::server::{ServerState, Settings, router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::recogniser::{DEFAULT, model};
use super::seeds;

fn assert_refusal(error: &ApiError) {
    assert_eq!(error.status.as_u16() / 100, 4, "{error:?}");
    assert!(!error.message.is_empty() && !error.code.is_empty());
}

/// Text messages of a stream: the first one, and those after it.
pub fn stream(input: &[u8]) {
    LazyLock::force(&DEFAULT);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match Setup::read(text, &DropoutMode::draws(32, 0), &DEFAULT) {
        Ok(setup) => {
            assert!((MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&setup.rate));
            assert!(setup.name.chars().count() <= 255);
            assert!(!is_end(text), "both the first and the last message: {text}");
        }
        Err(error) => {
            assert_refusal(&error);
            let _ = is_end(text);
        }
    }
}

/// Parses a form. The first line of the input is the content type, the remaining bytes are the body.
pub fn multipart(input: &[u8]) {
    let end = input
        .iter()
        .position(|&b| b == b'\n')
        .unwrap_or(input.len());
    let (kind, rest) = input.split_at(end);
    let Ok(kind) = HeaderValue::from_bytes(kind) else {
        return;
    };
    let bytes = Bytes::copy_from_slice(rest.get(1..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, kind);
    match at_once(body::multipart(&headers, &bytes)) {
        Ok(fields) => assert_read_again(&fields, bytes.len()),
        Err(error) => assert_refusal(&error),
    }
    match at_once(body::form(&headers, &bytes)) {
        Ok(fields) => assert!(fields.len() <= bytes.len() + 1),
        Err(error) => assert_refusal(&error),
    }
}

/// Checks that a body written from the fields parses to the same fields.
fn assert_read_again(fields: &[Field], length: usize) {
    assert!(fields.len() <= MAX_FIELDS, "{fields:?}");
    assert!(fields.iter().map(|f| f.bytes.len()).sum::<usize>() <= length);
    let mut boundary = "boundary".to_owned();
    while fields.iter().any(|f| holds(&f.bytes, boundary.as_bytes())) {
        boundary.push('x');
    }
    let mut body = Vec::new();
    for field in fields {
        let escaped = field.name.replace('\\', "\\\\").replace('"', "\\\"");
        body.extend(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{escaped}\"").bytes(),
        );
        if let Some(name) = &field.file_name {
            let percent: String = name.bytes().map(|b| format!("%{b:02X}")).collect();
            body.extend(format!("; filename*=utf-8''{percent}").bytes());
        }
        body.extend(b"\r\n\r\n");
        body.extend(&field.bytes[..]);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    let mut headers = HeaderMap::new();
    let kind = format!("multipart/form-data; boundary={boundary}");
    headers.insert(CONTENT_TYPE, kind.parse().expect("ASCII"));
    let again = at_once(body::multipart(&headers, &body.into()));
    let again = again.unwrap_or_else(|e| panic!("{e:?}: {fields:?}"));
    let parts = |f: &Field| (f.name.clone(), f.file_name.clone(), f.bytes.clone());
    let all = |fields: &[Field]| fields.iter().map(parts).collect::<Vec<_>>();
    assert_eq!(all(&again), all(fields));
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Returns the result of a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1 << 20 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("it waits for something");
}

/// A server that may read the recordings of the tests.
static SERVER: LazyLock<Arc<ServerState>> = LazyLock::new(|| {
    let model = model::speech_model(ModelInfo::legacy2020());
    let settings = Settings {
        workers: 1,
        queue: 8,
        max_body: 1 << 20,
        max_seconds: 2,
        max_streams: 4,
        dropout: DropoutMode::draws(2, 0),
        files_root: Some(seeds::repository().join("tests/data/formats")),
        allow_origins: vec!["https://example.org".into()],
        ..Settings::default()
    };
    let recognizer = Arc::new(Recognizer::new(model).unwrap());
    let shared = ServerState::new(recognizer, settings).unwrap();
    shared.self_test().unwrap();
    shared
});

static ROUTER: LazyLock<Router> = LazyLock::new(|| router(&SERVER));

/// Everything that a client sends over one connection before it ends its side.
pub fn http(input: &[u8]) {
    LazyLock::force(&ROUTER);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        let service = TowerToHyperService::new(ROUTER.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(true)
            .max_header_size(32 << 10)
            .serve_connection(TokioIo::new(server), service)
            .with_upgrades();
        let (mut from, mut to) = tokio::io::split(client);
        let send = async {
            // A server that refuses may close before it has read everything.
            let _ = to.write_all(input).await;
            let _ = to.shutdown().await;
        };
        let receive = async {
            let mut answer = Vec::new();
            let _ = from.read_to_end(&mut answer).await;
            answer
        };
        let (_, (), answer) = tokio::join!(connection, send, receive);
        answer
    });
    if answer.is_empty() {
        return;
    }
    assert!(answer.starts_with(b"HTTP/1."), "{answer:?}");
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse::<u16>();
    let status = status.unwrap();
    assert!(
        (100..=599).contains(&status) && status != 500,
        "{status}: {input:?}"
    );
}
