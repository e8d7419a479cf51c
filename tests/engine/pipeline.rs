//! The whole pipeline against the captured results of the original networks.
#![cfg(feature = "convert")]

use std::path::Path;
use std::sync::Arc;

use crate::common::{self, Golden};
use crate::spare_threads;
use maeum::audio::Resampling;
use maeum::audio::decode::decode_path;
use maeum::audio::vad::{Mode, SampleRate, Vad};
use maeum::formats::{Format, Reporter};
use maeum::front_end::legacy2020::FeatureExtractor;
use maeum::front_end::legacy2020::prepare;
use maeum::keras;
use maeum::model::ModelInfo;
use maeum::model::{Model, Network, Role};
use maeum::nn::network::Provenance;
use maeum::nn::{DropoutMode, Plan, Session};
use maeum::recognizer::Recognizer;

/// Maximum difference of emotion weights with dropout off: the `f32` networks agree to 1e-5, and a
/// value at a bin edge of the histogram may move one count.
const EMOTION_TOLERANCE: f64 = 2e-4;
/// Maximum difference of ages in years.
const AGE_TOLERANCE: f64 = 1e-3;
const GENDER_TOLERANCE: f64 = 1e-5;
/// Maximum differences of emotion weights, years and gender weights between fast and exact
/// resampling.
///
/// The exact filter has a gain of 1.0014 for downsampling and two transition bands above 7 kHz.
/// Noise differs most there, by up to 5e-3, 7e-3 years and 4e-3; speech differs by 2e-3, 4e-3 years
/// and 2e-4.
const FAST_TOLERANCE: [f64; 3] = [1e-2, 2e-2, 1e-2];
/// Maximum difference of a mean over draws from the captured mean in standard errors, and maximum
/// relative difference of the standard deviations.
const STANDARD_ERRORS: f64 = 4.0;
const DEVIATION_TOLERANCE: f64 = 0.1;

/// Maximum relative difference of a mel power: the Fourier transforms differ in their last bits
/// before rounding to `f32`.
const MEL_TOLERANCE: f64 = 1e-6;
/// Lower bound for the comparison of powers. Smaller powers vanish in `ln(1 + 1e6 * S)` and in
/// every sum with speech (about 1e-3).
const MEL_FLOOR: f64 = 1e-20;

fn original(dir: &Path) -> Recognizer {
    Recognizer::new(original_model(dir)).unwrap()
}

fn original_model(dir: &Path) -> Model {
    let files = [
        (Role::EmotionWindows, "Model_Emotion_crop.h5"),
        (Role::Age, "Model_Age_crop.h5"),
        (Role::Gender, "Model_Gender_crop.h5"),
        (Role::EmotionFeatures, "Model_Emotion_Features.h5"),
        (Role::Merge, "Model_Emotion_Merge.h5"),
    ];
    let networks = files
        .into_iter()
        .map(|(role, file)| Network {
            role,
            graph: keras::load(dir.join("models").join(file)).unwrap().graph,
            provenance: Provenance::default(),
            self_test: None,
        })
        .collect();
    Model::new(networks, ModelInfo::legacy2020()).unwrap()
}

#[test]
fn the_spectrogram_of_every_recording_is_the_captured_one() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let mut worst = 0.0f64;
    for name in common::all_recordings() {
        let recording = decode_path(common::recording(&dir, name)).unwrap();
        let mut detector = Vad::new(SampleRate::Khz16, Mode::Aggressive);
        let mut detector = |frame: &[i16; 480]| detector.is_speech(frame).unwrap();
        let prepared = prepare(&recording, &mut detector).unwrap();
        let mel = FeatureExtractor::new().mel(&prepared.signal).unwrap();
        let (shape, golden) = Golden::open(&dir, name).get::<f64>("mel");
        assert_eq!([40, mel.frames()], *shape, "{name}");
        for (got, want) in mel.data().iter().zip(&golden) {
            let difference = (got - want).abs() / want.abs().max(MEL_FLOOR);
            worst = worst.max(difference);
            assert!(
                difference < MEL_TOLERANCE,
                "{name}: {got} instead of {want}"
            );
        }
    }
    println!("largest relative difference: {worst:e}");
}

#[test]
fn answers_without_dropout_are_the_captured_ones() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let recognizer = original(&dir);
    let mut worker = recognizer.worker();
    let mut worst = [0.0f64; 3];
    for name in common::all_recordings() {
        let recording = decode_path(common::recording(&dir, name)).unwrap();
        let got = worker
            .recognize(&recording, name, &DropoutMode::Off)
            .unwrap();
        let mut golden = Golden::open(&dir, name);
        let (_, emotions) = golden.get::<f32>("final_det");
        for (e, (got, want)) in got.emotions.iter().zip(&emotions).enumerate() {
            let difference = (got.mean - f64::from(*want)).abs();
            worst[0] = worst[0].max(difference);
            assert!(
                difference < EMOTION_TOLERANCE,
                "{name} emotion {e}: {difference}"
            );
        }
        let (shape, ages) = golden.get::<f32>("age_crop.output_layer");
        assert_eq!(got.windows.len(), shape[0], "{name}");
        let mean = ages.iter().map(|&a| f64::from(a)).sum::<f64>() / ages.len() as f64;
        let years = mean * 7.69647 + 33.33587;
        let difference = (got.age.years - years).abs();
        worst[1] = worst[1].max(difference);
        assert!(difference < AGE_TOLERANCE, "{name} age: {difference}");
        let (_, genders) = golden.get::<f32>("gender_crop.output_layer");
        for (g, got) in got.gender.iter().enumerate() {
            let column = genders.iter().skip(g).step_by(2).map(|&x| f64::from(x));
            let want = column.sum::<f64>() / shape[0] as f64;
            let difference = (got - want).abs();
            worst[2] = worst[2].max(difference);
            assert!(
                difference < GENDER_TOLERANCE,
                "{name} gender {g}: {difference}"
            );
        }
        assert_eq!(
            got.voice.trimmed,
            golden.get::<bool>("vad_found").1[0],
            "{name}"
        );
        for window in &got.windows {
            let attention: f64 = window.attention.as_ref().unwrap().weights.iter().sum();
            assert!((attention - 1.0).abs() < 1e-5, "{name}: {attention}");
            assert!(window.time.start < window.time.end, "{name}");
            assert!(window.time.end <= got.voice.duration + 1e-3, "{name}");
        }
    }
    println!(
        "largest differences: emotions {:e}, age {:e} years, gender {:e}",
        worst[0], worst[1], worst[2]
    );
}

