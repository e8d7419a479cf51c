//! What each stage of a whole recording costs, from its bytes to the answer, on one thread.
//!
//! `cargo bench --bench recording`. The recording is `tests/data/voice.wav`, repeated until it is
//! as long as the original system's own sample. With the original files in `MAEUM_REFERENCE_DIR`
//! (default `../shared`) the answers of their bundle are measured too.

use std::path::PathBuf;
use std::sync::LazyLock;

use divan::{Bencher, black_box};
use maeum::Recognizer;
use maeum::audio::Recording;
use maeum::audio::decode::{decode, decode_path};
use maeum::audio::resample::{INTERMEDIATE_RATE, TARGET_RATE, resample, to_target_rate};
use maeum::audio::vad::{Mode, SampleRate, Vad};
use maeum::front_end::Mel;
use maeum::front_end::legacy2020::trim::{FRAME, detector_input, frames};
use maeum::front_end::legacy2020::{FeatureExtractor, histogram, moments, transforms, windows};
use maeum::front_end::legacy2020::{Prepared, clean, prepare};
use maeum::front_end::utterance::UtteranceExtractor;
use maeum::nn::DropoutMode;

/// Samples of the original system's sample, 6.3 s.
const SAMPLES: usize = 100_584;
/// As many as the command line program takes.
const DRAWS: u32 = 32;

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/voice.wav");
    let mut recording = decode_path(path).unwrap();
    recording.samples = recording
        .samples
        .iter()
        .copied()
        .cycle()
        .take(SAMPLES)
        .collect();
    recording
});

static RESAMPLED: LazyLock<Vec<f32>> =
    LazyLock::new(|| to_target_rate(&RECORDING.samples, TARGET_RATE));

static PREPARED: LazyLock<Prepared> =
    LazyLock::new(|| prepare(&RECORDING, &mut detector()).unwrap());

static EXTRACTOR: LazyLock<FeatureExtractor> = LazyLock::new(FeatureExtractor::new);

static MEL: LazyLock<Mel> = LazyLock::new(|| EXTRACTOR.mel(&PREPARED.signal).unwrap());

fn detector() -> impl FnMut(&[i16; FRAME]) -> bool {
    let mut vad = Vad::new(SampleRate::Khz16, Mode::Aggressive);
    move |frame| vad.is_speech(frame).unwrap()
}

fn main() {
    divan::main();
}

/// A WAV file with the recording in it.
fn wav() -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: TARGET_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).unwrap();
    for x in &RECORDING.samples {
        writer.write_sample((x * 32768.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
    bytes.into_inner()
}

mod audio {
    use super::*;

    #[divan::bench]
    fn wav_decode(bencher: Bencher) {
        let bytes = wav();
        bencher.bench(|| decode(black_box(&bytes), "bench").unwrap());
    }

    #[divan::bench(args = [8_000, 16_000, 44_100, 48_000])]
    fn resample_exactly_to_22050(bencher: Bencher, rate: u32) {
        let samples = (RECORDING.seconds() * f64::from(rate)) as usize;
        let x: Vec<f32> = RECORDING
            .samples
            .iter()
            .copied()
            .cycle()
            .take(samples)
            .collect();
        bencher.bench(|| resample(black_box(&x), rate, INTERMEDIATE_RATE));
    }

    #[divan::bench]
    fn resample_exactly_from_22050(bencher: Bencher) {
        let x = resample(&RECORDING.samples, TARGET_RATE, INTERMEDIATE_RATE);
        bencher.bench(|| resample(black_box(&x), INTERMEDIATE_RATE, TARGET_RATE));
    }

    #[divan::bench]
    fn wiener(bencher: Bencher) {
        LazyLock::force(&RESAMPLED);
        bencher.bench(|| clean::wiener(black_box(&RESAMPLED)));
    }

    #[divan::bench]
    fn voice_activity(bencher: Bencher) {
        let heard = detector_input(&PREPARED.signal);
        bencher.bench(|| {
            let mut detect = detector();
            frames(black_box(&heard))
                .filter(|frame| detect(frame))
                .count()
        });
    }

    #[divan::bench]
    fn all_until_trimmed(bencher: Bencher) {
        bencher.bench(|| prepare(black_box(&RECORDING), &mut detector()).unwrap());
    }
}

mod features {
    use super::*;

    #[divan::bench]
    fn mel(bencher: Bencher) {
        LazyLock::force(&PREPARED);
        bencher.bench(|| EXTRACTOR.mel(black_box(&PREPARED.signal)).unwrap());
    }

    #[divan::bench]
    fn log(bencher: Bencher) {
        LazyLock::force(&MEL);
        bencher.bench(|| black_box(&*MEL).log());
    }

    #[divan::bench]
    fn normalised_windows(bencher: Bencher) {
        LazyLock::force(&MEL);
        bencher.bench(|| windows::normalize(black_box(&MEL)).unwrap().windows());
    }

    #[divan::bench]
    fn cosine_and_sine_transform(bencher: Bencher) {
        let log = MEL.log();
        bencher.bench(|| transforms::dct_dst(black_box(&log)));
    }

    #[divan::bench]
    fn histograms(bencher: Bencher) {
        let log = MEL.log();
        bencher.bench(|| histogram::histogram(black_box(&log)));
    }

    #[divan::bench]
    fn central_moments(bencher: Bencher) {
        let log = MEL.log();
        bencher.bench(|| moments::moments(black_box(&log)));
    }

    #[divan::bench]
    fn all_of_2020(bencher: Bencher) {
        LazyLock::force(&PREPARED);
        bencher.bench(|| EXTRACTOR.extract(black_box(&PREPARED.signal)).unwrap());
    }

    #[divan::bench]
    fn utterance(bencher: Bencher) {
        let extractor = UtteranceExtractor::new();
        let signal: Vec<f64> = RECORDING.samples.iter().map(|x| f64::from(*x)).collect();
        bencher.bench(|| extractor.analyse(black_box(&signal)).unwrap());
    }
}

mod answer {
    use super::*;

    fn measure(bencher: Bencher, recognizer: &Recognizer) {
        let bytes = wav();
        let mut worker = recognizer.worker();
        let draws = DropoutMode::draws(DRAWS, 0);
        bencher.bench_local(|| {
            let recording = decode(black_box(&bytes), "bench").unwrap();
            worker.recognize(&recording, "bench", &draws).unwrap()
        });
    }

    #[cfg(feature = "default-model")]
    #[divan::bench]
    fn default_bundle(bencher: Bencher) {
        let model = maeum::default_model::load().unwrap();
        measure(bencher, &Recognizer::new(model).unwrap());
    }

    #[cfg(feature = "convert")]
    fn reference() -> Option<maeum::model::Model> {
        let dir = std::env::var_os("MAEUM_REFERENCE_DIR").map_or_else(
            || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
            PathBuf::from,
        );
        let models = dir.join("models");
        if !models.is_dir() {
            eprintln!("left out: no original files in {}", models.display());
            return None;
        }
        let mut files = maeum::model::from_keras::SpeechFiles::default();
        files.add_folder(&models).unwrap();
        Some(files.convert("the folder").unwrap())
    }

    #[cfg(feature = "convert")]
    #[divan::bench]
    fn reference_bundle(bencher: Bencher) {
        if let Some(model) = reference() {
            measure(bencher, &Recognizer::new(model).unwrap());
        }
    }
}
