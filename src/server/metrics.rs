//! What is counted about requests, and the one line that is logged about each. Neither holds
//! anything of a recording but its duration.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::Shared;
use super::errors::{ApiError, Outcome};

/// Upper bounds of the latency histogram, in seconds.
const LATENCIES: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// How often what the histograms have gathered is put into their bounds.
const UPKEEP: Duration = Duration::from_secs(5);

const REQUESTS: &str = "maeum_requests_total";
const LATENCY: &str = "maeum_request_seconds";
const AUDIO: &str = "maeum_audio_milliseconds_total";
const QUEUED: &str = "maeum_queue_jobs";
const RUNNING: &str = "maeum_running_jobs";
const PANICS: &str = "maeum_panics_total";
const HELD: &str = "maeum_held_bytes";
const STREAMS: &str = "maeum_open_streams";

/// Seconds of audio that an answer is about, for the metrics.
#[derive(Debug, Clone, Copy)]
pub struct Heard(pub f64);

/// Everything that is counted, of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// # Errors
    /// When the bounds are refused.
    pub fn new() -> Result<Self, String> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(LATENCY.into()), &LATENCIES)
            .map_err(|e| e.to_string())?
            .build_recorder();
        let handle = recorder.handle();
        let metrics = Self { recorder, handle };
        metrics.record(|| {
            describe_counter!(REQUESTS, "Requests by route and outcome");
            describe_histogram!(
                LATENCY,
                "Seconds from a request's head to its answer's head"
            );
            describe_counter!(AUDIO, "Milliseconds of audio that were recognised");
            describe_gauge!(QUEUED, "Jobs that wait for a thread");
            describe_gauge!(RUNNING, "Jobs that run");
            describe_counter!(PANICS, "Jobs that panicked");
            describe_gauge!(HELD, "Bytes of bodies and streams that are held");
            describe_gauge!(STREAMS, "Streams that are open");
            counter!(PANICS).increment(0);
            counter!(AUDIO).increment(0);
        });
        Ok(metrics)
    }

    fn record<T>(&self, f: impl FnOnce() -> T) -> T {
        ::metrics::with_local_recorder(&self.recorder, f)
    }

    /// Counts recognised audio, in seconds. A counter holds whole numbers, hence milliseconds.
    pub fn heard(&self, seconds: f64) {
        let milliseconds = (seconds * 1e3).round() as u64;
        self.record(|| counter!(AUDIO).increment(milliseconds));
    }

    fn request(&self, route: &str, outcome: &'static str, seconds: f64) {
        let route = route.to_owned();
        self.record(|| {
            counter!(REQUESTS, "route" => route.clone(), "outcome" => outcome).increment(1);
            histogram!(LATENCY, "route" => route).record(seconds);
        });
    }

    /// Everything, in Prometheus' text format.
    pub fn render(&self, shared: &Shared) -> String {
        let load = shared.pool.load();
        let streams = shared.settings.max_streams - shared.streams.available_permits();
        self.record(|| {
            gauge!(QUEUED).set(load.queued as f64);
            gauge!(RUNNING).set(load.running as f64);
            let held = shared.budget.used() + shared.streamed.used();
            gauge!(HELD).set(held as f64);
            gauge!(STREAMS).set(streams as f64);
            counter!(PANICS).absolute(load.panics);
        });
        self.handle.render()
    }

    /// Keeps the histograms small for as long as the server lives.
    pub async fn keep_up(shared: Arc<Shared>) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            shared.metrics.handle.run_upkeep();
        }
    }
}

/// The answer to a request whose handler panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> axum::http::Response<axum::body::Body> {
    ApiError::internal().into_response()
}

/// Counts a request even if the client goes away before the answer.
struct Observed {
    shared: Arc<Shared>,
    method: Method,
    route: String,
    start: Instant,
    answered: Option<(StatusCode, &'static str, Option<f64>)>,
}

impl Drop for Observed {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let (status, outcome, heard) = match self.answered {
            Some((status, outcome, heard)) => (status.as_u16(), outcome, heard),
            None => (0, "client_gone", None),
        };
        self.shared.metrics.request(&self.route, outcome, seconds);
        if let Some(heard) = heard {
            self.shared.metrics.heard(heard);
        }
        tracing::info!(
            method = %self.method,
            route = %self.route,
            status,
            outcome,
            ms = (seconds * 1e4).round() / 10.0,
            audio_s = heard.unwrap_or(0.0),
        );
    }
}

/// Counts and logs every request. The route is the pattern, never the path that was asked for.
pub async fn observe(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let mut observed = Observed {
        method: known(request.method()),
        route: route.map_or_else(|| "other".to_owned(), |r| r.as_str().to_owned()),
        shared,
        start: Instant::now(),
        answered: None,
    };
    let response = next.run(request).await;
    let outcome = match response.extensions().get::<Outcome>() {
        Some(outcome) => outcome.0,
        None if response.status().is_client_error() => "client_error",
        None if response.status().is_server_error() => "server_error",
        None => "ok",
    };
    let heard = response.extensions().get::<Heard>().map(|h| h.0);
    observed.answered = Some((response.status(), outcome, heard));
    response
}

/// A method of the client's own making could be anything.
fn known(method: &Method) -> Method {
    match *method {
        Method::GET
        | Method::POST
        | Method::HEAD
        | Method::OPTIONS
        | Method::PUT
        | Method::DELETE
        | Method::PATCH => method.clone(),
        _ => Method::TRACE,
    }
}
