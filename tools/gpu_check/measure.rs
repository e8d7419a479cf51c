//! Measures the networks and the front end on a GPU; `tools/gpu_check.sh` runs it.
//!
//! usage: `gpu MODEL.h5 [PEAK_TFLOPS BANDWIDTH_TBS]`; beside the model of windows lie the other four
//! networks.
//!
//! Writes tables in Markdown. Every time is the median of several runs after one that does not count.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maeum::audio::{Recording, Resampling};
use maeum::nn::cost;
use maeum::nn::cuda::front_end::FrontEnd;
use maeum::nn::cuda::{CudaPlan, CudaSession, Driver, Gpu, Stream, Timed};
use maeum::nn::{DropoutMode, Graph, Layer, Plan, Session};
use rayon::prelude::*;

#[path = "whole_way.rs"]
mod whole_way;

type Failure = Box<dyn Error + Send + Sync>;

/// Windows at a time.
const COUNTS: [usize; 4] = [1, 64, 1024, 16_384];
/// More windows than this would keep the CPU busy for long.
const MOST_ON_CPU: usize = 1024;
/// The windows at a time for which kernels are told apart.
const COUNT_OF_KERNELS: usize = 1024;
const RUNS: usize = 7;
/// The recordings of the front end's batch: seconds, and how many of them.
const SECONDS: usize = 10;
const RECORDINGS: usize = 512;
const RATES: [u32; 3] = [16_000, 44_100, 48_000];

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
    let (model, peaks) = match &*args {
        [model] => (model, None),
        [model, flops, bytes] => (model, Some((flops.parse()?, bytes.parse()?))),
        _ => return Err("usage: gpu MODEL.h5 [PEAK_TFLOPS BANDWIDTH_TBS]".into()),
    };
    let driver: Arc<dyn Driver> = Arc::new(Gpu::new(0)?);
    let graph = maeum::keras::load(model)?.graph;
    networks(&driver, &graph)?;
    kernels(&driver, &graph, peaks)?;
    front_end(&driver)?;
    let folder = Path::new(model).parent().ok_or("the model has no folder")?;
    whole_way::table(&driver, folder, &RATES, recording)
}

/// The median time of a few runs.
fn median(mut run: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begin = Instant::now();
        run()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[RUNS / 2])
}

/// Numbers between -1 and 1, the same on every machine.
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

fn networks(driver: &Arc<dyn Driver>, graph: &Graph) -> Result<(), Failure> {
    let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
    let values: usize = shapes[0].iter().product();
    let mut session = CudaSession::new(&Arc::new(CudaPlan::new(driver, graph, &shapes)?));
    let plan = Arc::new(Plan::new(graph, &shapes)?);
    let threads = rayon::current_num_threads();
    println!("### The network on windows, from memory to memory\n");
    println!(
        "| windows | {} | CPU, {threads} threads | largest difference |",
        driver.name()
    );
    println!("|---|---|---|---|");
    for count in COUNTS {
        let input = random(count * values);
        let time = median(|| Ok(session.run(&[&input], count, &DropoutMode::Off)?))?;
        let rate = |time: Duration| count as f64 / time.as_secs_f64();
        if count > MOST_ON_CPU {
            println!("| {count} | {:.0}/s | - | - |", rate(time));
            continue;
        }
        let share = count.div_ceil(threads);
        let mut sessions: Vec<Session> = (0..count.div_ceil(share))
            .map(|_| Session::new(&plan))
            .collect();
        let on_cpu = median(|| {
            sessions
                .par_iter_mut()
                .zip(input.par_chunks(share * values))
                .try_for_each(|(s, part)| s.run(&[part], part.len() / values, &DropoutMode::Off))?;
            Ok(())
        })?;
        let theirs: Vec<f32> = sessions.iter().flat_map(|s| s.output(0).to_vec()).collect();
        let differences = session
            .output(0)
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - b).abs());
        let worst = differences.fold(0.0, f32::max);
        println!(
            "| {count} | {:.0}/s | {:.0}/s | {worst:.1e} |",
            rate(time),
            rate(on_cpu)
        );
    }
    println!();
    Ok(())
}

