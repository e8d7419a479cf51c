//! Socket of a connection, which detects disconnected clients and closes without losing a response.
//!
//! - A client that shuts down its sending side after a complete request receives its response. A
//!   disconnected client loses its place in the queue. Both look alike until the server writes, so
//!   the socket sends the first bytes of the response, which are constant, ahead: writing them to a
//!   disconnected client fails.
//! - A client that sends before it reads receives its refusal. Closing a socket with unread bytes
//!   would reset the connection and destroy the response, so the unread bytes are discarded first,
//!   bounded in number and time.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep, timeout};
use tokio_io_timeout::TimeoutStream;

/// Constant first bytes of every response.
const RESPONSE_PREFIX: &[u8] = b"HTTP/1.";
/// Time between two checks of a client that has shut down its sending side.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Number of checks after which an incomplete body counts as cut off. Its last bytes may be in the
/// socket before the request reads them.
const MAX_CHECKS: u32 = 10;
/// Maximum pause of a client whose remaining bytes are discarded, and maximum wait for a client
/// without a request.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// State shared by the requests of a connection and its socket.
#[derive(Debug, Default)]
pub struct ClientState {
    /// True from the arrival of a request until its response is sent.
    waits: AtomicBool,
    /// True if the request's body is complete.
    complete: AtomicBool,
    /// True if the response is complete but not yet sent.
    answered: AtomicBool,
    /// True if the connection has had a request.
    has_requested: AtomicBool,
    /// True if bytes arrived that belong to no complete request.
    unread: AtomicBool,
}

impl ClientState {
    fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::Relaxed);
    }

    fn get(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    /// Marks the body of the request as complete.
    fn complete(&self) {
        Self::set(&self.complete, true);
        Self::set(&self.unread, false);
    }
}

/// Bounds of the bytes that are discarded before a socket is closed.
#[derive(Debug, Clone, Copy)]
pub struct DiscardLimits {
    /// Maximum number of bytes.
    pub bytes: usize,
    /// Maximum time for a client that has sent a request.
    pub time: Duration,
}

/// TCP stream with the state of its requests.
pub struct Socket {
    /// Taken out on drop.
    stream: Option<Pin<Box<TimeoutStream<TcpStream>>>>,
    /// Connection permit, released when the socket is closed.
    permit: Option<OwnedSemaphorePermit>,
    client: Arc<ClientState>,
    discard_limits: DiscardLimits,
    /// True if the client has shut down its sending side.
    ended: bool,
    /// True if the connection is broken.
    broken: bool,
    /// True if all written bytes are flushed.
    flushed: bool,
    /// True if the first bytes of the response were sent ahead.
    sent_ahead: bool,
    /// Number of bytes sent ahead that the response must skip.
    ahead: usize,
    check_timer: Option<Pin<Box<Sleep>>>,
    checks: u32,
}

