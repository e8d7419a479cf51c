//! Accept loop with bounds on the number and time of connections, and graceful shutdown.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::ServerState;
use super::body::DISCARD_FACTOR;
use super::connection::{ClientState, DiscardLimits, Requests, Socket};
use super::metrics::Metrics;

/// Delay before the next accept when file descriptors or memory are exhausted.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Maximum size of a request's head, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// Serves `router` until `end` completes, then waits for running requests.
///
/// Returns true if all ended within [`Times::drain`](super::settings::Times::drain).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shared: &Arc<ServerState>,
    end: impl Future<Output = ()>,
) -> bool {
    let upkeep = tokio::spawn(Metrics::run_upkeep(Arc::clone(shared)));
    let times = shared.settings.times;
    let room = Arc::new(Semaphore::new(shared.settings.max_connections));
    let mut end = pin!(end);
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(permit) = permit else { break };
                let router = router.clone();
                tokio::spawn(connection(stream, router, Arc::clone(shared), permit));
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    shared.start_draining();
    let all = u32::try_from(shared.settings.max_connections).unwrap_or(u32::MAX);
    let streams = u32::try_from(shared.settings.max_streams).unwrap_or(u32::MAX);
    let ended = async {
        // A permit is released when its socket is closed, also that of a stream.
        let _ = room.acquire_many(all).await;
        let _ = shared.streams.acquire_many(streams).await;
    };
    let in_time = tokio::time::timeout(times.drain, ended).await.is_ok();
    shared.pool.close();
    upkeep.abort();
    in_time
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Waits until the server drains.
pub(super) async fn draining_started(draining: &mut watch::Receiver<bool>) {
    // An error means that the server state is gone.
    let _ = draining.wait_for(|draining| *draining).await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    shared: Arc<ServerState>,
    permit: OwnedSemaphorePermit,
) {
    let settings = &shared.settings;
    let times = settings.times;
    // Responses are small and complete, so Nagle's algorithm would only delay them. Setting the
    // option fails only on a closed connection.
    let _ = stream.set_nodelay(true);
    let discard_limits = DiscardLimits {
        bytes: settings.max_body.saturating_mul(DISCARD_FACTOR),
        time: times.body,
    };
    let client = Arc::new(ClientState::default());
    let requests = Requests::new(router, Arc::clone(&client));
    let socket = Socket::new(stream, times.write, discard_limits, permit, client);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), requests)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut draining = shared.draining();
    // An error here is caused by the client: it disconnected or was too slow.
    let _ = tokio::select! {
        result = connection.as_mut() => result,
        () = draining_started(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
