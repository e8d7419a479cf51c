//! Connections: taken one by one, bounded in number and in what they may wait for, and ended in
//! order.

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

use super::Shared;
use super::body::DISCARDED;
use super::connection::{Client, Remainder, Requests, Socket};
use super::metrics::Metrics;

/// How long to wait when no connection can be taken, because files or memory have run out.
const NO_MORE: Duration = Duration::from_millis(100);
/// Largest head of a request, in bytes.
const MAX_HEAD: usize = 32 << 10;

/// Serves `router` until `end`, then lets what runs come to its end.
///
/// Returns whether everything did within [`Times::drain`](super::settings::Times::drain).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shared: &Arc<Shared>,
    end: impl Future<Output = ()>,
) -> bool {
    let keeping_up = tokio::spawn(Metrics::keep_up(Arc::clone(shared)));
    let times = shared.settings.times;
    let room = Arc::new(Semaphore::new(shared.settings.max_connections));
    let mut end = pin!(end);
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = place else { break };
                let router = router.clone();
                tokio::spawn(connection(stream, router, Arc::clone(shared), place));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken");
                tokio::time::sleep(NO_MORE).await;
            }
        }
    }
    drop(listener);
    shared.start_draining();
    let all = u32::try_from(shared.settings.max_connections).unwrap_or(u32::MAX);
    let streams = u32::try_from(shared.settings.max_streams).unwrap_or(u32::MAX);
    let ended = async {
        // A place is free again when its socket is closed, also that of a stream.
        let _ = room.acquire_many(all).await;
        let _ = shared.streams.acquire_many(streams).await;
    };
    let in_time = tokio::time::timeout(times.drain, ended).await.is_ok();
    shared.pool.close();
    keeping_up.abort();
    in_time
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// Waits until the server drains.
pub(super) async fn told_to_end(draining: &mut watch::Receiver<bool>) {
    // An error would mean that the server itself is gone.
    let _ = draining.wait_for(|draining| *draining).await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    shared: Arc<Shared>,
    place: OwnedSemaphorePermit,
) {
    let settings = &shared.settings;
    let times = settings.times;
    // Answers are small and whole: waiting for more to send only delays them. A connection that
    // does not take the option is already gone.
    let _ = stream.set_nodelay(true);
    let remainder = Remainder {
        bytes: settings.max_body.saturating_mul(DISCARDED),
        time: times.body,
    };
    let client = Arc::new(Client::default());
    let requests = Requests::new(router, Arc::clone(&client));
    let socket = Socket::new(stream, times.write, remainder, place, client);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.head)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), requests)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut draining = shared.draining();
    // What goes wrong here is the client's doing: it went away or was too slow.
    let _ = tokio::select! {
        result = connection.as_mut() => result,
        () = told_to_end(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}