#[test]
fn answers_with_fast_resampling_are_close_to_exact_ones() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let fast = original_model(&dir).with_resampling(Resampling::Fast);
    let [exact, fast] = [original(&dir), Recognizer::new(fast.unwrap()).unwrap()];
    let (mut exact, mut fast) = (exact.worker(), fast.worker());
    let mut worst = [0.0f64; 3];
    for name in common::all_recordings() {
        let recording = decode_path(common::recording(&dir, name)).unwrap();
        let [want, got] = [&mut exact, &mut fast].map(|worker| {
            worker
                .recognize(&recording, name, &DropoutMode::Off)
                .unwrap()
        });
        assert_eq!(got.voice.trimmed, want.voice.trimmed, "{name}");
        let emotions = got.emotions.iter().zip(&want.emotions);
        let genders = got.gender.iter().zip(&want.gender);
        let differences = [
            emotions.fold(0.0, |d, (a, b)| f64::max(d, (a.mean - b.mean).abs())),
            (got.age.years - want.age.years).abs(),
            genders.fold(0.0, |d, (a, b)| f64::max(d, (a - b).abs())),
        ];
        println!("{name}: emotions, age, gender differ by {differences:?}");
        for (worst, d) in worst.iter_mut().zip(differences) {
            *worst = worst.max(d);
        }
    }
    println!("largest differences: emotions, age, gender {worst:?}");
    for (worst, limit) in worst.into_iter().zip(FAST_TOLERANCE) {
        assert!(worst < limit, "{worst} of {limit}");
    }
}

#[test]
fn age_and_gender_codes_are_the_captured_ones_to_the_digit() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let recognizer = original(&dir);
    let mut worker = recognizer.worker();
    let mut reporter = Reporter::new(Format::Codes, recognizer.info(), "").unwrap();
    for (name, response) in common::RESPONSES {
        let recording = decode_path(common::recording(&dir, name)).unwrap();
        let answer = worker.recognize(&recording, name, &DropoutMode::draws(32, 0));
        let line = reporter.recording(name, Ok(&answer.unwrap()));
        assert!(line.starts_with("{\"10001\": "), "{name}: {line}");
        assert_eq!(line.lines().count(), 1, "{name}: {line}");
        let (_, from_age) = line.split_once(", \"20000\"").unwrap();
        assert_eq!(
            format!("\"20000\"{from_age}"),
            format!("{response}\n"),
            "{name}"
        );
    }
}

#[test]
fn draws_have_the_captured_means_and_deviations() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let recognizer = original(&dir);
    let mut worker = recognizer.worker();
    let mut worst = [0.0f64; 2];
    for name in common::all_recordings() {
        let recording = decode_path(common::recording(&dir, name)).unwrap();
        let mut golden = Golden::open(&dir, name);
        let n = golden.get::<i64>("mc.n").1[0];
        let (_, means) = golden.get::<f32>("mc.final_mean");
        let (_, deviations) = golden.get::<f32>("mc.final_std");
        let mode = DropoutMode::draws(u32::try_from(n).unwrap(), 0);
        let got = worker.recognize(&recording, name, &mode).unwrap();
        for (e, got) in got.emotions.iter().enumerate() {
            let (mean, deviation) = (f64::from(means[e]), f64::from(deviations[e]));
            let errors = (got.mean - mean).abs() / (deviation / (n as f64).sqrt());
            let relative = (got.std / deviation - 1.0).abs();
            worst = [worst[0].max(errors), worst[1].max(relative)];
            assert!(
                errors < STANDARD_ERRORS,
                "{name} emotion {e}: {errors} standard errors"
            );
            assert!(
                relative < DEVIATION_TOLERANCE,
                "{name} emotion {e}: {relative}"
            );
        }
    }
    println!(
        "largest differences: {} standard errors, {} of a deviation",
        worst[0], worst[1]
    );
}

#[test]
fn windows_share_what_they_have_in_common() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let graph = keras::load(dir.join("models/Model_Emotion_crop.h5"))
        .unwrap()
        .graph;
    let sheet: Vec<f32> = (0..1000 * 40).map(|i| (i as f32 * 0.37).sin()).collect();
    let starts = [0, 100, 200, 300, 387, 500, 600, 608, 800];
    let windows = starts.map(|start| &sheet[start * 40..][..200 * 40]);
    let plan = Plan::new(&graph, &[vec![200, 40, 1]]).unwrap();
    let mut session = Session::new(&Arc::new(plan));
    let off = DropoutMode::Off;
    session
        .run(&[&windows.concat()], starts.len(), &off)
        .unwrap();
    let wanted = session.output(0).to_vec();
    session.run_windows(&sheet, &starts, &off).unwrap();
    assert_eq!(wanted, session.output(0));
}

#[test]
fn spare_threads_change_no_answer() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let recording = common::recording(&dir, common::SAMPLE);
    spare_threads::check(&original(&dir), &recording);
}
