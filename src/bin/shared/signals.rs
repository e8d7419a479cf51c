//! Cleaning up when a signal ends the program.

/// Has SIGINT, SIGTERM and SIGHUP remove the files that are not complete before they end the
/// program. Signals that the program was started to ignore stay ignored.
#[cfg(unix)]
pub fn remove_unfinished_files() {
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let (begun, has_begun) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("signals".into());
    // Without the thread or the handlers, a signal ends the program as ever.
    let spawned = thread.spawn(move || {
        let signals = Signals::new(wanted());
        let _ = begun.send(());
        let Ok(mut signals) = signals else { return };
        for signal in signals.forever() {
            // Held until the end, so that no file is begun after that.
            let _held = maeum::atomic_file::remove_unfinished();
            let _ = emulate_default_handler(signal);
        }
    });
    if spawned.is_ok() {
        let _ = has_begun.recv();
    }
}

#[cfg(unix)]
fn wanted() -> Vec<i32> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // A bit for each ignored signal, from that of number 1 on.
    let ignored = mask.unwrap_or(0);
    let mut wanted = vec![SIGINT, SIGTERM, SIGHUP];
    wanted.retain(|signal| ignored >> (signal - 1) & 1 == 0);
    wanted
}

#[cfg(not(unix))]
pub fn remove_unfinished_files() {}
