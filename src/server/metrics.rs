//! Metrics and the request log. The only content of a recording in them is its duration.

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

use super::ServerState;
use super::errors::{ApiError, Outcome};

/// Upper bounds of the latency histogram, in seconds.
const LATENCIES: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Interval at which the histograms' samples are aggregated.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

const REQUESTS: &str = "maeum_requests_total";
const LATENCY: &str = "maeum_request_seconds";
const AUDIO: &str = "maeum_audio_milliseconds_total";
const QUEUED: &str = "maeum_queue_jobs";
const RUNNING: &str = "maeum_running_jobs";
const PANICS: &str = "maeum_panics_total";
const HELD: &str = "maeum_held_bytes";
const STREAMS: &str = "maeum_open_streams";

/// Response extension: duration of the recognised audio in seconds.
#[derive(Debug, Clone, Copy)]
pub struct AudioSeconds(pub f64);

/// Metrics of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Creates the metrics with the counters at 0.
    ///
    /// # Errors
    /// When the histogram bounds are invalid.
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

    /// Counts recognised audio, in seconds. Counters are integers, hence milliseconds.
    pub fn count_audio(&self, seconds: f64) {
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

    /// Returns all metrics in Prometheus' text format.
    pub fn render(&self, shared: &ServerState) -> String {
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

    /// Aggregates the histograms' samples for ever, to bound their memory.
    pub async fn run_upkeep(shared: Arc<ServerState>) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            shared.metrics.handle.run_upkeep();
        }
    }
}

/// Response to a request whose handler panicked.
pub fn panicked(_: Box<dyn Any + Send>) -> axum::http::Response<axum::body::Body> {
    ApiError::internal().into_response()
}

/// Request in progress; counted on drop, even if the client disconnects before the response.
struct RequestRecord {
    shared: Arc<ServerState>,
    method: Method,
    route: String,
    start: Instant,
    response: Option<(StatusCode, &'static str, Option<f64>)>,
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        let (status, outcome, seconds_of_audio) = match self.response {
            Some((status, outcome, seconds_of_audio)) => {
                (status.as_u16(), outcome, seconds_of_audio)
            }
            None => (0, "client_gone", None),
        };
        self.shared.metrics.request(&self.route, outcome, seconds);
        if let Some(seconds_of_audio) = seconds_of_audio {
            self.shared.metrics.count_audio(seconds_of_audio);
        }
        tracing::info!(
            method = %self.method,
            route = %self.route,
            status,
            outcome,
            ms = (seconds * 1e4).round() / 10.0,
            audio_s = seconds_of_audio.unwrap_or(0.0),
        );
    }
}

/// Counts and logs every request, by the route's pattern instead of the actual path.
pub async fn observe(
    State(shared): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let mut record = RequestRecord {
        method: standard_method(request.method()),
        route: route.map_or_else(|| "other".to_owned(), |r| r.as_str().to_owned()),
        shared,
        start: Instant::now(),
        response: None,
    };
    let response = next.run(request).await;
    let outcome = match response.extensions().get::<Outcome>() {
        Some(outcome) => outcome.0,
        None if response.status().is_client_error() => "client_error",
        None if response.status().is_server_error() => "server_error",
        None => "ok",
    };
    let seconds_of_audio = response.extensions().get::<AudioSeconds>().map(|h| h.0);
    record.response = Some((response.status(), outcome, seconds_of_audio));
    response
}

/// Replaces non-standard methods, whose number clients could increase without bound.
fn standard_method(method: &Method) -> Method {
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
