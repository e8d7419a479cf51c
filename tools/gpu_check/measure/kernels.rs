//! Measurements of single kernels.

use std::sync::Arc;
use std::time::Duration;

use maeum::nn::DropoutMode;
use maeum::nn::cuda::{CudaPlan, CudaSession, Driver, Timed, Timing};

use crate::{Ceilings, Failure, RUNS, batch, network};

const NETWORKS: [&str; 3] = ["arch_emotion_windows", "arch_age", "arch_emotion_features"];
/// Batch size.
const BATCH: usize = 1024;

pub fn tables(driver: &Arc<dyn Driver>, folder: &str, ceilings: &Ceilings) -> Result<(), Failure> {
    for name in NETWORKS {
        let graph = network(folder, name)?;
        let timed = Arc::new(Timed::new(driver.clone()));
        let inner: Arc<dyn Driver> = timed.clone();
        let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
        let inputs = batch(&shapes, BATCH);
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let plan = Arc::new(CudaPlan::new(&inner, &graph, &shapes)?);
        let mut session = CudaSession::new(&plan).with_part(usize::MAX);
        let mut runs = Vec::new();
        for _ in 0..=RUNS {
            timed.take()?;
            session.run(&inputs, BATCH, &DropoutMode::Off)?;
            runs.push(timed.take()?);
        }
        println!(
            "### Kernels of {}, {BATCH} rows\n",
            name.trim_start_matches("arch_").replace('_', " ")
        );
        table(&runs[1..], ceilings);
    }
    Ok(())
}

/// Maximum number of launches that are listed separately; above it, the launches of a kernel are
/// added up.
const MAX_LINES: usize = 20;

/// Subject of a table line.
struct Line<'a> {
    kernel: &'a str,
    launches: usize,
    flops: u64,
    bytes: u64,
    exact: bool,
    seconds: f64,
}

/// Prints a line per launch of a run, in order, or per kernel if there are many launches, with the
/// median time of all runs.
pub fn table(runs: &[Vec<Timing>], ceilings: &Ceilings) {
    println!(
        "| kernel | launches | time | share | Gflop/s | of measured | of theoretical | GB/s | of measured | of theoretical |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let lines = lines(runs);
    let all: f64 = lines.iter().map(|line| line.seconds).sum();
    let share = |value: f64, of: f64| format!("{:.1} %", 100.0 * value / of);
    for line in &lines {
        // The clock may be too coarse to have advanced.
        let seconds = line.seconds.max(f64::MIN_POSITIVE);
        let arithmetic = if line.flops > 0 {
            let rate = line.flops as f64 / seconds;
            let (measured, theoretical) = (ceilings.measured.flops, ceilings.limits.flops());
            let shares = [share(rate, measured), share(rate, theoretical)];
            format!("{:.0} | {} | {}", rate / 1e9, shares[0], shares[1])
        } else {
            "- | - | -".into()
        };
        let rate = line.bytes as f64 / seconds;
        let most = if line.exact { "" } else { "≤ " };
        println!(
            "| {} | {} | {:.4} ms | {} | {arithmetic} | {most}{:.0} | {most}{} | {most}{} |",
            line.kernel,
            line.launches,
            seconds * 1e3,
            share(seconds, all),
            rate / 1e9,
            share(rate, ceilings.measured.bandwidth),
            share(rate, ceilings.limits.bandwidth()),
        );
    }
    println!("\nTogether {:.3} ms.\n", all * 1e3);
}

fn lines(runs: &[Vec<Timing>]) -> Vec<Line<'_>> {
    let Some(first) = runs.first() else {
        return Vec::new();
    };
    let parallelism = first.len() > MAX_LINES;
    let mut lines: Vec<Line> = Vec::new();
    for (launch, timing) in first.iter().enumerate() {
        let all = runs.iter().filter_map(|run| Some(run.get(launch)?.time));
        let mut all: Vec<Duration> = all.collect();
        all.sort();
        let seconds = all[all.len() / 2].as_secs_f64();
        let work = timing.work;
        let same = lines.iter_mut().find(|line| line.kernel == timing.kernel);
        match same.filter(|_| parallelism) {
            Some(line) => {
                line.launches += 1;
                line.flops += work.flops.unwrap_or(0);
                line.bytes += work.bytes;
                line.exact &= work.exact;
                line.seconds += seconds;
            }
            None => lines.push(Line {
                kernel: &timing.kernel,
                launches: 1,
                flops: work.flops.unwrap_or(0),
                bytes: work.bytes,
                exact: work.exact,
                seconds,
            }),
        }
    }
    lines
}
