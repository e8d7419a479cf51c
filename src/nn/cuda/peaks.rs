//! What a device can do at most, measured.

use super::driver::{Arg, DeviceError, Driver, Launch, Stream};

/// Threads of a block, and what each of them does (peaks.cu).
const THREADS: u32 = 256;
const MULTIPLY_ADDS: f64 = 64.0;
const VECTORS: usize = 4;
/// Bytes of a vector.
const VECTOR: usize = 16;
/// The fastest of so many runs counts, after one that does not.
const RUNS: usize = 10;

/// How much is done to measure a device.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Blocks of 256 threads that compute.
    pub blocks: u32,
    /// Rounds of 64 multiply-adds in each thread.
    pub rounds: u32,
    /// Bytes that are copied, many times what the device's caches hold.
    pub bytes: usize,
}

impl Default for Effort {
    /// Some milliseconds of a large device, so many blocks that the last ones do not matter.
    fn default() -> Self {
        Self {
            blocks: 1 << 16,
            rounds: 256,
            bytes: 1 << 30,
        }
    }
}

/// What a device can do at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// Operations in `f32` a second, a multiply-add counting two: of a kernel that does nothing else,
    /// in registers.
    pub flops: f64,
    /// Bytes a second read and written, together: of a kernel that copies.
    pub bandwidth: f64,
}

impl Peaks {
    /// Runs the two kernels, with nothing else on the device, if nobody else uses it.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(driver: &dyn Driver, effort: Effort) -> Result<Self, DeviceError> {
        let results = driver.allocate(4 * THREADS as usize * effort.blocks as usize)?;
        // Towards 1, whatever it begins with.
        let numbers = [0.5f32, 0.5].map(Arg::from);
        let arithmetic = Launch {
            kernel: "peak_arithmetic",
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
        // SAFETY: the kernel's arguments; each thread writes one number, for which there is room.
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
            kernel: "peak_copy",
            grid: [blocks as u32, 1, 1],
            block: [THREADS, 1, 1],
            shared: 0,
            args: vec![Arg::from(&from), Arg::from(&to), Arg::from(vectors as u64)],
        };
        // SAFETY: the kernel's arguments; both buffers hold so many vectors.
        let time = unsafe { fastest(driver, &copy) }?;
        Ok(Self {
            flops,
            bandwidth: 2.0 * (vectors * VECTOR) as f64 / time,
        })
    }
}

/// Seconds of the fastest run.
///
/// # Safety
/// As [`Driver::launch`].
unsafe fn fastest(driver: &dyn Driver, launch: &Launch) -> Result<f64, DeviceError> {
    let mut events = Vec::new();
    for _ in 0..=RUNS {
        let from = driver.record(Stream::A)?;
        // SAFETY: the caller's promise.
        unsafe { driver.launch(Stream::A, launch) }?;
        events.push((from, driver.record(Stream::A)?));
    }
    let mut best = f64::INFINITY;
    for (from, to) in &events[1..] {
        best = best.min(driver.milliseconds(from, to)? / 1e3);
    }
    Ok(best)
}
