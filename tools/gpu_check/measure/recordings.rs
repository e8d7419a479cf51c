//! Recordings through the front end, and on through a network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use maeum::audio::{Recording, Resampling};
use maeum::nn::DropoutMode;
use maeum::nn::cuda::front_end::FrontEnd;
use maeum::nn::cuda::{CudaPlan, CudaSession, Driver, Stream, Timed, bytes_mut};

use crate::kernels::table;
use crate::{Ceilings, Failure, RUNS, median, network, random};

/// The recordings of the batch: seconds, and how many of them.
const SECONDS: usize = 10;
const RECORDINGS: usize = 512;
const RATES: [u32; 3] = [16_000, 44_100, 48_000];

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

pub fn tables(driver: &Arc<dyn Driver>, folder: &str, ceilings: &Ceilings) -> Result<(), Failure> {
    let graph = &network(folder, "arch_emotion_windows")?;
    let hours = (RECORDINGS * SECONDS) as f64 / 3600.0;
    let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
    let values: usize = shapes[0].iter().product();
    let mut session = CudaSession::new(&Arc::new(CudaPlan::new(driver, graph, &shapes)?));
    println!(
        "### {RECORDINGS} recordings of {SECONDS} s: hours of audio per second, and times real time\n"
    );
    println!("The network takes its windows by way of the CPU's memory.\n");
    println!("| rate | resampling | samples to windows and features | and through the network |");
    println!("|---|---|---|---|");
    for rate in RATES {
        let few: Vec<Recording> = (0..16).map(|seed| recording(rate, seed)).collect();
        let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
        for resampling in [Resampling::Exact, Resampling::Fast] {
            let mut front_end = FrontEnd::new(driver.clone(), Stream::A, resampling)?;
            let mut run = |through_the_network: bool| {
                let (heard, inputs) = front_end.run(&batch)?;
                if let Some(error) = heard.into_iter().find_map(Result::err) {
                    return Err(error.into());
                }
                let count = match through_the_network {
                    true => inputs.window_count,
                    // One number, to wait for the last kernel.
                    false => 0,
                };
                let mut windows = vec![0f32; (count * values).max(1)];
                driver.download(Stream::A, inputs.windows, 0, bytes_mut(&mut windows))?;
                if count > 0 {
                    session.run(&[&windows], count, &DropoutMode::Off)?;
                }
                Ok(())
            };
            let shown = |time: Duration| {
                let rate = hours / time.as_secs_f64();
                format!("{rate:.2} h, {:.0}x", rate * 3600.0)
            };
            println!(
                "| {rate} Hz | {} | {} | {} |",
                resampling.name(),
                shown(median(|| run(false))?),
                shown(median(|| run(true))?)
            );
        }
    }
    println!();
    let timed = Arc::new(Timed::new(driver.clone()));
    let few: Vec<Recording> = (0..16).map(|seed| recording(44_100, seed)).collect();
    let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
    let mut front_end = FrontEnd::new(timed.clone(), Stream::A, Resampling::Exact)?;
    let mut runs = Vec::new();
    let mut wholes = Vec::new();
    for _ in 0..=RUNS {
        timed.take()?;
        let begin = Instant::now();
        front_end.run(&batch)?;
        driver.synchronise(Stream::A)?;
        wholes.push(begin.elapsed());
        runs.push(timed.take()?);
    }
    println!("### The front end's kernels, 44,100 Hz, exact\n");
    table(&runs[1..], ceilings);
    wholes[1..].sort();
    println!(
        "The whole, with copies and voice told from silence on the CPU, {:.3} ms by the host's clock.\n",
        wholes[1 + RUNS / 2].as_secs_f64() * 1e3
    );
    Ok(())
}
