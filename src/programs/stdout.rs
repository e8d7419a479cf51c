//! Standard output, if the caller has not closed it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::app::sink::{Sink, SinkError};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Notes whether standard output is closed. The start of a Rust program opens `/dev/null` in place of a
/// closed standard output, and writing to it succeeds; the binaries therefore call this before that.
pub fn look() {
    #[cfg(unix)]
    if rustix::io::fcntl_getfd(rustix::stdio::stdout()) == Err(rustix::io::Errno::BADF) {
        CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Returns standard output.
///
/// # Errors
/// It was closed before the program began.
pub(super) fn open() -> Result<Sink, SinkError> {
    look();
    match CLOSED.load(Ordering::Relaxed) {
        true => Err(SinkError::Closed),
        false => Ok(Sink::stdout()),
    }
}
