//! Kernels one by one.

use std::sync::Arc;
use std::time::Duration;

use maeum::nn::DropoutMode;
use maeum::nn::cuda::{CudaPlan, CudaSession, Driver, Timed, Timing};

use crate::{Ceilings, Failure, RUNS, batch, network};

const NETWORKS: [&str; 3] = ["arch_emotion_windows", "arch_age", "arch_emotion_features"];
/// Rows at a time.
const COUNT: usize = 1024;

pub fn tables(driver: &Arc<dyn Driver>, folder: &str, ceilings: &Ceilings) -> Result<(), Failure> {
    for name in NETWORKS {
        let graph = network(folder, name)?;
        let timed = Arc::new(Timed::new(driver.clone()));
        let inner: Arc<dyn Driver> = timed.clone();
        let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
        let inputs = batch(&shapes, COUNT);
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let plan = Arc::new(CudaPlan::new(&inner, &graph, &shapes)?);
        let mut session = CudaSession::new(&plan).with_part(usize::MAX);
        let mut runs = Vec::new();
        for _ in 0..=RUNS {
            timed.take()?;
            session.run(&inputs, COUNT, &DropoutMode::Off)?;
            runs.push(timed.take()?);
        }
        println!(
            "### Kernels of {}, {COUNT} rows\n",
            name.trim_start_matches("arch_").replace('_', " ")
        );
        table(&runs[1..], ceilings);
    }
    Ok(())
}

/// A line for each launch of a run, in its order, with the median time of all runs.
pub fn table(runs: &[Vec<Timing>], ceilings: &Ceilings) {
    println!(
        "| kernel | time | share | Gflop/s | of measured | of theoretical | GB/s | of measured | of theoretical |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let Some(first) = runs.first() else { return };
    let middle = |launch: usize| {
        let mut times: Vec<Duration> = runs
            .iter()
            .filter_map(|r| Some(r.get(launch)?.time))
            .collect();
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let times: Vec<f64> = (0..first.len()).map(middle).collect();
    let all: f64 = times.iter().sum();
    let share = |value: f64, of: f64| format!("{:.1} %", 100.0 * value / of);
    for (timing, &time) in first.iter().zip(&times) {
        let work = timing.work;
        // A clock that has not moved tells nothing.
        let time = time.max(f64::MIN_POSITIVE);
        let arithmetic = match work.flops {
            Some(flops) if flops > 0 => {
                let rate = flops as f64 / time;
                let (measured, theoretical) = (ceilings.measured.flops, ceilings.limits.flops());
                let shares = [share(rate, measured), share(rate, theoretical)];
                format!("{:.0} | {} | {}", rate / 1e9, shares[0], shares[1])
            }
            _ => "- | - | -".into(),
        };
        let rate = work.bytes as f64 / time;
        let most = if work.exact { "" } else { "≤ " };
        println!(
            "| {} | {:.4} ms | {} | {arithmetic} | {most}{:.0} | {most}{} | {most}{} |",
            timing.kernel,
            time * 1e3,
            share(time, all),
            rate / 1e9,
            share(rate, ceilings.measured.bandwidth),
            share(rate, ceilings.limits.bandwidth()),
        );
    }
    println!("\nTogether {:.3} ms.\n", all * 1e3);
}
