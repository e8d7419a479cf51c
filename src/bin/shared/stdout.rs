//! Standard output, if the caller has not closed it.
//!
//! The start of a Rust program opens `/dev/null` in place of a closed standard output, and writing to
//! it succeeds. The descriptor is therefore looked at before that.

use std::sync::atomic::{AtomicBool, Ordering};

use maeum::app::sink::{Sink, SinkError};

static CLOSED: AtomicBool = AtomicBool::new(false);

#[cfg(unix)]
#[ctor::ctor(unsafe)]
fn look() {
    let flags = rustix::io::fcntl_getfd(rustix::stdio::stdout());
    CLOSED.store(flags == Err(rustix::io::Errno::BADF), Ordering::Relaxed);
}

/// Returns standard output.
///
/// # Errors
/// It was closed before the program began.
pub fn open() -> Result<Sink, SinkError> {
    match CLOSED.load(Ordering::Relaxed) {
        true => Err(SinkError::Closed),
        false => Ok(Sink::stdout()),
    }
}
