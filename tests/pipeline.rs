//! From the recording to the answer: the original networks on the recordings whose answers were
//! captured.
#![cfg(feature = "convert")]

mod common;

use std::path::Path;

use common::Golden;
use maeum::audio::decode::decode_path;
use maeum::keras;
use maeum::nn::model::{BundleInfo, Provenance};
use maeum::nn::{DropoutMode, Model, Network, Role};
use maeum::recognizer::Recognizer;

/// Emotion weights with dropout off, from wav to answer: the `f32` networks agree to 1e-5, the
/// histogram of a value at a bin edge may move one count.
const EMOTION_TOLERANCE: f64 = 2e-4;
/// In years.
const AGE_TOLERANCE: f64 = 1e-3;
const GENDER_TOLERANCE: f64 = 1e-5;
/// How many standard errors a mean over draws may be from the captured one, and what part of the
/// captured deviation ours may differ by.
const STANDARD_ERRORS: f64 = 4.0;
const DEVIATION_TOLERANCE: f64 = 0.1;

fn original(dir: &Path) -> Recognizer {
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
    Recognizer::new(Model::new(networks, BundleInfo::reference_2020()).unwrap()).unwrap()
}

#[test]
fn answers_without_dropout_are_the_captured_ones() {
    let Some(dir) = common::reference_dir() else {
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
            let attention: f64 = window.attention.iter().sum();
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
fn draws_have_the_captured_means_and_deviations() {
    let Some(dir) = common::reference_dir() else {
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
