//! The whole recogniser on any samples.

use std::cell::RefCell;
use std::sync::LazyLock;

use maeum::audio::Recording;
use maeum::audio::decode::{MAX_SAMPLE_RATE, MIN_SAMPLE_RATE};
use maeum::formats::{Format, RecordingError, Reporter};
use maeum::model::ModelInfo;
use maeum::nn::DropoutMode;
use maeum::recognizer::{ExtractedFeatures, Options, ProfileBuilder, SpeakerProfile};
use maeum::{Prediction, Recognizer, default_model};

#[path = "../../tests/common/model.rs"]
pub mod model;

/// Recogniser with the built-in model.
pub static DEFAULT: LazyLock<Recognizer> =
    LazyLock::new(|| Recognizer::new(default_model::load().unwrap()).unwrap());
/// Recogniser with tiny networks behind the front end of 2020.
pub static TINY: LazyLock<Recognizer> =
    LazyLock::new(|| Recognizer::new(model::speech_model(ModelInfo::legacy2020())).unwrap());

/// Longest recording, in samples: some seconds at the rates of speech.
const MAX_SAMPLES: usize = 48_000;
const NAME: &str = "some name.wav";

/// Makes a recording. The first bytes of the input are its options, the other bytes 16-bit samples.
/// Repetition turns short inputs into seconds of sound.
fn recording(input: &[u8]) -> Option<(u8, Recording)> {
    let (&[choice, rate, repeats, gain], samples) = input.split_first_chunk()?;
    const RATES: [u32; 12] = [
        MIN_SAMPLE_RATE,
        8_000,
        11_025,
        12_000,
        16_000,
        22_050,
        24_000,
        32_000,
        44_100,
        48_000,
        96_000,
        MAX_SAMPLE_RATE,
    ];
    let sample_rate = match rate {
        0..128 => RATES[usize::from(rate) % RATES.len()],
        // Ratios that no table was made for.
        _ => MIN_SAMPLE_RATE + u32::from(rate) * 401 + u32::from(repeats),
    };
    let (pairs, _) = samples.as_chunks::<2>();
    let gain = 0.5f32.powi(i32::from(gain % 16));
    let period: Vec<f32> = pairs
        .iter()
        .map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32768.0 * gain)
        .collect();
    let length = (period.len() * (1 + usize::from(repeats) * 16)).min(MAX_SAMPLES);
    if length == 0 {
        return None;
    }
    // Not rounded to 16 bits, and of any rate.
    let mut recording = Recording::from_samples([0.0], 16_000).expect("one sample is a recording");
    recording.samples = period.iter().copied().cycle().take(length).collect();
    recording.sample_rate = sample_rate;
    Some((choice, recording))
}

/// A finite answer that every format can write, or an error that names the recording.
pub fn any_recording(input: &[u8]) {
    LazyLock::force(&DEFAULT);
    LazyLock::force(&TINY);
    let Some((choice, recording)) = recording(input) else {
        return;
    };
    let recognizer = match choice % 4 {
        0 => &*DEFAULT,
        _ => &*TINY,
    };
    let dropout = match choice & 0x80 {
        0 => DropoutMode::Off,
        _ => DropoutMode::draws(2, 1),
    };
    let mut worker = recognizer.worker();
    match worker.recognize(&recording, NAME, &dropout) {
        Ok(prediction) => assert_written(recognizer, &prediction),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(NAME), "{message}");
        }
    }
}

/// Every format writes the answer, which is finite.
fn assert_written(recognizer: &Recognizer, prediction: &Prediction) {
    let identity = recognizer.model().identity();
    for format in Format::ALL {
        let Ok(mut reporter) = Reporter::new(format, recognizer.info(), identity) else {
            continue;
        };
        let answer: Result<&Prediction, &RecordingError> = Ok(prediction);
        let text = reporter.recording(NAME, answer);
        if format == Format::Jsonl {
            let record: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
            assert!(record["error"].is_null(), "{record}");
            let emotions = record["emotions"].as_object().expect("emotions are there");
            let means = emotions
                .values()
                .map(|e| e["mean"].as_f64().expect("a number"));
            let sum: f64 = means.sum();
            assert!((sum - 1.0).abs() < 1e-3, "{record}");
        }
    }
}

/// A synthetic voice.
pub fn voice() -> Recording {
    let samples = model::speech_like(1.6, 16_000, 140.0);
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|x| ((x * 32767.0) as i16).to_le_bytes())
        .collect();
    Recording::from_pcm16(&bytes, 16_000).expect("it has samples")
}

/// Features of recorded speech, since the speech network refuses the synthetic voice.
fn features() -> ExtractedFeatures {
    let speech = Recording::from_bytes(include_bytes!("../../tests/data/voice.wav"), NAME);
    let extracted = DEFAULT.front_end().extract(speech.unwrap(), NAME);
    extracted.expect("the built-in model takes the voice")
}

/// A profile of one recording.
pub fn profile() -> SpeakerProfile {
    let mut builder = ProfileBuilder::default();
    let added = DEFAULT
        .worker()
        .add_to_profile(&mut builder, &features(), NAME);
    added.expect("it is speech to the built-in model");
    DEFAULT.profile(&builder).expect("it is a voice")
}

thread_local! {
    static FEATURES: RefCell<Option<ExtractedFeatures>> = const { RefCell::new(None) };
}

/// The answer for the voice relative to this speaker is finite, whatever model the profile is of.
pub fn with_profile(profile: &SpeakerProfile) {
    if let Err(error) = DEFAULT.check_profile(profile) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let dropout = DropoutMode::Off;
    let options = Options {
        dropout: &dropout,
        profile: Some(profile),
    };
    FEATURES.with_borrow_mut(|stored| {
        let features = stored.get_or_insert_with(features);
        match DEFAULT.worker().recognize_features(features, NAME, options) {
            Ok(prediction) => assert_written(&DEFAULT, &prediction),
            Err(error) => panic!("{error}"),
        }
    });
}
