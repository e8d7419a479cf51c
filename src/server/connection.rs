//! The socket of a connection: detects clients that are gone, and closes without losing an answer.
//!
//! - A client that shuts down its sending side after a complete request gets its answer; one that has
//!   gone away altogether does not keep its place in the queue. Both look the same until something
//!   is sent, so the first bytes of the answer, which are always the same, are sent ahead: a client
//!   that is gone refuses them.
//! - A client that sends before it reads receives a refusal: closing a socket with bytes in it that
//!   nobody has read would destroy the answer on its way. They are read and thrown away first,
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

/// The first bytes of every answer.
const AHEAD: &[u8] = b"HTTP/1.";
/// Time between two checks of a client that has shut down its sending side.
const LOOK: Duration = Duration::from_millis(50);
/// Checks after which a body that is not complete is taken to be cut off. Its last bytes may be here
/// before the request has taken them.
const LOOKS: u32 = 10;
/// Longest pause of a client whose remaining bytes are dropped; also the longest time for a client
/// that has sent no request.
const PAUSE: Duration = Duration::from_secs(2);

/// State that the requests of a connection share with its socket.
#[derive(Debug, Default)]
pub struct Client {
    /// A request has arrived, and its answer is not yet sent.
    waits: AtomicBool,
    /// The body of the request has arrived.
    complete: AtomicBool,
    /// The answer is complete, but not yet sent.
    answered: AtomicBool,
    /// A request was there.
    has_asked: AtomicBool,
    /// Bytes came that belong to no complete request.
    unread: AtomicBool,
}

impl Client {
    fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::Relaxed);
    }

    fn is(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }

    /// The body of the request is complete.
    fn complete(&self) {
        Self::set(&self.complete, true);
        Self::set(&self.unread, false);
    }
}

/// Bounds of the bytes that are read and dropped before a socket is closed.
#[derive(Debug, Clone, Copy)]
pub struct Remainder {
    /// Most bytes.
    pub bytes: usize,
    /// Longest time, for a client that has sent a request.
    pub time: Duration,
}

/// A TCP stream with the state of its requests.
pub struct Socket {
    /// Taken out in the end.
    stream: Option<Pin<Box<TimeoutStream<TcpStream>>>>,
    /// Given back when the socket is closed.
    place: Option<OwnedSemaphorePermit>,
    client: Arc<Client>,
    remainder: Remainder,
    /// The client sends no more.
    ended: bool,
    /// The connection is broken.
    broken: bool,
    /// Everything that was to be written is written.
    flushed: bool,
    /// The first bytes of the answer were sent ahead.
    probed: bool,
    /// Number of these bytes that the answer has yet to leave out.
    ahead: usize,
    look: Option<Pin<Box<Sleep>>>,
    looks: u32,
}

impl Socket {
    /// Waits at most `write` for the client to take a piece of an answer.
    pub fn new(
        stream: TcpStream,
        write: Duration,
        remainder: Remainder,
        place: OwnedSemaphorePermit,
        client: Arc<Client>,
    ) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(write));
        Self {
            stream: Some(Box::pin(stream)),
            place: Some(place),
            client,
            remainder,
            ended: false,
            broken: false,
            flushed: true,
            probed: false,
            ahead: 0,
            look: None,
            looks: 0,
        }
    }

    fn stream(&mut self) -> Pin<&mut TimeoutStream<TcpStream>> {
        let stream = self.stream.as_mut().expect("taken out only in the end");
        stream.as_mut()
    }

    /// Waits until a client that sends no more turns out to be gone, or its body to be incomplete.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let socket = self.stream().get_ref().take_error();
            if !matches!(socket, Ok(None)) {
                self.broken = true;
                return Poll::Ready(());
            }
            let is_complete = Client::is(&self.client.complete);
            if !is_complete && self.looks >= LOOKS {
                return Poll::Ready(());
            }
            // Among the bytes of an earlier answer they would be wrong.
            let is_next = self.flushed && !Client::is(&self.client.answered);
            if is_complete && is_next && !self.probed {
                self.probed = true;
                match self.stream().get_ref().try_write(AHEAD) {
                    Ok(n) => self.ahead = n,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => {
                        self.broken = true;
                        return Poll::Ready(());
                    }
                }
            }
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
            self.looks += 1;
        }
    }

    fn wrote(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
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
                Client::set(&this.client.unread, true);
                return Poll::Ready(read);
            }
            this.ended = true;
        }
        match Client::is(&this.client.waits) {
            true => this.poll_gone(cx).map(Ok),
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
        debug_assert!(ahead == 0 || bytes.starts_with(&AHEAD[..ahead]));
        let written = match ahead == bytes.len() {
            true => Poll::Ready(Ok(0)),
            false => self.stream().poll_write(cx, &bytes[ahead..]),
        };
        if let Poll::Ready(Ok(_)) = written {
            self.ahead -= ahead;
        }
        self.wrote(written.map_ok(|n| n + ahead))
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
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(|s| s.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream().poll_flush(cx))?;
        self.flushed = true;
        let client = &self.client;
        if Client::is(&client.answered) {
            Client::set(&client.answered, false);
            Client::set(&client.waits, false);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let has_rest = !self.ended && !self.broken && Client::is(&self.client.unread);
        let (Some(stream), place) = (self.stream.take(), self.place.take()) else {
            return;
        };
        let Some(runtime) = tokio::runtime::Handle::try_current()
            .ok()
            .filter(|_| has_rest)
        else {
            return;
        };
        let Remainder { bytes, time } = self.remainder;
        let time = match Client::is(&self.client.has_asked) {
            true => time,
            false => PAUSE,
        };
        runtime.spawn(async move {
            let _ = timeout(time, throw_away(stream, bytes)).await;
            drop(place);
        });
    }
}

/// Says that nothing more is sent and reads what still comes.
async fn throw_away(mut stream: Pin<Box<TimeoutStream<TcpStream>>>, mut bytes: usize) {
    if poll_fn(|cx| stream.as_mut().poll_shutdown(cx))
        .await
        .is_err()
    {
        return;
    }
    let socket = stream.get_ref();
    let mut buffer = vec![0; 16 << 10];
    while let Ok(Ok(())) = timeout(PAUSE, socket.readable()).await {
        match socket.try_read(&mut buffer) {
            Ok(n) if n > 0 && n <= bytes => bytes -= n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Service that answers the requests of one connection and keeps its [`Client`] current.
pub struct Requests {
    router: TowerToHyperService<Router>,
    client: Arc<Client>,
}

impl Requests {
    /// By `router`.
    pub fn new(router: Router, client: Arc<Client>) -> Self {
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
        Client::set(&client.has_asked, true);
        Client::set(&client.waits, true);
        Client::set(&client.complete, false);
        Client::set(&client.answered, false);
        if request.body().is_end_stream() {
            client.complete();
        }
        let request = request.map(|body| {
            let client = Arc::clone(&client);
            Body::new(Watched { body, client })
        });
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await;
            Client::set(&client.answered, true);
            answer
        })
    }
}

/// A body that says when it is complete.
struct Watched {
    body: Incoming,
    client: Arc<Client>,
}

impl HttpBody for Watched {
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
