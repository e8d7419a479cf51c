//! Serves voice recognition over HTTP.

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use maeum::Recognizer;
use maeum::nn::{DropoutMode, Model, bundle};
use maeum::report::NOTICE;
use maeum::server::settings::{MAX_DRAWS, Times};
use maeum::server::{Settings, Shared, listen, router};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Listens to voice recordings over HTTP and estimates which emotion they carry, how old the speaker
/// sounds and which gender. `/docs` describes the interface.
#[derive(Parser)]
#[command(name = "serve", version, after_help = NOTICE)]
struct Arguments {
    /// A converted model instead of the built-in one.
    #[arg(long, value_name = "BUNDLE")]
    model: Option<PathBuf>,
    /// The address to listen on; others than 127.0.0.1 can be reached from outside.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes a free one and says which.
    #[arg(long, default_value_t = 9999)]
    port: u16,
    /// Opens `POST /`, the interface of the system of 2020, for recordings in this folder.
    #[arg(long, value_name = "FOLDER")]
    files_root: Option<PathBuf>,
    /// Lets `POST /` write arrays into this folder, where a client asks for it.
    #[arg(long, value_name = "FOLDER", requires = "files_root")]
    write_root: Option<PathBuf>,
    /// Asks clients for the key in this file: its first line.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Lets pages of this origin use the server, such as https://voice.example; may be repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// A name that the server is reached by besides localhost, as behind a proxy; may be repeated.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Random dropout where a request does not say: `off` or the number of draws.
    #[arg(long, value_name = "off|N", default_value = "32", value_parser = dropout)]
    dropout: Dropout,
    /// Which draws, where a request does not say.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Threads that recognise [default: one per processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Requests that may wait for a thread; one more is told to come back.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    queue: u32,
    /// Connections at once; more wait.
    #[arg(long, value_name = "N", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Largest body, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_body: u32,
    /// Longest recording, in seconds.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=14_400))]
    max_seconds: u32,
    /// How long a body may take to arrive, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    body_timeout: u32,
    /// How long what runs may take when the server is told to end, in seconds.
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    drain: u32,
    /// Logs no single requests.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy)]
enum Dropout {
    Off,
    Draws(NonZeroU32),
}

fn dropout(text: &str) -> Result<Dropout, String> {
    if text == "off" {
        return Ok(Dropout::Off);
    }
    let number = text.parse().ok().and_then(NonZeroU32::new);
    number
        .filter(|n| n.get() <= MAX_DRAWS)
        .map(Dropout::Draws)
        .ok_or_else(|| format!("give `off` or a number of draws from 1 to {MAX_DRAWS}"))
}

fn main() -> ExitCode {
    maeum::audio::silence_caught_panics();
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(match arguments.quiet {
            true => tracing::Level::WARN,
            false => tracing::Level::INFO,
        })
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(|e| format!("cannot start the threads that talk to clients: {e}"))
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(arguments));
            // What has not ended in time is left where it is.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let path = arguments.model.as_deref();
    let of_model = |e: &dyn std::fmt::Display| match path {
        Some(path) => format!("{}: {e}", path.display()),
        None => format!("the built-in model: {e}"),
    };
    let recognizer = Recognizer::new(load(path)?).map_err(|e| of_model(&e))?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    let settings = settings(&arguments)?;
    let key_is_missing = !settings.loopback && settings.key.is_none();
    let shared = Shared::new(Arc::new(recognizer), settings).map_err(|e| e.to_string())?;
    let router = router(&shared).map_err(|e| e.to_string())?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| format!("cannot listen on {address}: {e}; choose another --port or --host"))?;
    let address = listener
        .local_addr()
        .map_err(|e| format!("cannot listen on {address}: {e}"))?;
    if key_is_missing {
        tracing::warn!(
            "whoever reaches {address} may use this server; set a key with --key-file or MAEUM_KEY"
        );
    }
    tracing::info!("listening on http://{address}");
    let failed = test(&shared);
    let mut broken = None;
    let served = listen::serve(listener, router, &shared, ended(failed, &mut broken)).await;
    if let Some(message) = broken {
        return Err(of_model(&message));
    }
    match served {
        true => tracing::info!("everything ended"),
        false => tracing::warn!("some requests did not end in time and were cut off"),
    }
    Ok(())
}

