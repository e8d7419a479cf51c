//! Built-in models: comparison with Keras and with their model cards.
#![cfg(all(feature = "default-model", feature = "convert"))]

use std::f64::consts::PI;
use std::path::PathBuf;
use std::sync::Arc;

use crate::captures::arrays;
use crate::spare_threads;
use maeum::audio::Recording;
use maeum::audio::decode::decode_path;
use maeum::model::from_keras::SpeechFiles;
use maeum::model::{Model, Role, bundle};
use maeum::nn::{DropoutMode, Plan, Session};
use maeum::recognizer::{Options, ProfileBuilder, RecognizeError, SpeakerProfile};
use maeum::{Recognizer, default_model};

/// Maximum difference, relative to the larger of 1 and the output's largest magnitude: both sides
/// sum in `f32` but in different orders.
const TOLERANCE: f64 = 1e-5;
/// Maximum difference of ages in years: ages are about 30 and the front ends differ in the last
/// bits of `f32`.
const AGE_TOLERANCE: f64 = 1e-3;
/// Maximum size of the built-in bundle, in bytes.
const LARGEST: usize = 8_000_000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn voice() -> PathBuf {
    root().join("tests/data/voice.wav")
}

/// Returns the models of models/ with their names.
fn models() -> [(&'static str, Model); 2] {
    ["default", "commercial"].map(|name| {
        let file = root().join("models").join(name).join("maeum.safetensors");
        (name, bundle::load(&file).unwrap())
    })
}

#[test]
fn every_network_is_what_keras_computes() {
    for (name, model) in models() {
        every_network(&model, &format!("{name}.npz"));
    }
}

fn every_network(model: &Model, golden: &str) {
    let golden = arrays(&root().join("tests/golden").join(golden));
    for role in Role::SPEECH.into_iter().chain([Role::Speech]) {
        let graph = &model.network(role).unwrap().graph;
        let inputs: Vec<Vec<f32>> = (0..graph.inputs.len())
            .map(|k| &golden[&format!("{role}.in.{k}")])
            .map(|a| a.data.iter().map(|&x| x as f32).collect())
            .collect();
        let shapes: Vec<Vec<usize>> = (0..graph.inputs.len())
            .map(|k| golden[&format!("{role}.in.{k}")].shape[1..].to_vec())
            .collect();
        let wanted = &golden[&format!("{role}.out")];
        let mut session = Session::new(&Arc::new(Plan::new(graph, &shapes).unwrap()));
        let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
        session
            .run(&inputs, wanted.shape[0], &DropoutMode::Off)
            .unwrap();
        let scale = wanted.data.iter().fold(1.0f64, |m, x| m.max(x.abs()));
        assert_eq!(session.output(0).len(), wanted.data.len());
        for (&got, want) in session.output(0).iter().zip(&wanted.data) {
            let difference = (f64::from(got) - want).abs() / scale;
            assert!(difference < TOLERANCE, "{role}: {got} instead of {want}");
        }
    }
}

#[test]
fn the_whole_way_is_what_numpy_and_keras_compute() {
    for (name, model) in models() {
        the_whole_way(model, &format!("{name}.npz"));
    }
}

fn the_whole_way(model: Model, golden: &str) {
    let golden = arrays(&root().join("tests/golden").join(golden));
    let recognizer = Recognizer::new(model).unwrap();
    let recording = decode_path(voice()).unwrap();
    let answer = recognizer
        .worker()
        .recognize(&recording, "voice.wav", &DropoutMode::Off)
        .unwrap();
    for (got, want) in answer.emotions.iter().zip(&golden["answer.emotion"].data) {
        assert!((got.mean - want).abs() < TOLERANCE, "{got:?} {want}");
    }
    let narrow = Recording::from_samples(low_pass(&recording.samples), recording.sample_rate);
    let narrow = recognizer
        .worker()
        .recognize(&narrow.unwrap(), "narrow", &DropoutMode::Off)
        .unwrap();
    for (got, want) in narrow.emotions.iter().zip(&golden["narrow.emotion"].data) {
        assert!((got.mean - want).abs() < TOLERANCE, "{got:?} {want}");
    }
    for (got, want) in answer.gender.iter().zip(&golden["answer.gender"].data) {
        assert!((got - want).abs() < TOLERANCE, "{got} {want}");
    }
    let interval = answer.age.interval.expect("quantiles");
    let years = [interval.low, answer.age.years, interval.high];
    for (got, want) in years.iter().zip(&golden["answer.age"].data) {
        assert!((got - want).abs() < AGE_TOLERANCE, "{got} {want}");
    }
    assert!((answer.gender.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    for window in &answer.windows {
        let sum: f64 = window.emotions.iter().sum();
        // The rounding error is that of a softmax in single precision.
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        let attention = window.attention.as_ref().expect("an attention pool");
        assert!((attention.weights.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        assert!(window.time.end <= answer.voice.duration);
    }
}

/// Filters out what is above 4 kHz, as `tools/train/default_golden.py` does.
fn low_pass(samples: &[f32]) -> Vec<f32> {
    let middle = 255;
    let taps: Vec<f64> = (-middle..=middle)
        .map(|n| {
            let x = 2.0 * 4000.0 / 16_000.0 * f64::from(n);
            let sinc = match n {
                0 => 1.0,
                _ => (PI * x).sin() / (PI * x),
            };
            let turn = PI * f64::from(n + middle) / f64::from(middle);
            let blackman = 0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos();
            2.0 * 4000.0 / 16_000.0 * sinc * blackman
        })
        .collect();
    let middle = middle as usize;
    (0..samples.len())
        .map(|at| {
            let parts = taps.iter().enumerate().map(|(k, tap)| {
                let place = (at + k).checked_sub(middle);
                let sample = place.and_then(|place| samples.get(place));
                tap * f64::from(sample.copied().unwrap_or(0.0))
            });
            ((parts.sum::<f64>() * 32768.0).round() / 32768.0) as f32
        })
        .collect()
}

#[test]
fn the_bundles_are_what_their_files_convert_to() {
    for (name, model) in models() {
        let folder = format!("models/{name}");
        let mut files = SpeechFiles::default();
        files.add_folder(&root().join(&folder)).unwrap();
        let converted = bundle::to_bytes(&files.convert(&folder).unwrap());
        let stored = std::fs::read(root().join(&folder).join("maeum.safetensors")).unwrap();
        assert!(
            converted == stored,
            "run `cargo run --bin convert -- {folder} -o {folder}/maeum.safetensors`"
        );
        assert!(stored.len() <= LARGEST);
        model.self_test().unwrap();
    }
}

#[test]
fn silence_and_noise_have_no_answer() {
    let recognizer = Recognizer::new(default_model::load().unwrap()).unwrap();
    let mut worker = recognizer.worker();
    let recording = |sample: &dyn Fn(u32) -> f32| {
        let mut recording = decode_path(voice()).unwrap();
        recording.samples = (0..32_000).map(sample).collect();
        recording
    };
    let dither = recording(&|i| (i % 3) as f32 / 32768.0 - 1.0 / 32768.0);
    let error = worker
        .recognize(&dither, "dither.wav", &DropoutMode::Off)
        .unwrap_err();
    assert!(error.to_string().contains("digital silence"), "{error}");
    let noise = recording(&|i| {
        let word = maeum::nn::dropout::philox4x32([i, 0, 0, 0], [0; 2])[0];
        (word >> 8) as f32 / 16_777_216.0 - 0.5
    });
    let hum = recording(&|i| {
        let turn = f64::from(i) * 50.0 / 16_000.0 * std::f64::consts::TAU;
        (1..9)
            .map(|k| (turn * f64::from(k)).sin() * 0.05)
            .sum::<f64>() as f32
    });
    // Voiced to the pitch tracker, and no voice.
    let tone = recording(&|i| {
        let turn = f64::from(i) * 440.0 / 16_000.0 * std::f64::consts::TAU;
        (turn.sin() * 0.3) as f32
    });
    let clicks = recording(&|i| if i % 4000 < 3 { 0.9 } else { 0.0 });
    let sounds = [
        ("noise", noise),
        ("hum", hum),
        ("tone", tone),
        ("clicks", clicks),
    ];
    for (name, sound) in sounds {
        let error = worker
            .recognize(&sound, name, &DropoutMode::Off)
            .unwrap_err();
        assert!(matches!(error, RecognizeError::NoSpeech { .. }), "{error}");
        // It is in no profile either.
        let features = recognizer.front_end().extract(sound, name).unwrap();
        let mut builder = ProfileBuilder::default();
        let error = worker.add_to_profile(&mut builder, &features, name);
        assert!(
            matches!(error, Err(RecognizeError::NoSpeech { .. })),
            "{name}"
        );
        assert_eq!(builder.recordings(), 0, "{name}");
    }
}

/// A recording's segment has the same estimates alone and among other sounds.
#[test]
fn other_speech_does_not_change_an_answer() {
    let recognizer = Recognizer::new(default_model::load().unwrap()).unwrap();
    let mut worker = recognizer.worker();
    let alone = decode_path(voice()).unwrap();
    let silence = vec![0.0; 5 * alone.sample_rate as usize];
    // The other speech is louder by half, and faster.
    let other: Vec<f32> = alone.samples.iter().step_by(2).map(|x| 1.5 * x).collect();
    let mut together = alone.clone();
    together.samples = [&*alone.samples, &*silence, &*other, &*silence, &*other].concat();
    let mut recognize = |recording| {
        let answer = worker.recognize(recording, "voices", &DropoutMode::Off);
        answer.unwrap().segments
    };
    let (wanted, got) = (recognize(&alone), recognize(&together));
    assert!(got.len() > wanted.len());
    for (got, wanted) in got.iter().zip(&wanted) {
        assert_eq!(got.time, wanted.time);
        for (got, wanted) in got.emotions.iter().zip(&wanted.emotions) {
            assert!((got.mean - wanted.mean).abs() < 1e-3, "{got:?} {wanted:?}");
        }
    }
}

#[test]
fn a_profile_changes_the_emotions_alone() {
    let recognizer = Recognizer::new(default_model::load().unwrap()).unwrap();
    let recording = decode_path(voice()).unwrap();
    let extract = || {
        recognizer
            .front_end()
            .extract(recording.clone(), "voice.wav")
            .unwrap()
    };
    let mut builder = ProfileBuilder::default();
    let mut worker = recognizer.worker();
    worker
        .add_to_profile(&mut builder, &extract(), "voice.wav")
        .unwrap();
    let profile = recognizer.profile(&builder).unwrap();
    recognizer.check_profile(&profile).unwrap();
    assert_eq!(
        SpeakerProfile::from_json(&profile.to_json()).unwrap(),
        profile
    );
    let answer = |profile| {
        let dropout = &DropoutMode::Off;
        let options = Options { dropout, profile };
        recognizer
            .worker()
            .recognize_features(&mut extract(), "voice.wav", options)
            .unwrap()
    };
    let (plain, adapted) = (answer(None), answer(Some(&profile)));
    assert_ne!(plain.emotions, adapted.emotions);
    assert_eq!(plain.age, adapted.age);
    assert_eq!(plain.gender, adapted.gender);
    assert_eq!(adapted.speaker.unwrap().recordings, 1);
    assert_eq!(plain.speaker, None);
    let others = profile
        .to_json()
        .replace(recognizer.model().identity(), "other");
    let error = recognizer.check_profile(&SpeakerProfile::from_json(&others).unwrap());
    assert!(error.unwrap_err().to_string().contains("another model"));
    for broken in [
        "{}",
        "nothing",
        &profile.to_json().replace("\"version\":1", "\"version\":9"),
    ] {
        assert!(SpeakerProfile::from_json(broken).is_err());
    }
}

#[test]
fn the_card_and_the_licences_are_there() {
    for (name, model) in models() {
        let folder = root().join("models").join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        let card = read("MODEL_CARD.md");
        assert!(!model.info().licences.is_empty());
        for licence in &model.info().licences {
            assert!(read(&format!("LICENSE-{}.txt", licence.licence)).len() > 10_000);
            assert!(card.contains(&format!("LICENSE-{}.txt", licence.licence)));
        }
    }
}

#[test]
fn windows_share_what_they_have_in_common() {
    let model = default_model::load().unwrap();
    let graph = &model.network(Role::EmotionWindows).unwrap().graph;
    let shapes = graph.fixed_input_shapes().unwrap();
    let sheet: Vec<f32> = (0..1000 * 44).map(|i| (i as f32 * 0.37).sin()).collect();
    let starts = [0, 100, 200, 300, 387, 500, 600, 800];
    let windows = starts.map(|start| &sheet[start * 44..][..200 * 44]);
    let mut session = Session::new(&Arc::new(Plan::new(graph, &shapes).unwrap()));
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
    let recognizer = Recognizer::new(default_model::load().unwrap()).unwrap();
    spare_threads::check(&recognizer, &voice());
}
