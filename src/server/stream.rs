//! `GET /v1/audio/stream`: recognition of a recording while it is made.
//!
//! Interim results cover the last seconds. The final result covers everything and equals that of a
//! file with the same samples.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::{
    CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code, rejection,
};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::Instant;
use tungstenite::Error as Fault;
use tungstenite::error::ProtocolError;

use super::body::Lease;
use super::errors::{ApiError, ErrorBody, Outcome};
use super::listen::draining_started;
use super::pool::Refusal;
use super::recognise::{Recognised, recognise_recording};
use super::{Phase, ServerState};
use crate::audio::Recording;
use crate::formats::Format;
use crate::nn::DropoutMode;
use crate::recognizer::Options;

pub mod messages;

use messages::{Setup, is_end};

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Length of a window, in seconds.
const WINDOW: u64 = 2;
/// Maximum length of audio in an interim result, in seconds. It bounds the cost per result in a
/// long stream.
const INTERIM_SECONDS: u64 = 15;
/// Maximum number of draws in an interim result.
const INTERIM_DRAWS: u32 = 32;
/// Maximum number of retries of the final job on a full pool, and the delay between them.
const MAX_RETRIES: u32 = 100;
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// Maximum lifetime of a stream, as a multiple of the maximum duration of a recording.
const LIFETIME_FACTOR: u32 = 2;

/// Recognises a recording while it is made, over a WebSocket.
///
/// The client first sends a text message such as `{"sample_rate": 16000, "encoding": "s16le"}`. It
/// may add `dropout`, `seed`, `name`, `profile` (from `/v1/speaker/profile`) and `interim`
/// (`false`: only the final result). Binary messages of any length with 16-bit little-endian mono
/// samples follow, then `{"type": "end"}`. The server sends `{"type": "interim", "start", "end",
/// "result"}` about the last 15 s after each second from the second one on, if a thread is idle,
/// and finally `{"type": "final", "result"}` about everything. `result` is a record of the JSON
/// document and equals that of a file. An `error` replaces `result` if nothing can be recognised;
/// `{"type": "error", "error"}` ends a stream that violates the protocol.
#[utoipa::path(
    get,
    path = "/v1/audio/stream",
    tag = "recognition",
    security((), ("key" = [])),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 400, description = "The request does not open a WebSocket", body = ErrorBody),
        (status = 401, description = "The key is missing", body = ErrorBody),
        (status = 403, description = "From a page of another site", body = ErrorBody),
        (status = 426, description = "The request does not open a WebSocket", body = ErrorBody),
        (status = 429, description = "Too many streams", body = ErrorBody),
        (status = 503, description = "Not ready", body = ErrorBody),
    )
)]
pub async fn open(
    State(shared): State<Arc<ServerState>>,
    upgrade: Result<WebSocketUpgrade, rejection::WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    shared.check_ready()?;
    let upgrade = upgrade.map_err(|e| {
        let status = match e.status() {
            StatusCode::UPGRADE_REQUIRED => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        };
        let message = format!("this route is a WebSocket: {}", e.body_text());
        ApiError::new(status, "no_websocket", message)
    })?;
    if shared.phase() == Phase::Draining {
        return Err(Refusal::Closed.into());
    }
    let permit = Arc::clone(&shared.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::busy(1))?;
    let mut response = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(async move |socket| {
            Stream::run(shared, socket).await;
            drop(permit);
        });
    response.extensions_mut().insert(Outcome("stream"));
    Ok(response)
}

/// Future of an interim result.
type Pending = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Open stream.
struct Stream {
    shared: Arc<ServerState>,
    socket: WebSocket,
    setup: Setup,
    samples: Vec<u8>,
    lease: Lease,
    /// Number of whole seconds that an interim result was started or skipped for.
    reported: u64,
    pending: Option<Pending>,
}

/// Reason for the end of a stream.
enum End {
    /// The client has disconnected.
    Gone,
    /// The client has closed the stream.
    Closed,
    /// The client has sent all samples.
    Complete,
    /// The server refuses the stream, with a close code of RFC 6455.
    Refused(u16, ApiError),
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> Self {
        let code = match error.status {
            StatusCode::TOO_MANY_REQUESTS => close_code::AGAIN,
            _ => close_code::POLICY,
        };
        Self::Refused(code, error)
    }
}

impl From<axum::Error> for End {
    /// Converts a WebSocket error: the client has violated the protocol or disconnected.
    fn from(error: axum::Error) -> Self {
        let Ok(fault) = error.into_inner().downcast::<Fault>() else {
            return Self::Gone;
        };
        let (code, message) = match *fault {
            Fault::Capacity(_) => {
                let message = format!(
                    "a message is larger than {MAX_MESSAGE} bytes; send the samples in smaller ones"
                );
                let error = ApiError::too_large("too_large", message);
                return Self::Refused(close_code::SIZE, error);
            }
            Fault::Utf8(_) => (
                close_code::INVALID,
                "a text message is no UTF-8; send samples in binary messages".to_owned(),
            ),
            Fault::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::SendAfterClosing
                | ProtocolError::ReceivedAfterClosing,
            ) => return Self::Gone,
            Fault::Protocol(fault) => (
                close_code::PROTOCOL,
                format!("what came is no WebSocket frame: {fault}"),
            ),
            _ => return Self::Gone,
        };
        Self::Refused(code, ApiError::bad_request(message))
    }
}