fn kernels(
    driver: &Arc<dyn Driver>,
    graph: &Graph,
    peaks: Option<(f64, f64)>,
) -> Result<(), Failure> {
    let timed = Arc::new(Timed::new(driver.clone()));
    let inner: Arc<dyn Driver> = timed.clone();
    let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
    let count = COUNT_OF_KERNELS;
    let input = random(count * shapes[0].iter().product::<usize>());
    let plan = Arc::new(CudaPlan::new(&inner, graph, &shapes)?);
    let mut session = CudaSession::new(&plan);
    let mut by_kernel = BTreeMap::<String, Vec<Duration>>::new();
    let mut convolutions = Vec::new();
    for run in 0..=RUNS {
        timed.take();
        session.run(&[&input], count, &DropoutMode::Off)?;
        if run == 0 {
            continue;
        }
        let mut sums = BTreeMap::<String, Duration>::new();
        let launches = timed.take();
        let convs = launches
            .iter()
            .filter(|(kernel, _)| kernel.starts_with("conv"));
        convolutions.push(convs.map(|(_, took)| *took).collect::<Vec<_>>());
        for (kernel, took) in launches {
            *sums.entry(kernel).or_default() += took;
        }
        for (kernel, sum) in sums {
            by_kernel.entry(kernel).or_default().push(sum);
        }
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    };
    let times: Vec<(String, f64)> = by_kernel
        .into_iter()
        .map(|(kernel, mut times)| (kernel, middle(&mut times)))
        .collect();
    let all: f64 = times.iter().map(|(_, t)| t).sum();
    println!("### Its kernels, one at a time, {count} windows\n");
    println!("| kernel | time | share |\n|---|---|---|");
    for (kernel, time) in &times {
        println!(
            "| {kernel} | {:.3} ms | {:.0} % |",
            time * 1e3,
            100.0 * time / all
        );
    }
    println!();

    // The k-th convolution launched is the graph's k-th, if no layer takes two launches.
    let flops = cost::flops(graph, &shapes)?;
    let sizes = graph.infer_shapes(&shapes)?;
    let numbers = |shape: &[usize]| shape.iter().product::<usize>();
    let layers: Vec<(u64, usize)> = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.layer, Layer::Conv(_)))
        .map(|(i, node)| (flops[i], 4 * numbers(&sizes[node.inputs[0].0])))
        .collect();
    if convolutions.iter().any(|c| c.len() != layers.len()) {
        println!(
            "Skipped: convolutions one by one, which take another number of launches than layers.\n"
        );
        return Ok(());
    }
    println!("### Its convolutions, {count} windows\n");
    println!("| | time | arithmetic | of the peak | input read | of the bandwidth |");
    println!("|---|---|---|---|---|---|");
    for (k, (flops, bytes)) in layers.iter().enumerate() {
        let time = middle(&mut convolutions.iter().map(|c| c[k]).collect());
        let (tflops, tbs) = (
            *flops as f64 * count as f64 / time / 1e12,
            *bytes as f64 * count as f64 / time / 1e12,
        );
        let share = |value: f64, peak: Option<f64>| {
            peak.map_or("not known".into(), |peak| {
                format!("{:.0} %", 100.0 * value / peak)
            })
        };
        println!(
            "| {} | {:.3} ms | {tflops:.1} Tflop/s | {} | {tbs:.2} TB/s | {} |",
            k + 1,
            time * 1e3,
            share(tflops, peaks.map(|p| p.0)),
            share(tbs, peaks.map(|p| p.1)),
        );
    }
    println!();
    Ok(())
}

/// Something like speech: tones that come and go, and noise.
fn recording(rate: u32, seed: usize) -> Recording {
    let noise = random(SECONDS * rate as usize);
    let samples = noise.iter().enumerate().map(|(i, noise)| {
        let t = i as f32 / rate as f32;
        let syllable = (t * 9.0 + seed as f32).sin().max(0.0);
        let tone: f32 = (1..12)
            .map(|h| (t * 800.0 * h as f32).sin() / h as f32)
            .sum();
        0.2 * syllable * tone + 1e-3 * noise
    });
    Recording {
        samples: samples.collect(),
        sample_rate: rate,
        channels: 1,
        format: "made here".into(),
        clipped: 0,
        truncated: false,
        damaged_packets: 0,
    }
}

fn front_end(driver: &Arc<dyn Driver>) -> Result<(), Failure> {
    let hours = (RECORDINGS * SECONDS) as f64 / 3600.0;
    println!(
        "### {RECORDINGS} recordings of {SECONDS} s: hours of audio per second, and times real time\n"
    );
    println!("| rate | resampling | samples to windows and features |\n|---|---|---|");
    for rate in RATES {
        let few: Vec<Recording> = (0..16).map(|seed| recording(rate, seed)).collect();
        let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
        for resampling in [Resampling::Exact, Resampling::Fast] {
            let mut front_end = FrontEnd::new(driver.clone(), Stream::A, resampling)?;
            let time = median(|| {
                let (heard, _) = front_end.run(&batch)?;
                match heard.into_iter().find_map(Result::err) {
                    Some(error) => Err(error.into()),
                    None => Ok(()),
                }
            })?;
            let rate_of = hours / time.as_secs_f64();
            println!(
                "| {rate} Hz | {} | {rate_of:.2} h, {:.0}x |",
                resampling.name(),
                rate_of * 3600.0
            );
        }
    }
    println!();
    let timed = Arc::new(Timed::new(driver.clone()));
    let few: Vec<Recording> = (0..16).map(|seed| recording(44_100, seed)).collect();
    let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
    let mut front_end = FrontEnd::new(timed.clone(), Stream::A, Resampling::Exact)?;
    front_end.run(&batch)?;
    timed.take();
    let begin = Instant::now();
    front_end.run(&batch)?;
    let whole = begin.elapsed();
    println!("### The front end's kernels, one at a time, 44,100 Hz, exact\n");
    println!("| kernel | time |\n|---|---|");
    let launches = timed.take();
    for (kernel, took) in &launches {
        println!("| {kernel} | {:.3} ms |", took.as_secs_f64() * 1e3);
    }
    let kernels: Duration = launches.iter().map(|(_, took)| *took).sum();
    let rest = whole.saturating_sub(kernels);
    println!(
        "| copies, and voice told from silence on the CPU | {:.3} ms |\n",
        rest.as_secs_f64() * 1e3
    );
    Ok(())
}
