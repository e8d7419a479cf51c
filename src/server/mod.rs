//! The HTTP server: the interface of the system of 2020 unchanged, a modern one, streaming.
//!
//! A request is checked by [`guard`], read completely by [`body`], recognised on a thread of the
//! [`pool`] by [`answer`] and counted by [`metrics`]. [`listen`] keeps the connections. `docs/server.md`
//! describes all of it from outside.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Recognizer;
use crate::formats::codes::Codes;
use crate::formats::{Format, ReportError, Reporter};

pub mod answer;
pub mod audio;
pub mod body;
pub mod compatible;
mod connection;
mod disposition;
pub mod docs;
pub mod errors;
pub mod files;
pub mod guard;
pub mod health;
pub mod listen;
pub mod metrics;
pub mod models;
pub mod page;
pub mod pool;
pub mod schema;
pub mod settings;
pub mod speaker;
pub mod stream;

pub use settings::Settings;

use errors::ApiError;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder that was named cannot be opened.
    #[error("{option} {folder}: {source}; name a folder that exists", folder = folder.display())]
    Folder {
        /// The option that names it.
        option: &'static str,
        /// Its path.
        folder: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The model's answers cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The compatible route cannot be served with this model.
    #[error("--files-root opens the compatible route, but {0}; start without --files-root")]
    Compatible(ReportError),
    /// A folder to write to without one to read from.
    #[error("--write-root serves the compatible route only; give --files-root with it")]
    OnlyWriteRoot,
    /// An origin or host that no request can have.
    #[error("{0}")]
    Name(String),
    /// Open to others than this machine, and to every page that their browsers show.
    #[error(
        "a server that can be reached from outside needs a key, or the names of the hosts that requests may be for; without them any web page could use it through a visitor's browser"
    )]
    Unguarded,
    /// The operating system gives no more threads.
    #[error("cannot start {threads} threads: {source}; ask for fewer")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// What the operating system says.
        source: io::Error,
    },
    /// The metrics cannot be set up.
    #[error("cannot set up the metrics: {0}")]
    Metrics(String),
}

/// Whether the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The self-test runs.
    Starting,
    /// It has passed.
    Ready,
    /// It has failed: nothing is recognised.
    Failed,
    /// What runs is finished, nothing new is begun.
    Draining,
}

/// Everything that the handlers share.
pub struct Shared {
    /// How the server behaves.
    pub settings: Settings,
    /// The model.
    pub recognizer: Arc<Recognizer>,
    /// The threads that run it.
    pub pool: pool::Pool,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// Bytes that requests hold.
    pub budget: body::Budget,
    /// Bytes that streams hold: apart, so that they take nothing from requests.
    pub streamed: body::Budget,
    /// What the compatible route needs, if it is open.
    compatible: Option<compatible::Open>,
    /// Of every format that fits the model.
    reporters: Vec<(Format, Reporter)>,
    /// One permit per stream.
    streams: Arc<Semaphore>,
    phase: AtomicU8,
    drain: watch::Sender<bool>,
    key: Option<guard::Key>,
}

impl Shared {
    /// Starts the pool and prepares everything but the listening.
    ///
    /// # Errors
    /// When a setting does not fit the model or the machine.
    pub fn new(recognizer: Arc<Recognizer>, settings: Settings) -> Result<Arc<Self>, StartError> {
        for origin in &settings.allow_origins {
            guard::origin(origin).map_err(StartError::Name)?;
        }
        for host in &settings.allow_hosts {
            guard::host(host).map_err(StartError::Name)?;
        }
        if !settings.loopback && settings.key.is_none() && settings.allow_hosts.is_empty() {
            return Err(StartError::Unguarded);
        }
        let info = recognizer.info();
        let identity = recognizer.model().identity();
        // Every format refuses labels that are there twice; codes alone may not fit.
        Reporter::new(Format::Json, info, identity)?;
        let reporters = Format::ALL
            .into_iter()
            .filter_map(|f| Some((f, Reporter::new(f, info, identity).ok()?)))
            .collect();
        let compatible = match (&settings.files_root, &settings.write_root) {
            (None, None) => None,
            (None, Some(_)) => return Err(StartError::OnlyWriteRoot),
            (Some(files), write) => Some(compatible::Open {
                codes: Codes::new(info).map_err(StartError::Compatible)?,
                files: open_root(files, "--files-root")?,
                output: write
                    .as_ref()
                    .map(|path| open_root(path, "--write-root"))
                    .transpose()?,
            }),
        };
        let threads = settings.workers;
        let pool = pool::Pool::new(&recognizer, threads, settings.queue)
            .map_err(|source| StartError::Threads { threads, source })?;
        Ok(Arc::new(Self {
            pool,
            metrics: metrics::Metrics::new().map_err(StartError::Metrics)?,
            budget: body::Budget::new(settings.max_held),
            streamed: body::Budget::new(settings.max_streamed),
            compatible,
            reporters,
            streams: Arc::new(Semaphore::new(settings.max_streams)),
            phase: AtomicU8::new(Phase::Starting as u8),
            drain: watch::Sender::new(false),
            key: settings.key.as_deref().map(guard::Key::new),
            recognizer,
            settings,
        }))
    }

