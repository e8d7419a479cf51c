//! `GET /v1/audio/stream`: a recording as it is made. Results on the way are of the last seconds;
//! the last result is of everything and the same as for a file of the same samples.

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

use super::answer::{self, Answered};
use super::body::Lease;
use super::errors::{ApiError, ErrorBody, Outcome};
use super::listen::told_to_end;
use super::pool::Refusal;
use super::{Phase, Shared};
use crate::audio::Recording;
use crate::formats::Format;
use crate::nn::DropoutMode;
use crate::prediction::Prediction;
use crate::recognizer::Options;

pub mod messages;

use messages::{Setup, is_end};

/// Largest message, in bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Length of a window and distance of two, in seconds.
const WINDOW: u64 = 2;
/// A result on the way is of at most this much, so that its cost does not grow with the stream.
const INTERIM: u64 = 15;
/// Draws of a result on the way, at most.
const INTERIM_DRAWS: u32 = 32;
/// How often the last job is offered to a pool that is full, and how far apart.
const OFFERS: u32 = 100;
const OFFER_EVERY: Duration = Duration::from_millis(200);
/// A stream may stay open for this many times the longest recording.
const OPEN: u32 = 2;

/// Recognises a recording while it is made, over a WebSocket.
///
/// The client first sends a text message such as `{"sample_rate": 16000, "encoding": "s16le"}`, where
/// it may add `dropout`, `seed`, `name`, `profile` (what `/v1/speaker/profile` has made) and `interim`
/// (`false`: only the last result), then binary messages with 16-bit little-endian mono samples, of any
/// length, and `{"type": "end"}`. The server sends `{"type": "interim", "start", "end", "result"}` about
/// the last 15 s after every second from the second one on, where it has time, and last
/// `{"type": "final", "result"}` about everything, the same record as for a file; `result` is a record
/// as in the JSON answer. Instead of `result` there is `error` where nothing can be recognised;
/// `{"type": "error", "error"}` ends a stream that broke a rule.
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
    State(shared): State<Arc<Shared>>,
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
    let place = Arc::clone(&shared.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::busy(1))?;
    let mut response = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(async move |socket| {
            Stream::run(shared, socket).await;
            drop(place);
        });
    response.extensions_mut().insert(Outcome("stream"));
    Ok(response)
}

/// A result on the way that is being computed.
type Pending = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// An open stream.
struct Stream {
    shared: Arc<Shared>,
    socket: WebSocket,
    setup: Setup,
    samples: Vec<u8>,
    lease: Lease,
    /// Whole seconds for which a result on the way was given or left out.
    heard: u64,
    pending: Option<Pending>,
}

