//! Measures the networks and the front end on a GPU; `tools/gpu_check.sh` runs it.
//!
//! Usage: `gpu device`
//! `gpu networks FOLDER [PYTORCH.csv]`
//! `gpu kernels FOLDER`
//! `gpu recordings FOLDER`
//!
//! FOLDER contains the networks' `.h5` files (tests/golden). The output is Markdown. Times are
//! medians of several runs after one warm-up run.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maeum::nn::cuda::{Driver, Effort, Gpu, Peaks};
use maeum::nn::{Graph, cuda::Limits};

mod kernels;
mod networks;
mod pipeline;
mod recordings;

type Failure = Box<dyn Error + Send + Sync>;

const RUNS: usize = 7;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("gpu: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if args == ["--bench"] {
        println!("gpu measures only for tools/gpu_check.sh");
        return Ok(());
    }
    let gpu = Gpu::new(0)?;
    let limits = gpu.limits();
    let driver: Arc<dyn Driver> = Arc::new(gpu);
    match *args {
        ["device"] => {
            println!("{}", driver.name());
            Ok(())
        }
        ["networks", folder] => networks::tables(&driver, folder, None),
        ["networks", folder, other] => networks::tables(&driver, folder, Some(other)),
        ["kernels", folder] => {
            let ceilings = Ceilings::of(&*driver, limits)?;
            kernels::tables(&driver, folder, &ceilings)
        }
        ["recordings", folder] => {
            let ceilings = Ceilings::of(&*driver, limits)?;
            recordings::tables(&driver, folder, &ceilings)
        }
        _ => Err("usage: gpu device|networks|kernels|recordings [FOLDER [PYTORCH.csv]]".into()),
    }
}

/// Peak rates of the device: measured in this run, and derived from its clocks.
struct Ceilings {
    measured: Peaks,
    limits: Limits,
}

impl Ceilings {
    fn of(driver: &dyn Driver, limits: Limits) -> Result<Self, Failure> {
        let measured = Peaks::measure(driver, Effort::default())?;
        println!(
            "At most {:.1} Tflop/s in fp32 (theoretically {:.1}: {} multiprocessors at {} MHz) and \
             {:.2} TB/s (theoretically {:.2}: {} bits at {} MHz), measured in the same run: a kernel of \
             multiply-adds in registers, and one that copies, bytes read and written.\n",
            measured.flops / 1e12,
            limits.flops() / 1e12,
            limits.multiprocessors,
            limits.clock / 1000,
            measured.bandwidth / 1e12,
            limits.bandwidth() / 1e12,
            limits.memory_width,
            limits.memory_clock / 1000,
        );
        Ok(Self { measured, limits })
    }
}

/// Loads a network from a file of the folder.
fn network(folder: &str, name: &str) -> Result<Graph, Failure> {
    Ok(maeum::keras::load(format!("{folder}/{name}.h5"))?.graph)
}

/// Returns the median time of a few runs, by the host's clock.
fn median(mut run: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    median_of(|| {
        let begin = Instant::now();
        run()?;
        Ok(begin.elapsed())
    })
}

/// Returns the median of a few runs that measure their own time.
fn median_of(mut run: impl FnMut() -> Result<Duration, Failure>) -> Result<Duration, Failure> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(run()?);
    }
    times.sort();
    Ok(times[RUNS / 2])
}

/// Returns reproducible floats between -1 and 1.
fn random(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Returns a batch of random rows for each input.
fn batch(shapes: &[Vec<usize>], rows: usize) -> Vec<Vec<f32>> {
    let numbers = |shape: &Vec<usize>| random(rows * shape.iter().product::<usize>());
    shapes.iter().map(numbers).collect()
}