    /// Replays the model's self-test and sets the phase after it.
    ///
    /// # Errors
    /// What the test says; the server then answers 503.
    pub fn self_test(&self) -> Result<(), String> {
        let outcome = self.recognizer.model().self_test();
        let phase = match outcome {
            Ok(()) => Phase::Ready,
            Err(_) => Phase::Failed,
        };
        // A server that is told to end meanwhile goes on ending.
        let starting = Phase::Starting as u8;
        let order = Ordering::SeqCst;
        let _ = self
            .phase
            .compare_exchange(starting, phase as u8, order, order);
        outcome.map_err(|e| e.to_string())
    }

    /// Tells everybody that the server ends.
    pub fn start_draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::SeqCst);
        self.drain.send_replace(true);
    }

    /// Becomes true when the server is told to end.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Whether the server answers.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Failed,
            _ => Phase::Draining,
        }
    }

    /// # Errors
    /// 503 unless the self-test has passed. While the server drains, what still comes over an open
    /// connection is answered.
    fn check_ready(&self) -> Result<(), ApiError> {
        match self.phase() {
            Phase::Ready | Phase::Draining => Ok(()),
            Phase::Starting => Err(ApiError::unavailable(
                "starting",
                "the model is being tested; try again in a moment",
            )),
            Phase::Failed => Err(ApiError::unavailable(
                "self_test_failed",
                "the model does not give its stored outputs on this machine; the file or the build is damaged",
            )),
        }
    }

    /// # Errors
    /// 400 when the model lacks what the format needs.
    fn reporter(&self, format: Format) -> Result<Reporter, ApiError> {
        let found = self.reporters.iter().find(|(f, _)| *f == format);
        found.map(|(_, reporter)| reporter.clone()).ok_or_else(|| {
            ApiError::bad_request(format!(
                "the answers of this model cannot be written as {format}; choose another response_format"
            ))
        })
    }

    /// The formats that [`Shared::reporter`] gives.
    fn formats(&self) -> Vec<&'static str> {
        self.reporters.iter().map(|(f, _)| f.name()).collect()
    }
}

fn open_root(path: &std::path::Path, option: &'static str) -> Result<files::Root, StartError> {
    files::Root::open(path, option).map_err(|source| StartError::Folder {
        option,
        folder: path.to_owned(),
        source,
    })
}

/// What no page and no other site may do with an answer.
const NO_CONTENT: &str = "default-src 'none'; frame-ancestors 'none'";

/// All routes.
pub fn router(shared: &Arc<Shared>) -> Router {
    let protected = OpenApiRouter::new()
        .routes(routes!(audio::recognise))
        .routes(routes!(stream::open))
        .routes(routes!(speaker::make))
        .routes(routes!(models::list))
        .routes(routes!(compatible::recognise))
        .routes(routes!(health::metrics))
        .route_layer(from_fn_with_state(Arc::clone(shared), guard::check_key));
    let (router, api) = OpenApiRouter::with_openapi(docs::base())
        .routes(routes!(health::root))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .merge(protected)
        .split_for_parts();
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let router = router
        .merge(docs::routes(&api))
        .merge(page::routes())
        .fallback(health::not_found)
        .method_not_allowed_fallback(health::method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::clone(shared), guard::check_origin));
    // Without allowed origins there is nothing to say about them.
    let router = match shared.settings.allow_origins.is_empty() {
        true => router,
        false => router.layer(cors(Arc::clone(shared))),
    };
    router
        .layer(header(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(CONTENT_SECURITY_POLICY, NO_CONTENT))
        .layer(header(CACHE_CONTROL, "no-store"))
        .layer(CatchPanicLayer::custom(metrics::panicked))
        .layer(from_fn_with_state(Arc::clone(shared), metrics::observe))
        .with_state(Arc::clone(shared))
}

/// Lets the pages of the allowed origins read answers.
fn cors(shared: Arc<Shared>) -> CorsLayer {
    let allowed = AllowOrigin::predicate(move |origin, _| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| guard::is_allowed(&shared.settings, origin))
    });
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
}