impl Socket {
    /// Creates a socket; `write` is the time limit for the client to accept a chunk of a response.
    pub fn new(
        stream: TcpStream,
        write: Duration,
        discard_limits: DiscardLimits,
        permit: OwnedSemaphorePermit,
        client: Arc<ClientState>,
    ) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(write));
        Self {
            stream: Some(Box::pin(stream)),
            permit: Some(permit),
            client,
            discard_limits,
            ended: false,
            broken: false,
            flushed: true,
            sent_ahead: false,
            ahead: 0,
            check_timer: None,
            checks: 0,
        }
    }

    fn stream(&mut self) -> Pin<&mut TimeoutStream<TcpStream>> {
        let stream = self.stream.as_mut().expect("taken out only in the end");
        stream.as_mut()
    }

    /// Waits until a client that sends no more is disconnected, or its body is incomplete.
    fn poll_disconnected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let socket = self.stream().get_ref().take_error();
            if !matches!(socket, Ok(None)) {
                self.broken = true;
                return Poll::Ready(());
            }
            let is_complete = ClientState::get(&self.client.complete);
            if !is_complete && self.checks >= MAX_CHECKS {
                return Poll::Ready(());
            }
            // Bytes sent ahead must not interleave with an earlier response.
            let is_next = self.flushed && !ClientState::get(&self.client.answered);
            if is_complete && is_next && !self.sent_ahead {
                self.sent_ahead = true;
                match self.stream().get_ref().try_write(RESPONSE_PREFIX) {
                    Ok(n) => self.ahead = n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => {
                        self.broken = true;
                        return Poll::Ready(());
                    }
                }
            }
            let check_timer = self
                .check_timer
                .get_or_insert_with(|| Box::pin(sleep(CHECK_INTERVAL)));
            ready!(check_timer.as_mut().poll(cx));
            self.check_timer = None;
            self.checks += 1;
        }
    }

    fn record_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.flushed = false;
        self.broken |= matches!(written, Poll::Ready(Err(_)));
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ended {
            let before = buffer.filled().len();
            let read = ready!(this.stream().poll_read(cx, buffer));
            this.broken |= read.is_err();
            if read.is_err() || buffer.filled().len() > before || buffer.capacity() == before {
                ClientState::set(&this.client.unread, true);
                return Poll::Ready(read);
            }
            this.ended = true;
        }
        match ClientState::get(&this.client.waits) {
            true => this.poll_disconnected(cx).map(Ok),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let ahead = self.ahead.min(bytes.len());
        debug_assert!(ahead == 0 || bytes.starts_with(&RESPONSE_PREFIX[..ahead]));
        let written = match ahead == bytes.len() {
            true => Poll::Ready(Ok(0)),
            false => self.stream().poll_write(cx, &bytes[ahead..]),
        };
        if let Poll::Ready(Ok(_)) = written {
            self.ahead -= ahead;
        }
        self.record_write(written.map_ok(|n| n + ahead))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.ahead > 0 {
            let first = slices.iter().find(|s| !s.is_empty());
            return self.poll_write(cx, first.map_or(&[], |s| &s[..]));
        }
        let written = self.stream().poll_write_vectored(cx, slices);
        self.record_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|s| s.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream().poll_flush(cx))?;
        self.flushed = true;
        let client = &self.client;
        if ClientState::get(&client.answered) {
            ClientState::set(&client.answered, false);
            ClientState::set(&client.waits, false);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let has_unread = !self.ended && !self.broken && ClientState::get(&self.client.unread);
        let (Some(stream), permit) = (self.stream.take(), self.permit.take()) else {
            return;
        };
        let Some(runtime) = tokio::runtime::Handle::try_current()
            .ok()
            .filter(|_| has_unread)
        else {
            return;
        };
        let DiscardLimits { bytes, time } = self.discard_limits;
        let time = match ClientState::get(&self.client.has_requested) {
            true => time,
            false => MAX_PAUSE,
        };
        runtime.spawn(async move {
            let _ = timeout(time, discard(stream, bytes)).await;
            drop(permit);
        });
    }
}

/// Shuts down the sending side, then reads and discards up to `bytes` bytes.
async fn discard(mut stream: Pin<Box<TimeoutStream<TcpStream>>>, mut bytes: usize) {
    if poll_fn(|cx| stream.as_mut().poll_shutdown(cx))
        .await
        .is_err()
    {
        return;
    }
    let socket = stream.get_ref();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(Ok(())) = timeout(MAX_PAUSE, socket.readable()).await {
        match socket.try_read(&mut buffer) {
            Ok(n) if n > 0 && n <= bytes => bytes -= n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Service that handles the requests of one connection and updates its [`ClientState`].
pub struct Requests {
    router: TowerToHyperService<Router>,
    client: Arc<ClientState>,
}

impl Requests {
    /// Creates a service that forwards to `router`.
    pub fn new(router: Router, client: Arc<ClientState>) -> Self {
        Self {
            router: TowerToHyperService::new(router),
            client,
        }
    }
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = Arc::clone(&self.client);
        ClientState::set(&client.has_requested, true);
        ClientState::set(&client.waits, true);
        ClientState::set(&client.complete, false);
        ClientState::set(&client.answered, false);
        if request.body().is_end_stream() {
            client.complete();
        }
        let request = request.map(|body| {
            let client = Arc::clone(&client);
            Body::new(TrackedBody { body, client })
        });
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await;
            ClientState::set(&client.answered, true);
            answer
        })
    }
}

/// Request body that marks its completion in the connection's [`ClientState`].
struct TrackedBody {
    body: Incoming,
    client: Arc<ClientState>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.client.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