impl Stream {
    async fn run(shared: Arc<ServerState>, mut socket: WebSocket) {
        let seconds = shared.settings.max_seconds.saturating_mul(LIFETIME_FACTOR);
        let deadline = Instant::now() + Duration::from_secs(seconds.into());
        let setup = match configure(&shared, &mut socket).await {
            Ok(setup) => setup,
            Err(end) => return finish(&mut socket, end).await,
        };
        let mut stream = Self {
            lease: shared.streamed.lease(),
            shared,
            socket,
            setup,
            samples: Vec::new(),
            reported: WINDOW - 1,
            pending: None,
        };
        let end = match stream.receive(deadline).await {
            End::Complete => stream.complete().await,
            end => end,
        };
        let Self {
            mut socket,
            samples,
            lease,
            ..
        } = stream;
        // The memory is released before a slow client takes the last messages.
        drop((samples, lease));
        finish(&mut socket, end).await;
    }

    /// Receives samples and sends interim results until the client has sent all samples.
    async fn receive(&mut self, deadline: Instant) -> End {
        let times = self.shared.settings.times;
        let mut draining = self.shared.draining();
        let mut pings = tokio::time::interval(times.ping);
        let mut idle = Instant::now() + times.stream_idle;
        loop {
            tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        // Only samples count as activity of a stream.
                        if !bytes.is_empty() {
                            idle = Instant::now() + times.stream_idle;
                        }
                        if let Err(error) = self.append(&bytes) {
                            return error.into();
                        }
                        self.start_interim();
                    }
                    Some(Ok(Message::Text(text))) => {
                        return match is_end(&text) {
                            true => End::Complete,
                            false => ApiError::bad_request(
                                "after the first message, send binary ones or {\"type\": \"end\"}",
                            ).into(),
                        };
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) => return End::Closed,
                    Some(Err(error)) => return error.into(),
                    None => return End::Gone,
                },
                text = wait(&mut self.pending) => {
                    self.pending = None;
                    if let Some(text) = text && !self.send(text).await {
                        return End::Gone;
                    }
                },
                _ = pings.tick() => {
                    if self.socket.send(Message::Ping(Bytes::new())).await.is_err() {
                        return End::Gone;
                    }
                }
                () = tokio::time::sleep_until(idle) => return idle_for(times.stream_idle),
                () = tokio::time::sleep_until(deadline) => {
                    let message = "the stream has been open for too long; start another";
                    return ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into();
                }
                () = draining_started(&mut draining) => {
                    return End::Refused(close_code::AWAY, Refusal::Closed.into());
                }
            }
        }
    }

    /// Appends samples.
    fn append(&mut self, bytes: &Bytes) -> Result<(), ApiError> {
        let settings = &self.shared.settings;
        let frames = settings.limit().frames(self.setup.rate);
        if (self.samples.len() + bytes.len()) / 2 > frames {
            let message = format!(
                "the stream is longer than {frames} samples; start another for what follows"
            );
            return Err(ApiError::too_large("too_long", message));
        }
        self.lease.extend(bytes.len())?;
        self.samples.extend_from_slice(bytes);
        Ok(())
    }

    /// Starts an interim result if another second is complete and a thread is idle.
    fn start_interim(&mut self) {
        let frames = (self.samples.len() / 2) as u64;
        let rate = u64::from(self.setup.rate);
        let seconds = frames / rate;
        if !self.setup.interim || seconds <= self.reported || self.pending.is_some() {
            return;
        }
        self.reported = seconds;
        let start = seconds.saturating_sub(INTERIM_SECONDS);
        let part = (start * rate * 2) as usize..(seconds * rate * 2) as usize;
        let part: Vec<u8> = self.samples[part].to_vec();
        let dropout = match &self.setup.dropout {
            DropoutMode::Draws { n, seed } => DropoutMode::draws(n.get().min(INTERIM_DRAWS), *seed),
            other => other.clone(),
        };
        let profile = self.setup.profile.clone();
        let (shared, name, rate) = (
            Arc::clone(&self.shared),
            self.setup.name.clone(),
            self.setup.rate,
        );
        self.pending = Some(Box::pin(async move {
            let job_name = name.clone();
            let job = move |worker: &mut crate::recognizer::Worker<'_>| {
                let recording = Recording::from_pcm16(&part, rate).map_err(|fault| {
                    let name = job_name.clone();
                    ApiError::from(crate::audio::DecodeError { name, fault })
                })?;
                let options = Options {
                    dropout: &dropout,
                    profile: profile.as_deref(),
                };
                recognise_recording(worker, recording, &job_name, options)
            };
            let outcome = match shared.pool.run_if_idle(job).await {
                Ok(outcome) => outcome,
                // The next second has another interim result.
                Err(Refusal::Full { .. } | Refusal::Closed) => return None,
                Err(refusal @ Refusal::Panicked) => Err(refusal.into()),
            };
            let outcome = outcome.map(|mut recognised| {
                recognised.prediction.shift(start as f64);
                recognised
            });
            let head = format!("{{\"type\":\"interim\",\"start\":{start},\"end\":{seconds},");
            Some(head + &shared.member(&name, outcome.as_ref()) + "}")
        }));
    }

    /// Computes and sends the final result.
    async fn complete(&mut self) -> End {
        // An interim result after the final one would violate the protocol.
        self.pending = None;
        let samples: Bytes = std::mem::take(&mut self.samples).into();
        let mut retries = 0;
        let outcome = loop {
            let (samples, rate) = (samples.clone(), self.setup.rate);
            let (name, dropout) = (self.setup.name.clone(), self.setup.dropout.clone());
            let profile = self.setup.profile.clone();
            let job = move |worker: &mut crate::recognizer::Worker<'_>| {
                let recording = Recording::from_pcm16(&samples, rate).map_err(|fault| {
                    let name = name.clone();
                    ApiError::from(crate::audio::DecodeError { name, fault })
                })?;
                drop(samples);
                let options = Options {
                    dropout: &dropout,
                    profile: profile.as_deref(),
                };
                recognise_recording(worker, recording, &name, options)
            };
            match self.shared.pool.run(job).await {
                Ok(outcome) => break outcome,
                Err(Refusal::Full { .. }) if retries < MAX_RETRIES => {
                    retries += 1;
                    tokio::time::sleep(RETRY_DELAY).await;
                }
                Err(refusal) => return End::Refused(close_code::AGAIN, refusal.into()),
            }
        };
        if let Ok(recognised) = &outcome {
            self.shared.metrics.count_audio(recognised.seconds);
        }
        let member = self.shared.member(&self.setup.name, outcome.as_ref());
        match self.send(format!("{{\"type\":\"final\",{member}}}")).await {
            true => End::Complete,
            false => End::Gone,
        }
    }

    /// Sends a text message. Returns true if the client is still connected.
    async fn send(&mut self, text: String) -> bool {
        self.socket.send(Message::Text(text.into())).await.is_ok()
    }
}

