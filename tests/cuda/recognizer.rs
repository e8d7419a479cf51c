//! Recordings whose networks run on a device, against the predictions of the CPU.

use std::path::Path;
use std::sync::Arc;

use maeum::audio::Recording;
use maeum::model::Model;
use maeum::nn::DropoutMode;
use maeum::nn::cuda::Driver;
use maeum::recognizer::RecognizeError;
use maeum::{Prediction, Recognizer};

use crate::emulator::{Emulator, ORDERS};
use crate::gpu;

/// Tolerance of an emotion's weight or an age in years: network outputs agree within 1e-5, and an
/// age is about ten times an output.
const TOLERANCE: f64 = 2e-4;

fn close(what: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (g, w) in got.iter().zip(wanted) {
        // A NaN fails this comparison.
        let near = (g - w).abs() <= TOLERANCE;
        assert!(near, "{what}: {g}, not {w}");
    }
}

pub fn compare(got: &Prediction, wanted: &Prediction) {
    let emotions = |p: &Prediction| p.emotions.iter().map(|e| e.mean).collect::<Vec<_>>();
    close("emotions", &emotions(got), &emotions(wanted));
    close("age", &[got.age.years], &[wanted.age.years]);
    close("gender", &got.gender, &wanted.gender);
    assert_eq!(got.voice, wanted.voice);
    // The values in a warning may depend on a prediction.
    let kinds = |p: &Prediction| {
        let kinds = p.warnings.iter().map(std::mem::discriminant);
        kinds.collect::<Vec<_>>()
    };
    assert_eq!(kinds(got), kinds(wanted));
    assert_eq!(got.dropout, wanted.dropout);
    assert_eq!(got.age.error, wanted.age.error);
    let spread = |p: &Prediction| Vec::from_iter(p.age.spread);
    close("spread of the age", &spread(got), &spread(wanted));
    assert_eq!(got.windows.len(), wanted.windows.len());
    for (g, w) in got.windows.iter().zip(&wanted.windows) {
        assert_eq!(g.time, w.time);
        close("a window's emotions", &g.emotions, &w.emotions);
        close("a window's gender", &g.gender, &w.gender);
        let weights = |w: &maeum::prediction::Window| {
            w.attention
                .as_ref()
                .map_or(Vec::new(), |a| a.weights.clone())
        };
        close("attention", &weights(g), &weights(w));
        let cell = |w: &maeum::prediction::Window| w.attention.as_ref().map(|a| a.cell);
        assert_eq!(cell(g), cell(w));
        let age = |w: &maeum::prediction::Window| Vec::from_iter(w.age);
        close("a window's age", &age(g), &age(w));
    }
}

fn open(path: &Path) -> Recording {
    maeum::audio::decode::decode_path(path).unwrap()
}

/// Runs the recordings and a silent one in one batch on a device, and each on the CPU.
fn check(model: Model, recordings: &[Recording], dropout: &DropoutMode) {
    let recognizer = Recognizer::new(model).unwrap();
    let mut worker = recognizer.worker();
    let wanted: Vec<Prediction> = recordings
        .iter()
        .map(|r| worker.recognize(r, "on the processor", dropout).unwrap())
        .collect();
    let mut silence = recordings[0].clone();
    silence.samples = vec![0.0; 32_000];
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[2]));
    for driver in [emulated].into_iter().chain(gpu()) {
        let device = recognizer.on_device(&driver).unwrap();
        assert_eq!(device.device(), driver.name());
        let mut given: Vec<(Recording, &str)> = vec![(silence.clone(), "silence")];
        given.extend(recordings.iter().map(|r| (r.clone(), "a recording")));
        let mut got = device.recognize(given, dropout).into_iter();
        match got.next() {
            Some(Err(e @ (RecognizeError::Audio { .. } | RecognizeError::Features { .. }))) => {
                assert!(e.to_string().starts_with("silence: "), "{e}");
            }
            other => panic!("{other:?} about silence"),
        }
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.zip(&wanted) {
            compare(&got.unwrap(), wanted);
        }
        assert!(device.recognize(vec![], dropout).is_empty());
    }
}

#[cfg(feature = "default-model")]
#[test]
fn recordings_with_the_built_in_model() {
    let voice = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/voice.wav"));
    let mut shorter = voice.clone();
    shorter.samples.truncate(shorter.samples.len() / 2);
    let model = maeum::default_model::load().unwrap();
    check(model, &[voice, shorter], &DropoutMode::draws(3, 1));
}

#[cfg(feature = "default-model")]
#[test]
fn who_asks_together_hears_what_it_hears_alone() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/voice.wav");
    let recording = open(Path::new(path));
    let ask = |recognizer: &Recognizer, mode: &DropoutMode| {
        let mut worker = recognizer.worker();
        worker.recognize(&recording, "voice", mode).unwrap()
    };
    let model = || maeum::default_model::load().unwrap();
    let modes = [
        DropoutMode::Off,
        DropoutMode::draws(2, 7),
        DropoutMode::draws(2, 7),
        DropoutMode::draws(2, 8),
    ];
    let on_cpu = Recognizer::new(model()).unwrap();
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    for driver in [emulated].into_iter().chain(gpu()) {
        let mut recognizer = Recognizer::new(model()).unwrap();
        recognizer.use_device(&driver).unwrap();
        let recognizer = &recognizer;
        let alone: Vec<Prediction> = modes.iter().map(|m| ask(recognizer, m)).collect();
        for (alone, mode) in alone.iter().zip(&modes) {
            compare(alone, &ask(&on_cpu, mode));
        }
        let together: Vec<Prediction> = std::thread::scope(|scope| {
            let threads: Vec<_> = modes
                .iter()
                .map(|mode| scope.spawn(move || ask(recognizer, mode)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(alone, together);
    }
}