/// Why a stream ends.
enum End {
    /// The client is gone.
    Gone,
    /// The client has closed the stream.
    Closed,
    /// The client has sent everything.
    Complete,
    /// It is told why, with this code of RFC 6455.
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
    /// The client has sent what is no WebSocket message of a stream, or is gone.
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
    async fn run(shared: Arc<Shared>, mut socket: WebSocket) {
        let seconds = shared.settings.max_seconds.saturating_mul(OPEN);
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
            heard: WINDOW - 1,
            pending: None,
        };
        let end = match stream.listen(deadline).await {
            End::Complete => stream.complete().await,
            end => end,
        };
        let Self {
            mut socket,
            samples,
            lease,
            ..
        } = stream;
        // A client that is slow to take the end holds no memory.
        drop((samples, lease));
        finish(&mut socket, end).await;
    }

    /// Takes samples and gives results on the way until the client has sent everything.
    async fn listen(&mut self, deadline: Instant) -> End {
        let times = self.shared.settings.times;
        let mut draining = self.shared.draining();
        let mut pings = tokio::time::interval(times.ping);
        let mut idle = Instant::now() + times.stream_idle;
        loop {
            tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        // Nothing but samples keeps a stream open.
                        if !bytes.is_empty() {
                            idle = Instant::now() + times.stream_idle;
                        }
                        if let Err(error) = self.take(&bytes) {
                            return error.into();
                        }
                        self.begin_interim();
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
                () = told_to_end(&mut draining) => {
                    return End::Refused(close_code::AWAY, Refusal::Closed.into());
                }
            }
        }
    }

    /// Keeps samples.
    fn take(&mut self, bytes: &Bytes) -> Result<(), ApiError> {
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

    /// Begins a result on the way if another second is complete and a thread has nothing else to do.
    fn begin_interim(&mut self) {
        let frames = (self.samples.len() / 2) as u64;
        let rate = u64::from(self.setup.rate);
        let seconds = frames / rate;
        if !self.setup.interim || seconds <= self.heard || self.pending.is_some() {
            return;
        }
        self.heard = seconds;
        let start = seconds.saturating_sub(INTERIM);
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
            let of_job = name.clone();
            let job = move |worker: &mut crate::recognizer::Worker<'_>| {
                let recording = Recording::from_pcm16(&part, rate).map_err(|fault| {
                    let name = of_job.clone();
                    ApiError::from(crate::audio::DecodeError { name, fault })
                })?;
                let options = Options {
                    dropout: &dropout,
                    profile: profile.as_deref(),
                };
                answer::of_recording(worker, recording, &of_job, options)
            };
            let outcome = match shared.pool.run_if_idle(job).await {
                Ok(outcome) => outcome,
                // There will be another one in a second.
                Err(Refusal::Full { .. } | Refusal::Closed) => return None,
                Err(refusal @ Refusal::Panicked) => Err(refusal.into()),
            };
            let outcome = outcome.map(|mut answered| {
                shift(&mut answered.prediction, start as f64);
                answered
            });
            let head = format!("{{\"type\":\"interim\",\"start\":{start},\"end\":{seconds},");
            Some(head + &shared.member(&name, outcome.as_ref()) + "}")
        }));
    }

    /// The last result, of everything.
    async fn complete(&mut self) -> End {
        // Its result would come after the last one.
        self.pending = None;
        let samples: Bytes = std::mem::take(&mut self.samples).into();
        let mut offers = 0;
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
                answer::of_recording(worker, recording, &name, options)
            };
            match self.shared.pool.run(job).await {
                Ok(outcome) => break outcome,
                Err(Refusal::Full { .. }) if offers < OFFERS => {
                    offers += 1;
                    tokio::time::sleep(OFFER_EVERY).await;
                }
                Err(refusal) => return End::Refused(close_code::AGAIN, refusal.into()),
            }
        };
        if let Ok(answered) = &outcome {
            self.shared.metrics.heard(answered.seconds);
        }
        let member = self.shared.member(&self.setup.name, outcome.as_ref());
        match self.send(format!("{{\"type\":\"final\",{member}}}")).await {
            true => End::Complete,
            false => End::Gone,
        }
    }

    /// Returns whether the client is still there.
    async fn send(&mut self, text: String) -> bool {
        self.socket.send(Message::Text(text.into())).await.is_ok()
    }
}

impl Shared {
    /// `"result": ` with a record, or `"error": ` with why there is none.
    fn member(&self, name: &str, outcome: Result<&Answered, &ApiError>) -> String {
        let record = outcome.map_err(ApiError::clone).and_then(|answered| {
            let mut reporter = self.reporter(Format::Jsonl)?;
            Ok(reporter.recording(name, Ok(&answered.prediction)))
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

/// Waits for the first message and reads it.
async fn configure(shared: &Shared, socket: &mut WebSocket) -> Result<Setup, End> {
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
        () = told_to_end(&mut draining) => {
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

/// Says why the stream ends and closes it. A client that is gone does not hear it.
async fn finish(socket: &mut WebSocket, end: End) {
    let code = match end {
        End::Gone => return,
        // Reading on sends the answer to the client's close.
        End::Closed => return last(socket).await,
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
    // The other side's answer to it, so that nothing that was sent is lost.
    last(socket).await;
}

/// Reads up to the end of the connection, but not for long.
async fn last(socket: &mut WebSocket) {
    let end = async { while let Some(Ok(_)) = socket.recv().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), end).await;
}

/// From the time of a part that begins at `start` to that of the whole, in seconds.
fn shift(prediction: &mut Prediction, start: f64) {
    let spans = prediction.voice.speech.iter_mut();
    for span in spans
        .chain([&mut prediction.voice.analysed])
        .chain(prediction.windows.iter_mut().map(|w| &mut w.time))
        .chain(prediction.segments.iter_mut().map(|s| &mut s.time))
    {
        *span = span.start + start..span.end + start;
    }
}
