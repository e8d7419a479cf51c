//! Measurements of whole networks: rows per second, and difference from the CPU.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use maeum::nn::cuda::{CudaPlan, CudaSession, Driver, Timed};
use maeum::nn::{DropoutMode, Graph, Plan, Session};
use rayon::prelude::*;

use crate::{Failure, batch, median, median_of, network};

/// Networks of 2020 with other weights. Rows are windows, or recordings for the feature network.
const NETWORKS: [&str; 4] = [
    "arch_emotion_windows",
    "arch_age",
    "arch_gender",
    "arch_emotion_features",
];
/// Batch sizes.
const BATCHES: [usize; 4] = [1, 64, 1024, 16_384];
/// Maximum batch size on the CPU, to bound the time.
const MAX_ON_CPU: usize = 1024;

/// Rows per second of PyTorch, eager and compiled, by network and batch size.
type PytorchRates = HashMap<(String, usize), [Option<f64>; 2]>;

pub fn tables(driver: &Arc<dyn Driver>, folder: &str, other: Option<&str>) -> Result<(), Failure> {
    let other = other.map_or(Ok(PytorchRates::new()), read)?;
    println!("### Networks, rows a second on {}\n", driver.name());
    println!(
        "\"Host\" is from the host's memory and back to it. \"Device\" is from the device's memory to the \
         device's, by its own clock, everything in one part on one stream with events between the kernels; \
         so are PyTorch's times, whose two ratios follow. The difference is the largest from the CPU's \
         answers for the same random rows.\n"
    );
    println!(
        "| network | rows | host | device | CPU, {} threads | difference | PyTorch eager | compiled | device / eager | device / compiled |",
        rayon::current_num_threads()
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for name in NETWORKS {
        let graph = network(folder, name)?;
        for count in BATCHES {
            row(driver, name, &graph, count, &other)
                .map_err(|e| format!("{name}, {count} rows: {e}"))?;
        }
    }
    println!();
    Ok(())
}

fn row(
    driver: &Arc<dyn Driver>,
    name: &str,
    graph: &Graph,
    count: usize,
    other: &PytorchRates,
) -> Result<(), Failure> {
    let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
    let inputs = batch(&shapes, count);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let rate = |time: Duration| count as f64 / time.as_secs_f64();
    let mut session = CudaSession::new(&Arc::new(CudaPlan::new(driver, graph, &shapes)?));
    let host = median(|| Ok(session.run(&inputs, count, &DropoutMode::Off)?))?;
    let device = rate(on_device(driver, graph, &shapes, &inputs, count)?);
    let (cpu, difference) = match count > MAX_ON_CPU {
        true => ("-".into(), "-".into()),
        false => {
            let (time, outputs) = on_cpu(graph, &shapes, &inputs, count)?;
            let mut worst = 0.0f32;
            for (number, theirs) in outputs.iter().enumerate() {
                let ours = session.output(number);
                let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
                worst = apart.fold(worst, f32::max);
            }
            (format!("{:.0}", rate(time)), format!("{worst:.1e}"))
        }
    };
    let [eager, compiled] = other
        .get(&(name.to_owned(), count))
        .copied()
        .unwrap_or([None; 2]);
    let shown = |rate: Option<f64>| rate.map_or("-".into(), |r| format!("{r:.0}"));
    let ratio = |rate: Option<f64>| rate.map_or("-".into(), |r| format!("{:.2}", device / r));
    println!(
        "| {} | {count} | {:.0} | {device:.0} | {cpu} | {difference} | {} | {} | {} | {} |",
        name.trim_start_matches("arch_").replace('_', " "),
        rate(host),
        shown(eager),
        shown(compiled),
        ratio(eager),
        ratio(compiled),
    );
    Ok(())
}

/// Returns the time from the start of the first kernel to the end of the last one.
fn on_device(
    driver: &Arc<dyn Driver>,
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[&[f32]],
    count: usize,
) -> Result<Duration, Failure> {
    let timed = Arc::new(Timed::new(driver.clone()));
    let inner: Arc<dyn Driver> = timed.clone();
    let plan = Arc::new(CudaPlan::new(&inner, graph, shapes)?);
    // In a single part, copies come before the first and after the last kernel.
    let mut session = CudaSession::new(&plan).with_part(usize::MAX);
    median_of(|| {
        timed.take()?;
        session.run(inputs, count, &DropoutMode::Off)?;
        let timings = timed.take()?;
        Ok(timings.last().map_or(Duration::ZERO, |t| t.until))
    })
}

/// Runs on all CPU threads; returns the time and each output.
fn on_cpu(
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[&[f32]],
    count: usize,
) -> Result<(Duration, Vec<Vec<f32>>), Failure> {
    let plan = Arc::new(Plan::new(graph, shapes)?);
    let share = count.div_ceil(rayon::current_num_threads());
    let mut parts: Vec<(Session, Vec<&[f32]>, usize)> = (0..count)
        .step_by(share)
        .map(|start| {
            let rows = share.min(count - start);
            let part = |input: &&[f32]| -> usize { input.len() / count };
            let own = inputs
                .iter()
                .map(|i| &i[start * part(i)..][..rows * part(i)]);
            (Session::new(&plan), own.collect(), rows)
        })
        .collect();
    let time = median(|| {
        parts
            .par_iter_mut()
            .try_for_each(|(session, inputs, rows)| {
                session.run(inputs, *rows, &DropoutMode::Off)
            })?;
        Ok(())
    })?;
    let output = |number: usize| {
        parts
            .iter()
            .flat_map(move |(s, ..)| s.output(number).to_vec())
    };
    let outputs = (0..plan.outputs().len()).map(|n| output(n).collect());
    Ok((time, outputs.collect()))
}

/// Parses lines with a network's name, its batch size and two rates, either of which may be
/// missing.
fn read(path: &str) -> Result<PytorchRates, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let mut all = PytorchRates::new();
    for line in text.lines() {
        let [name, rows, eager, compiled] = *line.split(',').collect::<Vec<_>>() else {
            return Err(format!("{path}: {line} has not four fields").into());
        };
        let rates = [eager, compiled].map(|rate| rate.parse().ok());
        all.insert((name.into(), rows.parse()?), rates);
    }
    Ok(all)
}
