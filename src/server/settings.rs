//! Configuration of the server, and fixed limits.

use std::path::PathBuf;
use std::time::Duration;

use crate::audio::decode::Limit;
use crate::nn::DropoutMode;

/// Maximum number of draws of a request.
pub const MAX_DRAWS: u32 = 1024;
/// Maximum size of the compatible route's form, in bytes; it holds two paths.
pub const MAX_FORM: usize = 64 << 10;
/// Maximum number of fields in a multipart body.
pub const MAX_FIELDS: usize = 16;
/// Maximum size of a multipart text field or a query, in bytes.
pub const MAX_TEXT: usize = 8 << 10;
/// Sample rate in Hz up to which a recording may have the maximum duration. Recordings at higher
/// rates must be shorter, which bounds the memory.
const FULL_LENGTH_RATE: usize = 48_000;

/// Configuration of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of recognition threads.
    pub workers: usize,
    /// Maximum number of waiting requests.
    pub queue: usize,
    /// Maximum size of a body, in bytes.
    pub max_body: usize,
    /// Maximum duration of a recording, in seconds.
    pub max_seconds: u32,
    /// Maximum total size of all bodies in memory, in bytes.
    pub max_held: usize,
    /// Maximum total size of all streams in memory, in bytes.
    pub max_streamed: usize,
    /// Maximum number of open connections; further connections wait.
    pub max_connections: usize,
    /// Maximum number of open streams.
    pub max_streams: usize,
    /// Default dropout mode of requests.
    pub dropout: DropoutMode,
    /// Folder that the compatible route may read.
    pub files_root: Option<PathBuf>,
    /// Folder that the compatible route may write to.
    pub write_root: Option<PathBuf>,
    /// Bearer token that clients must send.
    pub key: Option<String>,
    /// Origins of other web pages that may use the server, in the form of [`guard::origin`].
    ///
    /// [`guard::origin`]: super::guard::origin
    pub allow_origins: Vec<String>,
    /// Host names, besides loopback ones, that requests may use, in the form of [`guard::host`]. A
    /// server that is reachable from other machines needs a key or at least one host.
    ///
    /// [`guard::host`]: super::guard::host
    pub allow_hosts: Vec<String>,
    /// True if only programs on the same machine can connect.
    pub loopback: bool,
    /// Model card as Markdown.
    pub card: Option<String>,
    /// Time limits for clients.
    pub times: Times,
    /// Names of settings in messages.
    pub names: SettingNames,
}

/// Names that messages use for settings, so that a program can refer to its own options.
#[derive(Debug, Clone, Copy)]
pub struct SettingNames {
    /// Name of [`Settings::files_root`].
    pub files_root: &'static str,
    /// Name of [`Settings::write_root`].
    pub write_root: &'static str,
    /// Name of [`Settings::allow_hosts`].
    pub allow_hosts: &'static str,
    /// Name of [`Settings::allow_origins`].
    pub allow_origins: &'static str,
}

impl Default for SettingNames {
    fn default() -> Self {
        Self {
            files_root: "files_root",
            write_root: "write_root",
            allow_hosts: "allow_hosts",
            allow_origins: "allow_origins",
        }
    }
}

/// Time limits for clients.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Time for the head of a request; also the maximum idle time of a connection.
    pub head: Duration,
    /// Time for the body.
    pub body: Duration,
    /// Time for the client to accept a chunk of a response.
    pub write: Duration,
    /// Maximum time without samples in a stream.
    pub stream_idle: Duration,
    /// Interval of a stream's pings.
    pub ping: Duration,
    /// Time for running requests at shutdown.
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
            // Below the usual limit of 1,024 open files, with reserve for files being read.
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
            names: SettingNames::default(),
        }
    }
}

impl Settings {
    /// Returns the decoding limits of a recording.
    pub fn limit(&self) -> Limit {
        Limit {
            seconds: self.max_seconds,
            frames: (self.max_seconds as usize).saturating_mul(FULL_LENGTH_RATE),
        }
    }
}
