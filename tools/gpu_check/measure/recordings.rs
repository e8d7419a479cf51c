//! Recordings through the front end, and all the way to answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use maeum::audio::{Recording, Resampling};
use maeum::nn::cuda::front_end::FrontEnd;
use maeum::nn::cuda::{Driver, Stream, Timed};

use crate::kernels::table;
use crate::{Ceilings, Failure, RUNS, median, random, whole_way};

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
                driver.synchronise(Stream::A)?;
                match heard.into_iter().find_map(Result::err) {
                    Some(error) => Err(error.into()),
                    None => Ok(()),
                }
            })?;
            let rate_of_work = hours / time.as_secs_f64();
            println!(
                "| {rate} Hz | {} | {rate_of_work:.2} h, {:.0}x |",
                resampling.name(),
                rate_of_work * 3600.0
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
    whole_way::table(driver, Path::new(folder), &RATES, recording)
}