/// Tests the model beside the listening; what is received is why it failed.
fn test(shared: &Arc<Shared>) -> mpsc::Receiver<String> {
    let (sender, failed) = mpsc::channel(1);
    let shared = Arc::clone(shared);
    std::thread::spawn(move || match shared.self_test() {
        Ok(()) => tracing::info!("the model's self-test has passed"),
        Err(message) => {
            // Nobody listens any more if the server has been told to end.
            let _ = sender.blocking_send(message);
        }
    });
    failed
}

/// Waits until the server is to end: a signal, or a model that does not pass its test.
async fn ended(mut failed: mpsc::Receiver<String>, broken: &mut Option<String>) {
    let fails = async {
        match failed.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stopped() => tracing::info!("ending"),
        message = fails => *broken = Some(message),
    }
}

/// Waits for what a service manager or a person at the keyboard sends.
#[cfg(unix)]
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        // Without signals the process can only be killed.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn stopped() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn settings(arguments: &Arguments) -> Result<Settings, String> {
    let defaults = Settings::default();
    let seconds = |s: u32| Duration::from_secs(s.into());
    Ok(Settings {
        workers: arguments.threads.map_or(defaults.workers, |n| n as usize),
        queue: arguments.queue as usize,
        max_body: (arguments.max_body as usize) << 20,
        max_seconds: arguments.max_seconds,
        max_held: defaults.max_held.max((arguments.max_body as usize) << 22),
        max_connections: arguments.connections as usize,
        dropout: match arguments.dropout {
            Dropout::Off => DropoutMode::Off,
            Dropout::Draws(n) => DropoutMode::Draws {
                n,
                seed: arguments.seed,
            },
        },
        files_root: arguments.files_root.clone(),
        write_root: arguments.write_root.clone(),
        key: key(arguments.key_file.as_deref())?,
        allow_origins: arguments.allow_origin.clone(),
        allow_hosts: arguments.allow_host.clone(),
        loopback: arguments.host.is_loopback(),
        card: arguments.model.is_none().then(card).flatten(),
        times: Times {
            body: seconds(arguments.body_timeout),
            drain: seconds(arguments.drain),
            ..defaults.times
        },
        ..defaults
    })
}

/// The first line of the file, or else the variable `MAEUM_KEY`.
fn key(file: Option<&Path>) -> Result<Option<String>, String> {
    let (key, of) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| format!("--key-file {}: {e}", path.display()))?;
            let line = text.lines().next().unwrap_or_default().trim().to_owned();
            (line, format!("--key-file {}", path.display()))
        }
        None => match std::env::var("MAEUM_KEY") {
            Ok(key) => (key, "MAEUM_KEY".into()),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(_) => return Err("MAEUM_KEY: the key is no text".into()),
        },
    };
    // Anything else would never arrive in a header.
    match !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Some(key)),
        false => Err(format!(
            "{of}: the key must be one or more printable ASCII characters without spaces"
        )),
    }
}

fn load(path: Option<&Path>) -> Result<Model, String> {
    match path {
        Some(path) => bundle::load(path).map_err(|e| e.to_string()),
        None => built_in(),
    }
}

#[cfg(feature = "default-model")]
fn built_in() -> Result<Model, String> {
    maeum::default_model::load().map_err(|e| e.to_string())
}

#[cfg(not(feature = "default-model"))]
fn built_in() -> Result<Model, String> {
    Err("this program was built without a model of its own; give one with --model BUNDLE".into())
}

#[cfg(feature = "default-model")]
fn card() -> Option<String> {
    Some(maeum::default_model::CARD.into())
}

#[cfg(not(feature = "default-model"))]
fn card() -> Option<String> {
    None
}
