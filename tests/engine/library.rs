//! The convenient interface of the library.
#![cfg(feature = "default-model")]

use maeum::nn::DropoutMode;
use maeum::{Answer, ErrorKind, Recognizer, Recording};

/// Synthetic speech.
const VOICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/voice.wav");

fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn samples_give_the_answer_of_their_file() {
    let recognizer = Recognizer::builtin().unwrap();
    let recording = Recording::open(VOICE).unwrap();
    let from_file = recognizer.recognize(&recording).unwrap();
    let samples = recording.samples.iter().copied();
    let mono = Recording::from_samples(samples.clone(), recording.sample_rate).unwrap();
    assert_eq!(
        recognizer.recognize(&mono).unwrap().prediction().emotions,
        from_file.prediction().emotions
    );
    let stereo = samples.flat_map(|x| [x, x]);
    let stereo = Recording::from_interleaved(stereo, 2, recording.sample_rate).unwrap();
    assert_eq!(
        recognizer.recognize(&stereo).unwrap().prediction().emotions,
        from_file.prediction().emotions
    );
    let bytes = std::fs::read(VOICE).unwrap();
    let bytes = Recording::from_bytes(&bytes, "voice").unwrap();
    assert_eq!(bytes, recording);
}

#[test]
fn labels_belong_to_their_probabilities() {
    let recognizer = Recognizer::builtin().unwrap();
    let answer = recognizer.recognize_file(VOICE).unwrap();
    let info = recognizer.info();
    assert!(answer.emotions().map(|e| e.label()).eq(&info.emotions));
    assert!(answer.genders().map(|g| g.label()).eq(&info.genders));
    let sum: f64 = answer.emotions().map(|e| e.probability()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    let strongest = answer.prediction().strongest_emotion();
    assert_eq!(answer.emotion().label(), info.emotions[strongest]);
    assert!(is_close(
        answer.emotion().probability(),
        answer.prediction().emotions[strongest].mean
    ));
    let json: serde_json::Value = serde_json::from_str(&answer.to_json()).unwrap();
    assert_eq!(json, serde_json::to_value(&answer).unwrap());
    assert_eq!(json["strongest"], answer.emotion().label());
    assert_eq!(json["file"], VOICE);
    let segments: Vec<_> = answer.segments().collect();
    assert_eq!(segments.len(), json["segments"].as_array().unwrap().len());
    assert_eq!(
        segments[0].emotion().label(),
        json["segments"][0]["strongest"]
    );
}

#[test]
fn many_recordings_are_answered_in_order() {
    let voice = Recording::open(VOICE).unwrap();
    let rate = voice.sample_rate;
    let parts: Vec<Recording> = (1..=11)
        .map(|i| {
            let count = voice.samples.len() * i / 11;
            Recording::from_samples(voice.samples[..count].iter().copied(), rate).unwrap()
        })
        .collect();
    let durations = |answers: Vec<Result<Answer, maeum::Error>>| -> Vec<Option<f64>> {
        let duration =
            |a: Result<Answer, maeum::Error>| a.ok().map(|a| a.prediction().voice.duration);
        answers.into_iter().map(duration).collect()
    };
    let own = Recognizer::builder().threads(3).build().unwrap();
    let one = durations(own.recognize_all(parts.clone()).collect());
    assert_eq!(one.len(), parts.len());
    for (duration, part) in one.iter().zip(&parts) {
        assert!(duration.is_none_or(|d| is_close(d, part.seconds())));
    }
    assert!(one[10].is_some());
    let global = Recognizer::builtin().unwrap();
    assert_eq!(durations(global.recognize_all(parts).collect()), one);
}

#[test]
fn a_stream_gives_the_answer_of_its_samples() {
    let recognizer = Recognizer::builder()
        .dropout(DropoutMode::Off)
        .build()
        .unwrap();
    let voice = Recording::open(VOICE).unwrap();
    let mut stream = recognizer.stream(voice.sample_rate).unwrap();
    assert_eq!(
        stream.answer().unwrap_err().kind(),
        ErrorKind::UnusableAudio
    );
    for block in voice.samples.chunks(1000) {
        stream.push(block).unwrap();
    }
    assert!(is_close(stream.seconds(), voice.seconds()));
    let whole = recognizer.recognize(&voice).unwrap();
    assert_eq!(
        stream.answer().unwrap().prediction().emotions,
        whole.prediction().emotions
    );
    let latest = stream.latest(1.0).unwrap();
    assert!((latest.prediction().voice.duration - 1.0).abs() < 1e-3);
}

#[test]
fn unusable_input_is_an_error_with_a_kind() {
    let kind = |samples: &[f32], rate| {
        let recording = Recording::from_samples(samples.iter().copied(), rate);
        let error = recording.expect_err("is refused");
        assert!(!error.to_string().contains("header"), "{error}");
        error.kind()
    };
    for (samples, rate) in [
        (&[0.5f32; 100] as &[f32], 0),
        (&[0.5; 100], 1),
        (&[0.5; 100], u32::MAX),
        (&[], 16_000),
        (&[0.1, f32::NAN], 16_000),
        (&[0.1, f32::INFINITY], 16_000),
    ] {
        assert_eq!(kind(samples, rate), ErrorKind::UnusableAudio);
    }
    assert!(Recording::from_interleaved([0.0; 8], 0, 16_000).is_err());
    assert!(Recording::from_interleaved([0.0; 8], 1000, 16_000).is_err());
    let missing = Recording::open("no such recording.wav").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Unreadable);
    assert!(missing.get_ref().is::<maeum::audio::DecodeError>());

    let recognizer = Recognizer::builtin().unwrap();
    let silence = Recording::from_samples(vec![0.0; 16_000], 16_000).unwrap();
    let error = recognizer.recognize(&silence).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusableAudio);
    let hum = (0..48_000).map(|i| (f64::from(i) * 0.02).sin() as f32 * 0.3);
    let hum = Recording::from_samples(hum, 16_000).unwrap();
    let error = recognizer.recognize(&hum).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpeech);
    let error = Recognizer::open("no such model").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(recognizer.stream(0).is_err());
    let mut stream = recognizer.stream(16_000).unwrap();
    assert!(stream.push(&[0.5, f32::NAN]).is_err());
    assert!(stream.seconds() == 0.0);
    for seconds in [f64::NAN, 0.0, -1.0] {
        assert!(stream.latest(seconds).is_err());
    }
}

#[test]
fn a_changed_sample_rate_is_an_error() {
    let recognizer = Recognizer::builtin().unwrap();
    let mut voice = Recording::open(VOICE).unwrap();
    for rate in [0, 1, u32::MAX] {
        voice.sample_rate = rate;
        let error = recognizer.recognize(&voice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnusableAudio, "{error}");
    }
    voice.sample_rate = 16_000;
    voice.samples.clear();
    assert!(recognizer.recognize(&voice).is_err());
    voice.samples = vec![f32::NAN; 16_000];
    assert!(recognizer.recognize(&voice).is_err());
}
