//! From samples to answers on a device, against the processor: recordings of the 2020 kind.

use std::path::PathBuf;
use std::sync::Arc;

use maeum::app::batch::Batch;
use maeum::app::inputs;
use maeum::audio::{Recording, Resampling};
use maeum::front_end::legacy2020::cuda::FrontEnd;
use maeum::model::ModelInfo;
use maeum::nn::DropoutMode;
use maeum::nn::cuda::{DeviceError, Driver, Stream};
use maeum::recognizer::{DeviceRecognizer, RecognizeError};
use maeum::{Prediction, Recognizer};

use crate::drivers;
use crate::emulator::{Emulator, ORDERS};
use crate::front_end::{recorded, voice};
use crate::model::{noise, speech_like, speech_model, write_wav};
use crate::recognizer::compare;
use crate::watched::{Watched, check_transfers};

fn recognizer() -> Recognizer {
    Recognizer::new(speech_model(ModelInfo::legacy2020())).unwrap()
}

/// Rates and lengths, loud and cut off and silent ones, and what cannot be analysed at every stage.
fn recordings() -> Vec<Recording> {
    let loud = (0..8_000).map(|i| 5e18 * (i as f32 * 1.2).sin()).collect();
    let mut clipped = recorded(speech_like(2.2, 16_000, 140.0), 16_000);
    for x in &mut clipped.samples {
        *x = (*x * 20.0).clamp(-1.0, 1.0);
    }
    clipped.clipped = 900;
    clipped.truncated = true;
    let faint = (0..20_000).map(|i| (noise(3, i) * 0.01) as f32).collect();
    // Speech in the very last sample alone.
    let mut late = vec![1e-4; 16_000];
    late[15_999] = 1.0;
    vec![
        recorded(speech_like(3.4, 44_100, 210.0), 44_100),
        recorded(vec![0.0; 16_000], 16_000),
        recorded(vec![0.1; 30], 16_000),
        voice(0.026, 16_000, 2),
        recorded(loud, 16_000),
        clipped,
        recorded(faint, 8_000),
        recorded(late, 16_000),
        recorded(speech_like(16.5, 8_000, 110.0), 8_000),
        voice(2.51, 22_050, 3),
    ]
}

pub type Outcome = Result<Prediction, RecognizeError>;

fn on_the_processor(recordings: &[Recording], dropout: &DropoutMode) -> Vec<Outcome> {
    heard_by(&recognizer(), recordings, dropout)
}

fn heard_by(
    recognizer: &Recognizer,
    recordings: &[Recording],
    dropout: &DropoutMode,
) -> Vec<Outcome> {
    let mut worker = recognizer.worker();
    let recognize = |(i, r): (usize, &Recording)| worker.recognize(r, &format!("no. {i}"), dropout);
    recordings.iter().enumerate().map(recognize).collect()
}

pub fn check(what: &str, got: &[Outcome], wanted: &[Outcome]) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for (got, wanted) in got.iter().zip(wanted) {
        match (got, wanted) {
            (Ok(got), Ok(wanted)) => compare(got, wanted),
            (Err(got), Err(wanted)) => assert_eq!(got.to_string(), wanted.to_string(), "{what}"),
            _ => panic!("{what}: {got:?}, not {wanted:?}"),
        }
    }
}

pub fn bits(outcomes: &[Outcome]) -> Vec<Result<Prediction, String>> {
    let plain = |o: &Outcome| match o {
        Ok(prediction) => Ok(prediction.clone()),
        Err(error) => Err(error.to_string()),
    };
    outcomes.iter().map(plain).collect()
}

#[test]
fn a_batch_is_answered_as_on_the_processor() {
    check_batches(&recognizer(), &recordings(), &drivers());
}

/// The recordings that are short, on one driver: its networks are larger.
#[cfg(feature = "default-model")]
#[test]
fn a_batch_is_answered_by_the_built_in_model_as_on_the_processor() {
    let model = crate::profiles::profile_model("built in");
    let recognizer = Recognizer::new(model).unwrap();
    let mut recordings = recordings();
    recordings.retain(|r| r.seconds() < 4.0);
    let voice = maeum::audio::decode::decode_path("tests/data/voice.wav").unwrap();
    recordings.push(voice);
    // Nothing but a level, which is no silence.
    recordings.push(recorded(vec![0.5; 8_000], 16_000));
    let drivers: Vec<_> = drivers().into_iter().rev().take(1).collect();
    check_batches(&recognizer, &recordings, &drivers);
}

