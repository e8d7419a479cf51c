//! From files to answers, as `infer --device cuda` does it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use maeum::Recognizer;
use maeum::app::batch::Batch;
use maeum::app::inputs;
use maeum::audio::{Recording, Resampling};
use maeum::model::ModelInfo;
use maeum::model::{Model, Network, Role};
use maeum::nn::DropoutMode;
use maeum::nn::cuda::Driver;
use maeum::nn::network::Provenance;

use crate::Failure;

/// The networks of 2020, by their files in `tests/golden`.
const NETWORKS: [(Role, &str); 5] = [
    (Role::EmotionWindows, "arch_emotion_windows.h5"),
    (Role::Age, "arch_age.h5"),
    (Role::Gender, "arch_gender.h5"),
    (Role::EmotionFeatures, "arch_emotion_features.h5"),
    (Role::Merge, "arch_emotion_merge.h5"),
];
/// Recordings of a run, and the files that they are read from in turns.
const RECORDINGS: usize = 4096;
const FILES: usize = 16;
/// Runs after one that does not count.
const RUNS: usize = 3;
const DRAWS: u32 = 32;

fn model(folder: &Path, resampling: Resampling) -> Result<Model, Failure> {
    let network = |(role, file)| -> Result<Network, Failure> {
        Ok(Network {
            role,
            graph: maeum::keras::load(folder.join(file))?.graph,
            provenance: Provenance::default(),
            self_test: None,
        })
    };
    let networks = NETWORKS
        .into_iter()
        .map(network)
        .collect::<Result<_, _>>()?;
    let info = ModelInfo {
        resampling,
        ..ModelInfo::legacy2020()
    };
    Ok(Model::new(networks, info)?)
}

fn write(path: &Path, recording: &Recording) -> Result<(), Failure> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: recording.sample_rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for x in &recording.samples {
        writer.write_sample((x * 32767.0) as i16)?;
    }
    Ok(writer.finalize()?)
}

/// Writes the table; `recording` gives one of this rate by its number.
pub fn table(
    driver: &Arc<dyn Driver>,
    folder: &Path,
    rates: &[u32],
    recording: impl Fn(u32, usize) -> Recording,
) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism()?.get();
    println!(
        "### From {RECORDINGS} WAV files to answers with {DRAWS} draws, {threads} threads of the CPU: hours of audio per second, and times real time\n"
    );
    println!("The way of `infer --device cuda`; the files are in the system's cache.\n");
    println!("| rate | resampling | files to answers |\n|---|---|---|");
    for &rate in rates {
        let dir = tempfile::tempdir()?;
        let mut paths = Vec::new();
        let mut seconds = 0.0;
        for number in 0..FILES {
            let path = dir.path().join(format!("{number}.wav"));
            let recording = recording(rate, number);
            seconds += recording.seconds() * (RECORDINGS / FILES) as f64;
            write(&path, &recording)?;
            paths.push(path);
        }
        let paths: Vec<_> = paths.into_iter().cycle().take(RECORDINGS).collect();
        let inputs = inputs::collect(&paths).inputs;
        for resampling in [Resampling::Exact, Resampling::Fast] {
            let recognizer = Recognizer::new(model(folder, resampling)?)?;
            let draws = DropoutMode::draws(DRAWS, 1);
            let batch = Batch::new(&recognizer, draws, threads)?.on_device(driver)?;
            let mut times = Vec::new();
            for _ in 0..=RUNS {
                let begin = Instant::now();
                batch.run(&inputs, |_, outcome| outcome.map(drop))?;
                times.push(begin.elapsed());
            }
            times[1..].sort();
            let time: Duration = times[1 + RUNS / 2];
            let speed = seconds / time.as_secs_f64();
            println!(
                "| {rate} Hz | {} | {:.2} h, {speed:.0}x |",
                resampling.name(),
                speed / 3600.0
            );
        }
    }
    println!();
    Ok(())
}
