//! Log to standard error from its own thread, so that a slow or closed reader delays no response.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// Maximum number of waiting lines; further lines are dropped and counted.
const QUEUE_LENGTH: usize = 4096;
/// Maximum wait for the reader at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Flush request, acknowledged when all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Handle of the running log.
pub struct Log(SyncSender<Entry>);

/// Starts the log; `quiet` omits single requests.
pub fn start(quiet: bool) -> Log {
    let (sender, entries) = mpsc::sync_channel(QUEUE_LENGTH);
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = LineWriter {
        sender: sender.clone(),
        dropped: Arc::clone(&dropped),
    };
    let thread = std::thread::Builder::new().name("log".into());
    // If the thread cannot start, the server runs without a log.
    let _ = thread.spawn(move || write(&entries, &dropped));
    tracing_subscriber::fmt()
        .with_writer(move || lines.clone())
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(match quiet {
            true => tracing::Level::WARN,
            false => tracing::Level::INFO,
        })
        .init();
    Log(sender)
}

impl Log {
    /// Waits until all lines are written, at most [`FLUSH_TIMEOUT`].
    pub fn finish(self) {
        let (sender, written) = mpsc::sync_channel(1);
        if self.0.try_send(Entry::Flush(sender)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Writer that queues whole lines without blocking.
#[derive(Clone)]
struct LineWriter {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes entries to standard error. A line that cannot be written is dropped.
fn write(entries: &Receiver<Entry>, dropped: &AtomicU64) {
    let mut out = io::stderr();
    for entry in entries {
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Flush(written) => drop(written.try_send(())),
        }
        let count = dropped.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(
                out,
                "{count} lines were lost: the log is not read fast enough"
            );
        }
    }
}