fn check_batches(recognizer: &Recognizer, recordings: &[Recording], drivers: &[Arc<dyn Driver>]) {
    let dropout = DropoutMode::draws(3, 11);
    let wanted = heard_by(recognizer, recordings, &dropout);
    let good = wanted.iter().filter(|o| o.is_ok()).count();
    assert!(good >= 5 && good + 3 <= wanted.len(), "{good} of them");
    for driver in drivers {
        let mut device = recognizer.on_device(driver).unwrap();
        let names: Vec<String> = (0..recordings.len()).map(|i| format!("no. {i}")).collect();
        let all = |device: &mut DeviceRecognizer| {
            let given = recordings.iter().cloned().zip(names.iter().map(|n| &**n));
            device.recognize(given.collect(), &dropout).unwrap()
        };
        let together = all(&mut device);
        check(&driver.name(), &together, &wanted);
        // Batch behind batch: the answers of one come when the next has been given.
        let mut parts = Vec::new();
        for (numbers, part) in names.chunks(3).zip(recordings.chunks(3)) {
            let batch = part
                .iter()
                .zip(numbers)
                .map(|(recording, name)| (recording.clone(), name.clone()).into());
            let before = device.submit(batch.collect(), &dropout);
            assert_eq!(before.is_some(), numbers[0] != "no. 0");
            parts.extend(before.into_iter().flat_map(Result::unwrap));
        }
        parts.extend(device.finish().unwrap().unwrap());
        assert!(device.finish().is_none());
        assert_eq!(bits(&parts), bits(&together), "{}", driver.name());
        assert_eq!(bits(&all(&mut device)), bits(&together));
    }
}

#[test]
fn nothing_comes_to_the_host_but_signals_and_answers() {
    let recordings = [voice(2.6, 16_000, 4), voice(1.2, 16_000, 5)];
    let samples: usize = recordings.iter().map(|r| r.samples.len()).sum();
    let recognizer = recognizer();
    for driver in drivers() {
        let watched = Arc::new(Watched::new(driver, |_| Ok(())));
        let inner: Arc<dyn Driver> = watched.clone();
        let mut device = recognizer.on_device(&inner).unwrap();
        let mut recognize = || {
            let given = recordings.iter().cloned().zip(["no. 0", "no. 1"]);
            let got = device.recognize(given.collect(), &DropoutMode::draws(32, 1));
            assert!(got.unwrap().iter().all(Result::is_ok));
        };
        // The resampling's filters go up with the first batch.
        recognize();
        watched.take();
        recognize();
        check_transfers(&watched.take(), samples);
    }
}

#[test]
fn many_draws_are_taken_in_their_order() {
    // More than are computed together.
    let dropout = DropoutMode::draws(1_030, 5);
    let recordings = [voice(0.3, 16_000, 4), voice(0.2, 16_000, 5)];
    let wanted = on_the_processor(&recordings, &dropout);
    let recognizer = recognizer();
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    for driver in [emulated].into_iter().chain(crate::gpu()) {
        let mut device = recognizer.on_device(&driver).unwrap();
        let given = recordings.iter().cloned().zip(["no. 0", "no. 1"]);
        let got = device.recognize(given.collect(), &dropout).unwrap();
        check(&driver.name(), &got, &wanted);
        let spread = |o: &Outcome| o.as_ref().unwrap().emotions[0].std;
        for (got, wanted) in got.iter().zip(&wanted) {
            // As the weights whose spread it is.
            assert!((spread(got) - spread(wanted)).abs() < 1e-5);
        }
    }
}

#[test]
fn what_the_device_has_no_room_for_is_analysed_on_the_processor() {
    let recordings = [
        recorded(speech_like(12.0, 44_100, 190.0), 44_100),
        recorded(vec![0.0; 900], 16_000),
        voice(0.4, 16_000, 1),
    ];
    let memory = 4 << 20;
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[1]).with_memory(memory));
    let mut front_end = FrontEnd::new(driver.clone(), Stream::B, Resampling::Exact).unwrap();
    let error = front_end.run(&[&recordings[0]]).unwrap_err();
    assert!(matches!(error, DeviceError::Memory { .. }), "{error}");
    drop(front_end);
    let wanted = on_the_processor(&recordings, &DropoutMode::Off);
    let recognizer = recognizer();
    let mut device = recognizer.on_device(&driver).unwrap();
    let given = recordings.iter().cloned().zip(["no. 0", "no. 1", "no. 2"]);
    let got = device
        .recognize(given.collect(), &DropoutMode::Off)
        .unwrap();
    check("little memory", &got, &wanted);
    // Then again what does fit, and as it is answered among those.
    let given = vec![(recordings[2].clone(), "no. 2")];
    let again = device.recognize(given, &DropoutMode::Off).unwrap();
    assert_eq!(bits(&again), bits(&got[2..]));
    // Nor is a batch harmed by what comes behind it.
    let batch = |i: usize| vec![(recordings[i].clone(), format!("no. {i}")).into()];
    assert!(device.submit(batch(2), &DropoutMode::Off).is_none());
    let before = device.submit(batch(0), &DropoutMode::Off).unwrap().unwrap();
    assert_eq!(bits(&before), bits(&again));
    let last = device.finish().unwrap().unwrap();
    assert_eq!(bits(&last), bits(&got[..1]));
}

