//! Share of the CPU's front end that this program gets.

use std::arch::asm;
use std::time::Instant;

/// Number of measurements.
const RUNS: usize = 2_000;
/// Steps of a measurement, about 20 microseconds.
const STEPS: usize = 5_000;

/// Returns the median rate of a loop of no-operations as a share of its best one.
///
/// Only the front end of the CPU limits this loop. The threads of a core share the front end, so a share well below 1 shows
/// another busy thread on the core, perhaps of another virtual machine. A kernel loses more by it than the peak, which
/// takes a third of the front end.
pub fn share() -> f64 {
    let time = |_| {
        let start = Instant::now();
        for _ in 0..STEPS {
            // SAFETY: the instructions do nothing.
            unsafe {
                asm!(
                    ".rept 64",
                    "nop",
                    ".endr",
                    options(nomem, nostack, preserves_flags)
                );
            }
        }
        start.elapsed().as_secs_f64()
    };
    let mut times: Vec<f64> = (0..RUNS).map(time).collect();
    times.sort_by(f64::total_cmp);
    // The first hundredth stands for the best: a clock may be read early.
    times[RUNS / 100] / times[RUNS / 2]
}
