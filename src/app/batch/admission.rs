//! Admission of recordings to a batch: bounds the memory of decoded sound and the number of finished
//! outcomes that wait for an earlier one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Memory for decoded recordings in progress, in bytes, unless the system sets a lower limit.
///
/// 1 GiB holds eleven minutes of audio at 48 kHz for each of eight threads. A larger recording is
/// processed alone. The memory of the analysis is additional.
const BUDGET: u64 = 1 << 30;
/// Divisor of a container's memory limit that gives the part for decoded recordings.
const PART_OF_LIMIT: u64 = 4;

/// Admission of recordings in order.
#[derive(Debug)]
pub struct Admission {
    state: Mutex<State>,
    changed: Condvar,
    /// Largest number of recordings in progress or not yet forwarded.
    window: usize,
    budget: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Number of forwarded recordings.
    done: usize,
    /// Bytes of the admitted recordings.
    used: u64,
    closed: bool,
}

/// Permission to process a recording, valid until dropped.
#[derive(Debug)]
pub struct Permit<'a> {
    admission: &'a Admission,
    bytes: u64,
}

impl Admission {
    /// Creates an admission of at most `window` recordings.
    pub fn new(window: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            window: window.max(1),
            budget: budget(),
        }
    }

    /// Waits until recording `number` with the expected size `bytes` may start. Returns `None` once
    /// the admission is closed.
    pub fn enter(&self, number: usize, bytes: u64) -> Option<Permit<'_>> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let is_near = number < state.done.saturating_add(self.window);
            let has_room = state.used == 0 || state.used.saturating_add(bytes) <= self.budget;
            if is_near && has_room {
                state.used = state.used.saturating_add(bytes);
                return Some(Permit {
                    admission: self,
                    bytes,
                });
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a forwarded recording.
    pub fn forward(&self) {
        self.lock().done += 1;
        self.changed.notify_all();
    }

    /// Refuses all further recordings.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Replaces the expected memory by the actual `bytes`.
    pub fn settle(&mut self, bytes: u64) {
        let mut state = self.admission.lock();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        self.admission.changed.notify_all();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.settle(0);
    }
}

/// Returns the memory for decoded recordings, in bytes.
pub fn budget() -> u64 {
    // cgroup v2; the file reads `max` without a limit.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit: Option<u64> = limit.and_then(|limit| limit.trim().parse().ok());
    limit.map_or(BUDGET, |limit| BUDGET.min(limit / PART_OF_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_wait_for_memory_and_for_those_before_them() {
        let admission = Admission {
            budget: 100,
            ..Admission::new(3)
        };
        let mut first = admission.enter(0, 500).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| admission.enter(1, 60).unwrap());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!second.is_finished(), "500 of 100 bytes are in use");
            first.settle(40);
            let second = second.join().unwrap();
            assert_eq!(admission.lock().used, 100);
            drop((first, second));
            assert_eq!(admission.lock().used, 0);
            let fourth = scope.spawn(|| admission.enter(3, 0).is_some());
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert!(!fourth.is_finished(), "none of three has been forwarded");
            admission.forward();
            assert!(fourth.join().unwrap());
            let never = scope.spawn(|| admission.enter(4, 0).is_some());
            std::thread::sleep(std::time::Duration::from_millis(50));
            admission.close();
            assert!(!never.join().unwrap());
        });
    }
}