/// Files, more than a batch of them, some of which are none.
#[test]
fn files_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let count = 270;
    let paths: Vec<PathBuf> = (0..count)
        .map(|i| {
            let path = dir.path().join(format!("{i:03}.wav"));
            // The emulator is slow, so most of them are none.
            match i % 9 {
                0 => write_wav(&path, 8_000, &voice(0.06, 8_000, i).samples),
                4 => std::fs::write(&path, "no recording").unwrap(),
                5 => {}
                6 => write_wav(&path, 8_000, &[0.0; 2_000]),
                _ => write_wav(&path, 8_000, &[0.5; 20]),
            }
            path
        })
        .collect();
    let inputs = inputs::collect(&paths).inputs;
    let recognizer = recognizer();
    let run = |batch: &Batch| {
        let mut outcomes = Vec::new();
        let done: Result<(), ()> = batch.run(&inputs, |input, outcome| {
            outcomes.push((input.name.clone(), outcome));
            Ok(())
        });
        done.unwrap();
        outcomes
    };
    let batch = || Batch::new(&recognizer, DropoutMode::draws(2, 1), 2).unwrap();
    let wanted = run(&batch());
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    for driver in [emulated].into_iter().chain(crate::gpu()) {
        let on_device = batch().on_device(&driver).unwrap();
        let got = run(&on_device);
        assert_eq!(got.len(), wanted.len());
        for ((name, got), (wanted_name, wanted)) in got.iter().zip(&wanted) {
            assert_eq!(name, wanted_name);
            match (got, wanted) {
                (Ok(got), Ok(wanted)) => compare(got, wanted),
                _ => assert_eq!(got, wanted, "{name}"),
            }
        }
        // Who has seen enough is not kept, and the next run begins at its own beginning.
        let mut seen = 0;
        let stopped = on_device.run(&inputs, |_, _| {
            seen += 1;
            if seen == 3 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((stopped, seen), (Err("enough"), 3));
        let again = run(&on_device);
        assert_eq!(again, got);
    }
}

/// Each relative to the other recordings of its group, which the processor sums up either way.
#[cfg(feature = "default-model")]
#[test]
fn answers_relative_to_speakers_are_those_of_the_processor() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..4)
        .map(|i| {
            let path = dir.path().join(format!("{i}.wav"));
            let samples = speech_like(1.8, 16_000, 120.0 + 30.0 * f64::from(i));
            write_wav(&path, 16_000, &samples);
            path
        })
        .collect();
    let inputs = inputs::collect(&paths).inputs;
    let recognizer = Recognizer::new(crate::profiles::profile_model("first")).unwrap();
    let run = |batch: Batch, groups: [Option<usize>; 4]| {
        let batch = batch.with_groups(&inputs, groups.to_vec(), || {}).unwrap();
        let mut answers = Vec::new();
        let done: Result<(), ()> = batch.run(&inputs, |_, outcome| {
            answers.push(outcome.unwrap());
            Ok(())
        });
        done.unwrap();
        answers
    };
    let batch = || Batch::new(&recognizer, DropoutMode::Off, 2).unwrap();
    let groups = [Some(0), Some(0), None, Some(0)];
    let wanted = run(batch(), groups);
    let counts: Vec<Option<u32>> = wanted
        .iter()
        .map(|p| p.speaker.map(|s| s.recordings))
        .collect();
    assert_eq!(counts, [Some(2), Some(2), None, Some(2)]);
    let plain = run(batch(), [None; 4]);
    assert_eq!(plain[2], wanted[2]);
    assert!(plain[0].emotions != wanted[0].emotions);
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    for driver in [emulated].into_iter().chain(crate::gpu()) {
        let got = run(batch().on_device(&driver).unwrap(), groups);
        for (got, wanted) in got.iter().zip(&wanted) {
            compare(got, wanted);
            assert_eq!(got.speaker, wanted.speaker);
            assert_eq!(got.segments.len(), wanted.segments.len());
        }
    }
}
