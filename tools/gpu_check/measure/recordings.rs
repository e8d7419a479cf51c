//! Measurements of recordings through the front end, and of the whole pipeline.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use maeum::audio::{Recording, Resampling};
use maeum::front_end::legacy2020::cuda::CudaFrontEnd;
use maeum::front_end::utterance;
use maeum::front_end::utterance::UtteranceExtractor;
use maeum::nn::cuda::{Driver, Stream, Timed};

use crate::kernels::table;
use crate::{Ceilings, Failure, RUNS, median, pipeline, random};

/// Duration in seconds of the recordings in a batch.
const SECONDS: usize = 10;
const RECORDINGS: usize = 512;
const RATES: [u32; 3] = [16_000, 44_100, 48_000];

/// Returns a speech-like signal: intermittent tones with noise.
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
    let mut recording = Recording::from_samples([0.0], rate).expect("the rate is supported");
    // Not rounded to 16 bits.
    recording.samples = samples.collect();
    recording
}

/// Runs a front end on a batch to completion.
type Run<'a> = Box<dyn FnMut(&[&Recording]) -> Result<(), Failure> + 'a>;

/// Returns the front ends of a device with their names.
fn front_ends<'a>(
    driver: &Arc<dyn Driver>,
    resampling: Resampling,
    extractor: &'a UtteranceExtractor,
) -> Result<[(&'static str, Run<'a>); 2], Failure> {
    let mut reference = CudaFrontEnd::new(driver.clone(), Stream::A, resampling)?;
    let mut utterance = utterance::cuda::CudaFrontEnd::new(driver.clone(), Stream::A, resampling)?;
    let device = driver.clone();
    let of_2020 = move |batch: &[&Recording]| {
        let (heard, _) = reference.run(batch)?;
        device.synchronise(Stream::A)?;
        first_error(heard)
    };
    let built_in = move |batch: &[&Recording]| first_error(utterance.analyse(extractor, batch)?);
    Ok([
        ("of 2020", Box::new(of_2020)),
        ("of the built-in model", Box::new(built_in)),
    ])
}

fn first_error<T, E: Into<Failure>>(results: Vec<Result<T, E>>) -> Result<(), Failure> {
    match results.into_iter().find_map(Result::err) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

pub fn tables(driver: &Arc<dyn Driver>, folder: &str, ceilings: &Ceilings) -> Result<(), Failure> {
    let hours = (RECORDINGS * SECONDS) as f64 / 3600.0;
    println!(
        "### {RECORDINGS} recordings of {SECONDS} s: hours of audio per second, and times real time\n"
    );
    println!("From samples to what the networks read, the CPU's part included.\n");
    println!(
        "| rate | resampling | front end of 2020 | of the built-in model |\n|---|---|---|---|"
    );
    let extractor = UtteranceExtractor::new();
    for rate in RATES {
        let few: Vec<Recording> = (0..16).map(|seed| recording(rate, seed)).collect();
        let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
        for resampling in [Resampling::Exact, Resampling::Fast] {
            print!("| {rate} Hz | {} |", resampling.name());
            for (_, mut run) in front_ends(driver, resampling, &extractor)? {
                let rate_of_work = hours / median(|| run(&batch))?.as_secs_f64();
                print!(" {rate_of_work:.2} h, {:.0}x |", rate_of_work * 3600.0);
            }
            println!();
        }
    }
    println!();
    let timed = Arc::new(Timed::new(driver.clone()));
    let on_timed: Arc<dyn Driver> = timed.clone();
    let few: Vec<Recording> = (0..16).map(|seed| recording(44_100, seed)).collect();
    let batch: Vec<&Recording> = few.iter().cycle().take(RECORDINGS).collect();
    for (name, mut run) in front_ends(&on_timed, Resampling::Exact, &extractor)? {
        let mut runs = Vec::new();
        let mut wholes = Vec::new();
        for _ in 0..=RUNS {
            timed.take()?;
            let begin = Instant::now();
            run(&batch)?;
            wholes.push(begin.elapsed());
            runs.push(timed.take()?);
        }
        println!("### The front end {name}: its kernels, 44,100 Hz, exact\n");
        table(&runs[1..], ceilings);
        wholes[1..].sort();
        println!(
            "The whole, with copies and what is decided on the CPU, {:.3} ms by the host's clock.\n",
            wholes[1 + RUNS / 2].as_secs_f64() * 1e3
        );
    }
    pipeline::table(driver, Path::new(folder), &RATES, recording)
}
