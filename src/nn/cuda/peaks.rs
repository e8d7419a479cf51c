//! Measured peak performance of a device.

use super::driver::{Arg, DeviceError, Driver, Launch, Stream};
use super::sources::names;

/// Threads per block, and work per thread (peaks.cu).
const THREADS: u32 = 256;
const MULTIPLY_ADDS: f64 = 64.0;
const VECTORS: usize = 4;
/// Bytes per vector.
const VECTOR: usize = 16;
/// Measured runs, after one warm-up run; the fastest counts.
const RUNS: usize = 10;

/// Amount of work for measuring a device.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Blocks of 256 threads for the arithmetic kernel.
    pub blocks: u32,
    /// Rounds of 64 multiply-adds per thread.
    pub rounds: u32,
    /// Bytes to copy; a large multiple of the device's caches.
    pub bytes: usize,
}

impl Default for Effort {
    /// A few milliseconds on a large device, with enough blocks to make the last wave negligible.
    fn default() -> Self {
        Self {
            blocks: 1 << 16,
            rounds: 256,
            bytes: 1 << 30,
        }
    }
}

/// Measured peak performance of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// `f32` operations per second of a kernel that computes in registers; a multiply-add counts
    /// two.
    pub flops: f64,
    /// Bytes read and written per second by a kernel that copies.
    pub bandwidth: f64,
}

impl Peaks {
    /// Runs the two kernels. Other work on the device distorts the result.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(driver: &dyn Driver, effort: Effort) -> Result<Self, DeviceError> {
        let results = driver.allocate(4 * THREADS as usize * effort.blocks as usize)?;
        // The iteration converges to 1 from any start.
        let numbers = [0.5f32, 0.5].map(Arg::from);
        let arithmetic = Launch {
            kernel: names::PEAK_ARITHMETIC,
            grid: [effort.blocks, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args: [
                vec![Arg::from(&results)],
                numbers.into(),
                vec![effort.rounds.into()],
            ]
            .concat(),
        };
        // SAFETY: the arguments match the kernel; each thread writes one of the allocated elements.
        let time = unsafe { fastest(driver, &arithmetic) }?;
        let threads = f64::from(THREADS) * f64::from(effort.blocks);
        let flops = 2.0 * MULTIPLY_ADDS * f64::from(effort.rounds) * threads / time;
        drop(results);

        let vectors = effort.bytes.min(driver.free_memory()? / 4) / VECTOR;
        let [from, to] = [
            driver.allocate(vectors * VECTOR)?,
            driver.allocate(vectors * VECTOR)?,
        ];
        let blocks = vectors.div_ceil(VECTORS * THREADS as usize).max(1);
        let copy = Launch {
            kernel: names::PEAK_COPY,
            grid: [blocks as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args: vec![Arg::from(&from), Arg::from(&to), Arg::from(vectors as u64)],
        };
        // SAFETY: the arguments match the kernel; both buffers hold `vectors` vectors.
        let time = unsafe { fastest(driver, &copy) }?;
        Ok(Self {
            flops,
            bandwidth: 2.0 * (vectors * VECTOR) as f64 / time,
        })
    }
}

/// Returns the seconds of the fastest run.
///
/// # Safety
/// See [`Driver::launch`].
unsafe fn fastest(driver: &dyn Driver, launch: &Launch) -> Result<f64, DeviceError> {
    let mut events = Vec::new();
    for _ in 0..=RUNS {
        let from = driver.record(Stream::A)?;
        // SAFETY: guaranteed by the caller.
        unsafe { driver.launch(Stream::A, launch) }?;
        events.push((from, driver.record(Stream::A)?));
    }
    let mut best = f64::INFINITY;
    for (from, to) in &events[1..] {
        best = best.min(driver.milliseconds(from, to)? / 1e3);
    }
    Ok(best)
}
