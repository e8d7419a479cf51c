//! What can be set, and the bounds that hold for everybody.

use std::path::PathBuf;
use std::time::Duration;

use crate::audio::decode::Limit;
use crate::nn::DropoutMode;

/// Draws that a request may ask for.
pub const MAX_DRAWS: u32 = 1024;
/// Form of the compatible route, in bytes: two paths.
pub const MAX_FORM: usize = 64 << 10;
/// Fields of a multipart body.
pub const MAX_FIELDS: usize = 16;
/// Bytes of a multipart text field or of a query.
pub const MAX_TEXT: usize = 8 << 10;
/// Most samples per second of the longest duration: a recording of a higher rate may only be
/// shorter, so that memory stays bounded.
const FULL_LENGTH_RATE: usize = 48_000;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that recognise.
    pub workers: usize,
    /// Requests that may wait for them.
    pub queue: usize,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Longest recording, in seconds.
    pub max_seconds: u32,
    /// Bytes of all bodies together that are held at once.
    pub max_held: usize,
    /// Bytes of all streams together that are held at once.
    pub max_streamed: usize,
    /// Connections at once; more wait until they are accepted.
    pub max_connections: usize,
    /// Streams at once.
    pub max_streams: usize,
    /// How forced dropout is treated where a request does not say.
    pub dropout: DropoutMode,
    /// The folder that the compatible route may read.
    pub files_root: Option<PathBuf>,
    /// The folder that the compatible route may write to.
    pub write_root: Option<PathBuf>,
    /// What clients must send as bearer token.
    pub key: Option<String>,
    /// Origins of web pages that may use the server besides its own, as [`guard::origin`] gives
    /// them.
    ///
    /// [`guard::origin`]: super::guard::origin
    pub allow_origins: Vec<String>,
    /// Hosts that requests may be for, besides loopback ones, as [`guard::host`] gives them. A
    /// server that can be reached from outside needs a key or at least one host.
    ///
    /// [`guard::host`]: super::guard::host
    pub allow_hosts: Vec<String>,
    /// Whether only programs of the same machine reach it.
    pub loopback: bool,
    /// Licences and measurements of the model, as Markdown.
    pub card: Option<String>,
    /// What slow clients are given.
    pub times: Times,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For the head of a request; also how long a connection may stay idle.
    pub head: Duration,
    /// For the body.
    pub body: Duration,
    /// For taking a piece of an answer.
    pub write: Duration,
    /// Without a sample of a stream.
    pub stream_idle: Duration,
    /// Between the pings of a stream.
    pub ping: Duration,
    /// For what runs when the server is told to end.
    pub drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(15),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            stream_idle: Duration::from_secs(30),
            ping: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            queue: 256,
            max_body: 25 << 20,
            max_seconds: 600,
            max_held: 512 << 20,
            max_streamed: 256 << 20,
            // Below the usual limit of 1,024 open files, with room for those that are read.
            max_connections: 900,
            max_streams: 64,
            dropout: DropoutMode::draws(32, 0),
            files_root: None,
            write_root: None,
            key: None,
            allow_origins: Vec::new(),
            allow_hosts: Vec::new(),
            loopback: true,
            card: None,
            times: Times::default(),
        }
    }
}

impl Settings {
    /// How much of a recording is decoded.
    pub fn limit(&self) -> Limit {
        Limit {
            seconds: self.max_seconds,
            frames: (self.max_seconds as usize).saturating_mul(FULL_LENGTH_RATE),
        }
    }
}
