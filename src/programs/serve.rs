//! Program `serve`: HTTP server for voice recognition.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Recognizer;
use crate::nn::DropoutMode;
use crate::server::settings::{SettingNames, Times};
use crate::server::{ServerState, Settings, StartError, listen, router};
use clap::{Command, CommandFactory};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use arguments::{Arguments, Dropout};

use super::model::Source;
use super::{FAILURE, SUCCESS, device, model};

mod arguments;
mod log;

/// Returns the description of the command line.
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the program; returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    crate::audio::silence_caught_panics();
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments: Arguments = match super::parse(&words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let log = log::start(arguments.quiet);
    let code = exit_code(start(arguments));
    log.finish();
    code
}

fn start(arguments: Arguments) -> Result<(), String> {
    if arguments.probe {
        return probe(arguments.host, arguments.port);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .map_err(|e| format!("cannot start the threads that talk to clients: {e}"))
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(arguments));
            // Jobs that did not end in time are abandoned.
            runtime.shutdown_background();
            outcome
        })
}

fn exit_code(outcome: Result<(), String>) -> u8 {
    match outcome {
        Ok(()) => SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let path = arguments.model.as_deref();
    let of_model = |e: &dyn std::fmt::Display| format!("{}: {e}", Source::new(path));
    let mut recognizer = Recognizer::new(model::load(path)?).map_err(|e| of_model(&e))?;
    if let Some(gpu) = device::open(arguments.device, |reason| tracing::warn!("{reason}"))? {
        use_gpu(&mut recognizer, gpu)?;
    }
    let address = SocketAddr::new(arguments.host, arguments.port);
    let settings = settings(&arguments)?;
    let key_is_missing = !settings.loopback && settings.key.is_none();
    let shared = ServerState::new(Arc::new(recognizer), settings).map_err(|e| match e {
        StartError::Unguarded => format!(
            "--host {}: {e}. --key-file FILE or MAEUM_KEY sets the key, --allow-host NAME names a host, \
             such as the address or name that clients use",
            arguments.host
        ),
        _ => e.to_string(),
    })?;
    let router = router(&shared);
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
    if arguments.port == 0 {
        // Port 0 makes the system choose a port, and the parent process can learn it only here.
        let written = writeln!(std::io::stdout(), "listening on http://{address}");
        if let Err(e) = written {
            tracing::warn!("cannot write the address to standard output: {e}");
        }
    }
    let failed = start_self_test(&shared);
    let mut broken = None;
    let served = listen::serve(
        listener,
        router,
        &shared,
        shutdown_requested(failed, &mut broken),
    )
    .await;
    if let Some(message) = broken {
        return Err(of_model(&message));
    }
    match served {
        true => tracing::info!("everything ended"),
        false => tracing::warn!("some requests did not end in time and were cut off"),
    }
    Ok(())
}

/// Starts the model's self-test on a thread. The channel receives the error if it fails.
fn start_self_test(shared: &Arc<ServerState>) -> mpsc::Receiver<String> {
    let (sender, failed) = mpsc::channel(1);
    let shared = Arc::clone(shared);
    std::thread::spawn(move || match shared.self_test() {
        Ok(()) => tracing::info!("the model's self-test has passed"),
        Err(message) => {
            // A stopped server no longer receives.
            let _ = sender.blocking_send(message);
        }
    });
    failed
}

/// Waits for the end of the server: a signal or a failed self-test.
async fn shutdown_requested(mut failed: mpsc::Receiver<String>, broken: &mut Option<String>) {
    let fails = async {
        match failed.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop_signal() => tracing::info!("ending"),
        message = fails => *broken = Some(message),
    }
}

/// Waits for SIGTERM or SIGINT.
#[cfg(unix)]
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        // Without signal handlers the process can only be killed.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(not(unix))]
async fn stop_signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn settings(arguments: &Arguments) -> Result<Settings, String> {
    let defaults = Settings::default();
    let seconds = |s: u32| Duration::from_secs(s.into());
    let limit = Settings {
        max_seconds: arguments.max_seconds,
        ..Settings::default()
    }
    .limit();
    Ok(Settings {
        workers: arguments.threads.map_or(defaults.workers, |n| n as usize),
        queue: arguments.queue as usize,
        max_body: (arguments.max_body as usize) << 20,
        max_seconds: arguments.max_seconds,
        max_held: defaults.max_held.max((arguments.max_body as usize) << 22),
        // Bytes for at least one stream of the maximum length.
        max_streamed: defaults.max_streamed.max(2 * limit.frames),
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
        card: Source::new(arguments.model.as_deref())
            .card()
            .map(String::from),
        names: SettingNames {
            files_root: "--files-root",
            write_root: "--write-root",
            allow_hosts: "--allow-host",
            allow_origins: "--allow-origin",
        },
        times: Times {
            body: seconds(arguments.body_timeout),
            drain: seconds(arguments.drain),
            ..defaults.times
        },
        ..defaults
    })
}

/// Returns the key: the file's first line, or else the variable `MAEUM_KEY`.
fn key(file: Option<&Path>) -> Result<Option<String>, String> {
    let (key, of) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                let remedy = crate::file_advice::to_read(&e);
                format!("--key-file {}: {e}; {remedy}", path.display())
            })?;
            let line = text.lines().next().unwrap_or_default().trim().to_owned();
            (line, format!("--key-file {}", path.display()))
        }
        None => match std::env::var("MAEUM_KEY") {
            Ok(key) => (key, "MAEUM_KEY".into()),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(_) => return Err("MAEUM_KEY: the key is no text".into()),
        },
    };
    // Other characters cannot be sent in a header.
    match !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Some(key)),
        false => Err(format!(
            "{of}: the key must be one or more printable ASCII characters without spaces"
        )),
    }
}

#[cfg(feature = "cuda")]
fn use_gpu(recognizer: &mut Recognizer, gpu: device::Gpu) -> Result<(), String> {
    let name = gpu.name();
    let used = recognizer.use_device(&gpu);
    used.map_err(|e| format!("{name}: {e}"))?;
    tracing::info!("computing on {name}");
    Ok(())
}

#[cfg(not(feature = "cuda"))]
fn use_gpu(_: &mut Recognizer, none: device::Gpu) -> Result<(), String> {
    match none {}
}

/// Timeout of each step of the readiness check.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Start of a successful response.
const READY_RESPONSE: &[u8] = b"HTTP/1.1 200 ";

/// Checks whether the server at an address is ready: the health check of containers without other
/// programs.
///
/// # Errors
/// When the server does not respond, or is not ready to recognise recordings.
fn probe(host: IpAddr, port: u16) -> Result<(), String> {
    // A server on the unspecified address is reachable by the loopback address.
    let host = match host {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let address = SocketAddr::new(host, port);
    let start = request_ready(address).map_err(|e| format!("no answer from {address}: {e}"))?;
    match start == READY_RESPONSE {
        true => Ok(()),
        false => Err(format!("the server on {address} is not ready")),
    }
}

fn request_ready(address: SocketAddr) -> std::io::Result<[u8; READY_RESPONSE.len()]> {
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    // The server always accepts the host name localhost.
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut start = [0; READY_RESPONSE.len()];
    stream.read_exact(&mut start)?;
    Ok(start)
}
