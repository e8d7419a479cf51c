//! The log: lines to standard error from a thread of its own, so that no answer waits for its reader
//! and none is lost with it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// Lines that may wait for the reader; more are lost, and their number is logged.
const WAITING: usize = 4096;
/// Longest wait for the reader when the program ends.
const PATIENCE: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Answered once everything before it is written.
    End(SyncSender<()>),
}

/// The running log.
pub struct Log(SyncSender<Entry>);

/// Starts the log; `quiet` leaves out single requests.
pub fn start(quiet: bool) -> Log {
    let (sender, entries) = mpsc::sync_channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        sender: sender.clone(),
        lost: Arc::clone(&lost),
    };
    let thread = std::thread::Builder::new().name("log".into());
    // Without the thread there is no log, but there are answers.
    let _ = thread.spawn(move || write(&entries, &lost));
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
    /// Waits until everything is written, but not for ever.
    pub fn finish(self) {
        let (sender, written) = mpsc::sync_channel(1);
        if self.0.try_send(Entry::End(sender)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// Takes whole lines, without waiting.
#[derive(Clone)]
struct Lines {
    sender: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes. A reader that is gone, or a full disk, costs these lines and no others.
fn write(entries: &Receiver<Entry>, lost: &AtomicU64) {
    let mut out = io::stderr();
    for entry in entries {
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::End(written) => drop(written.try_send(())),
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let _ = writeln!(
                out,
                "{count} lines were lost: the log is not read fast enough"
            );
        }
    }
}
