//! Removal of incomplete files when a signal ends the program.

/// Installs handlers of SIGINT, SIGTERM and SIGHUP that remove incomplete files and then end the
/// program. Signals that were ignored at program start stay ignored.
#[cfg(unix)]
pub fn remove_unfinished_files() {
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let (begun, has_begun) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("signals".into());
    // If the thread or the handlers cannot be installed, signals have their default effect.
    let spawned = thread.spawn(move || {
        let signals = Signals::new(handled_signals());
        let _ = begun.send(());
        let Ok(mut signals) = signals else { return };
        for signal in signals.forever() {
            // The guard prevents new files until the program ends.
            let _held = crate::atomic_file::remove_unfinished();
            let _ = emulate_default_handler(signal);
        }
    });
    if spawned.is_ok() {
        let _ = has_begun.recv();
    }
}

#[cfg(unix)]
fn handled_signals() -> Vec<i32> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Bit N - 1 is set if signal N is ignored.
    let ignored = mask.unwrap_or(0);
    let mut handled = vec![SIGINT, SIGTERM, SIGHUP];
    handled.retain(|signal| ignored >> (signal - 1) & 1 == 0);
    handled
}

#[cfg(not(unix))]
pub fn remove_unfinished_files() {}
