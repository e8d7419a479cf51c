//! HTTP server with the interface of the 2020 system, a modern interface and streaming.
//!
//! A request is checked by [`guard`], read by [`body`], recognised on a thread of the [`pool`] by
//! [`recognise`] and counted by [`metrics`]. [`listen`] manages the connections. `docs/server.md`
//! describes the interface.

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
pub mod recognise;
pub mod schema;
pub mod settings;
pub mod speaker;
pub mod stream;

pub use settings::Settings;

use errors::ApiError;

/// Error when a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A configured folder cannot be opened.
    #[error("{option} {folder}: {source}; name a folder that exists", folder = folder.display())]
    Folder {
        /// Name of the setting.
        option: &'static str,
        /// Path of the folder.
        folder: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The model's predictions cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The compatible route cannot be served with this model.
    #[error("{option} opens the compatible route, but {problem}; start without {option}")]
    Compatible {
        /// Name of the setting that enables the route.
        option: &'static str,
        /// Property that the model lacks.
        problem: ReportError,
    },
    /// A folder for writing is set without one for reading.
    #[error("{write_root} serves the compatible route only; give {files_root} with it")]
    OnlyWriteRoot {
        /// Name of the setting for writing.
        write_root: &'static str,
        /// Name of the setting for reading.
        files_root: &'static str,
    },
    /// A configured origin or host that no request can have.
    #[error("{0}")]
    Name(String),
    /// The server is reachable from other machines but requires neither a key nor a host name.
    #[error(
        "a server that can be reached from outside needs a key, or the names of the hosts that requests may be for; without them any web page could use it through a visitor's browser"
    )]
    Unguarded,
    /// The operating system cannot start the threads.
    #[error("cannot start {threads} threads: {source}; ask for fewer")]
    Threads {
        /// Requested number of threads.
        threads: usize,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The metrics cannot be set up.
    #[error("cannot set up the metrics: {0}")]
    Metrics(String),
}

/// Life-cycle phase of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The self-test is running.
    Starting,
    /// The self-test has passed.
    Ready,
    /// The self-test has failed; recordings are refused.
    Failed,
    /// Running requests are finished; new connections are refused.
    Draining,
}

/// State shared by all handlers.
pub struct ServerState {
    /// Configuration.
    pub settings: Settings,
    /// Recogniser with the model.
    pub recognizer: Arc<Recognizer>,
    /// Recognition threads.
    pub pool: pool::Pool,
    /// Request metrics.
    pub metrics: metrics::Metrics,
    /// Memory budget of request bodies.
    pub budget: body::Budget,
    /// Memory budget of streams, separate so that streams cannot starve requests.
    pub streamed: body::Budget,
    /// Resources of the compatible route; `None` if it is disabled.
    compatible: Option<compatible::Resources>,
    /// Writers of every format that the model supports.
    reporters: Vec<(Format, Reporter)>,
    /// Stream permits.
    streams: Arc<Semaphore>,
    phase: AtomicU8,
    drain: watch::Sender<bool>,
    key: Option<guard::Key>,
}

impl ServerState {
    /// Starts the pool and creates the state.
    ///
    /// # Errors
    /// When a setting is invalid for the model or the machine.
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
        // Every format refuses repeated labels; only the codes format may be unsupported.
        Reporter::new(Format::Json, info, identity)?;
        let reporters = Format::ALL
            .into_iter()
            .filter_map(|f| Some((f, Reporter::new(f, info, identity).ok()?)))
            .collect();
        let names = settings.names;
        let compatible = match (&settings.files_root, &settings.write_root) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(StartError::OnlyWriteRoot {
                    write_root: names.write_root,
                    files_root: names.files_root,
                });
            }
            (Some(files), write) => Some(compatible::Resources {
                codes: Codes::new(info).map_err(|problem| StartError::Compatible {
                    option: names.files_root,
                    problem,
                })?,
                files: open_root(files, names.files_root)?,
                output: write
                    .as_ref()
                    .map(|path| open_root(path, names.write_root))
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

    /// Runs the model's self-test and sets the resulting phase.
    ///
    /// # Errors
    /// The message of the failed test; the server then responds with 503.
    pub fn self_test(&self) -> Result<(), String> {
        let outcome = self.recognizer.model().self_test();
        let phase = match outcome {
            Ok(()) => Phase::Ready,
            Err(_) => Phase::Failed,
        };
        // A server that started draining meanwhile continues to drain.
        let starting = Phase::Starting as u8;
        let order = Ordering::SeqCst;
        let _ = self
            .phase
            .compare_exchange(starting, phase as u8, order, order);
        outcome.map_err(|e| e.to_string())
    }

    /// Starts the shutdown.
    pub fn start_draining(&self) {
        self.phase.store(Phase::Draining as u8, Ordering::SeqCst);
        self.drain.send_replace(true);
    }

    /// Returns a watch that becomes true when the shutdown starts.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.drain.subscribe()
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Failed,
            _ => Phase::Draining,
        }
    }

    /// Checks that recordings can be recognised. Requests on open connections are still handled
    /// while the server drains.
    ///
    /// # Errors
    /// 503 unless the self-test has passed.
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

    /// Returns a writer of the format.
    ///
    /// # Errors
    /// 400 when the model does not support the format.
    fn reporter(&self, format: Format) -> Result<Reporter, ApiError> {
        let found = self.reporters.iter().find(|(f, _)| *f == format);
        found.map(|(_, reporter)| reporter.clone()).ok_or_else(|| {
            ApiError::bad_request(format!(
                "the answers of this model cannot be written as {format}; choose another response_format"
            ))
        })
    }

    /// Returns the names of the supported formats.
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

/// Policy of responses without a page of their own: browsers may load and embed nothing.
const NO_CONTENT: &str = "default-src 'none'; frame-ancestors 'none'";

/// Returns the router with all routes.
pub fn router(shared: &Arc<ServerState>) -> Router {
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
    // Without allowed origins, responses need no CORS headers.
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

/// Returns the layer that lets pages of the allowed origins read responses.
fn cors(shared: Arc<ServerState>) -> CorsLayer {
    let allowed = AllowOrigin::predicate(move |origin, _| {
        let origin = origin.to_str();
        origin.is_ok_and(|origin| guard::is_allowed(&shared.settings, origin))
    });
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
}