impl ServerState {
    /// Returns the JSON member `"result"` with a record, or `"error"` with the error.
    fn member(&self, name: &str, outcome: Result<&Recognised, &ApiError>) -> String {
        let record = outcome.map_err(ApiError::clone).and_then(|recognised| {
            let mut reporter = self.reporter(Format::Jsonl)?;
            Ok(reporter.recording(name, Ok(&recognised.prediction)))
        });
        match record {
            Ok(line) => format!("\"result\":{}", line.trim_end()),
            Err(error) => format!("\"error\":{}", detail(&error)),
        }
    }
}

fn detail(error: &ApiError) -> String {
    serde_json::to_string(&error.body().error).expect("all keys are strings")
}

/// Receives and parses the first message.
async fn configure(shared: &ServerState, socket: &mut WebSocket) -> Result<Setup, End> {
    let idle = shared.settings.times.stream_idle;
    let mut draining = shared.draining();
    let first = async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Binary(_))) => return Err(Setup::missing().into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) => return Err(End::Closed),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(End::Gone),
            }
        }
    };
    let text: Utf8Bytes = tokio::select! {
        text = tokio::time::timeout(idle, first) => text.map_err(|_| idle_for(idle))??,
        () = draining_started(&mut draining) => {
            return Err(End::Refused(close_code::AWAY, Refusal::Closed.into()));
        }
    };
    let dropout = &shared.settings.dropout;
    Ok(Setup::read(&text, dropout, &shared.recognizer)?)
}

async fn wait(pending: &mut Option<Pending>) -> Option<String> {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}

fn idle_for(idle: Duration) -> End {
    let message = format!(
        "nothing came for {} s; start another stream",
        idle.as_secs()
    );
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into()
}

/// Sends the reason for the end and closes the stream. Send errors are ignored, because the client
/// may be gone.
async fn finish(socket: &mut WebSocket, end: End) {
    let code = match end {
        End::Gone => return,
        // Reading sends the reply to the client's close frame.
        End::Closed => return drain_socket(socket).await,
        End::Complete => close_code::NORMAL,
        End::Refused(code, error) => {
            let text = format!("{{\"type\":\"error\",\"error\":{}}}", detail(&error));
            let _ = socket.send(Message::Text(text.into())).await;
            code
        }
    };
    let reason = "".into();
    let _ = socket
        .send(Message::Close(Some(CloseFrame { code, reason })))
        .await;
    // Closing before the client's close frame arrives could lose sent data.
    drain_socket(socket).await;
}

/// Reads up to the end of the connection, for at most 1 s.
async fn drain_socket(socket: &mut WebSocket) {
    let end = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), end).await;
}
