use std::path::PathBuf;

use super::*;
use crate::formats::NoAnswer;
use crate::prediction::{Age, Estimate, Prediction, Voice};

const MANIFEST: &str = "path,emotion,gender,age,speaker,age_band,language,condition\n\
    one/a.wav,anger,male,30,A,,de,quiet\n\
    one/b.wav,anger,male,30,A,,de,loud\n\
    one/c.wav,sadness,female,10,B,,de,quiet\n\
    two/d.wav,sadness,female,,A,20s,ko,\n\
    two/e.wav,,,45,A,20s,ko,loud\n\
    two/f.wav,anger,female,,A,20s,ko,quiet\n";

fn info() -> ModelInfo {
    ModelInfo {
        emotions: ["anger", "neutral", "sadness"].map(Into::into).to_vec(),
        ..ModelInfo::legacy2020()
    }
}

fn said(emotion: usize, weight: f64, male: f64, years: f64) -> Outcome {
    let rest = (1.0 - weight) / 2.0;
    let mut emotions = vec![
        Estimate {
            mean: rest,
            std: 0.0
        };
        3
    ];
    emotions[emotion].mean = weight;
    Ok(Prediction {
        emotions,
        age: Age {
            years,
            spread: None,
            error: None,
            interval: None,
        },
        gender: vec![male, 1.0 - male],
        windows: Vec::new(),
        segments: Vec::new(),
        speaker: None,
        voice: Voice {
            duration: 1.0,
            sample_rate: 16_000,
            channels: 1,
            channel: None,
            format: "wav".into(),
            analysed: 0.0..1.0,
            trimmed: false,
            voiced: 1.0,
            speech: Vec::new(),
        },
        warnings: Vec::new(),
        dropout: DropoutMode::Off,
    })
}

fn evaluation() -> Evaluation {
    let manifest = Manifest::parse(
        MANIFEST.as_bytes(),
        "m.csv",
        PathBuf::new(),
        &Manifest::EVALUATION,
    )
    .unwrap();
    let mut evaluator = Evaluator::new(&manifest, &info());
    for outcome in [
        said(0, 0.9, 0.8, 33.0),
        said(1, 0.5, 0.3, 26.0),
        said(2, 0.7, 0.6, 20.0),
        said(0, 0.8, 0.1, 50.0),
        said(1, 0.9, 0.9, 40.0),
        Err(NoAnswer::new(Code::Unreadable, "two/f.wav: no such file")),
    ] {
        evaluator.add(&outcome);
    }
    evaluator.finish(Some("test"), &info(), "abc")
}

fn close(a: f64, b: f64) {
    // Sums of a few numbers around 1 are exact to some units in the last place.
    assert!((a - b).abs() < 1e-12, "{a} {b}");
}

#[test]
fn pooled_measures_are_those_counted_by_hand() {
    let e = evaluation();
    assert_eq!(
        (e.recordings, e.pooled.failed, e.pooled.speakers),
        (6, 1, 3)
    );
    let emotion = e.pooled.emotion.as_ref().unwrap();
    assert_eq!(emotion.confusion.counts, [[1, 1, 0], [0, 0, 0], [1, 0, 1]]);
    close(emotion.uar, 0.5);
    close(emotion.accuracy, 0.5);
    let [low, high] = emotion.uar_interval.unwrap();
    assert!(low <= 0.5 && high >= 0.5, "{low} {high}");
    // Four weights in four bins: 0.9 right, 0.5 wrong, 0.7 right, 0.8 wrong; 0.8 and 0.7 apart.
    let calibration = e.pooled.calibration.as_ref().unwrap();
    close(calibration.expected_error, (0.1 + 0.5 + 0.3 + 0.8) / 4.0);
    let age = e.pooled.age.as_ref().unwrap();
    close(age.mean_absolute, (3.0 + 4.0 + 10.0 + 5.0) / 4.0);
    close(age.median_absolute, 4.5);
    close(age.bias, 1.0);
}

#[test]
fn children_are_told_apart_where_gender_is_measured() {
    let e = evaluation();
    let adults = e.pooled.gender.as_ref().unwrap();
    assert_eq!(adults.confusion.counts, [[1, 1], [0, 1]]);
    close(adults.uar, 0.75);
    let children = e.pooled.gender_under_12.as_ref().unwrap();
    assert_eq!(children.confusion.counts, [[0, 0], [1, 0]]);
    close(children.uar, 0.0);
}

#[test]
fn groups_are_told_apart_by_the_manifests_columns() {
    let e = evaluation();
    let names = |groups: &[Group]| -> Vec<(String, u64)> {
        let pair = |g: &Group| (g.name.clone(), g.results.recordings);
        groups.iter().map(pair).collect()
    };
    let pairs = |wanted: &[(&str, u64)]| -> Vec<(String, u64)> {
        wanted.iter().map(|(n, c)| ((*n).into(), *c)).collect()
    };
    assert_eq!(names(&e.corpora), pairs(&[("one", 3), ("two", 3)]));
    assert_eq!(names(&e.by_gender), pairs(&[("female", 3), ("male", 2)]));
    assert_eq!(
        names(&e.by_age),
        pairs(&[("under 12", 1), ("30-39", 2), ("40+", 1)])
    );
    assert_eq!(names(&e.by_age_band), pairs(&[("20s", 3)]));
    assert_eq!(names(&e.by_language), pairs(&[("de", 3), ("ko", 3)]));
    assert_eq!(
        names(&e.by_speaker),
        pairs(&[("one/A", 2), ("one/B", 1), ("two/A", 3)])
    );
    close(e.corpora[0].results.emotion.as_ref().unwrap().uar, 0.75);
    assert_eq!(e.corpora[1].results.failed, 1);
    assert_eq!(e.by_age[0].results.gender, None);
}

#[test]
fn both_forms_say_the_same() {
    let e = evaluation();
    let json: serde_json::Value = serde_json::from_str(&e.json()).unwrap();
    assert_eq!(json["split"], "test");
    assert_eq!(json["dropout"]["mode"], "off");
    assert_eq!(json["corpora"][0]["name"], "one");
    assert_eq!(json["corpora"][0]["emotion"]["uar"], 0.75);
    assert_eq!(json["failures"][0]["path"], "two/f.wav");
    assert_eq!(
        json["pooled"]["emotion"]["recalls"][1],
        serde_json::Value::Null
    );
    let text = e.text();
    for said in ["two/f.wav: no such file", "0.750", "under 12", NOTICE] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn labels_that_a_corpus_lacks_are_no_answers_in_it() {
    let e = evaluation();
    // The second recording was answered with an emotion that neither corpus has; the remaining two
    // weigh the same, of which the last counts.
    let among = e.pooled.emotion_in_corpus.as_ref().unwrap();
    assert_eq!(among.confusion.counts, [[1, 0, 1], [0, 0, 0], [1, 0, 1]]);
    let one = e.corpora[0].results.emotion_in_corpus.as_ref().unwrap();
    close(one.uar, 0.75);
}

#[test]
fn conditions_and_the_surest_answers_are_measured() {
    let e = evaluation();
    let names: Vec<&str> = e.by_condition.iter().map(|g| &*g.name).collect();
    assert_eq!(names, ["loud", "quiet"]);
    assert_eq!(e.by_condition[1].results.recordings, 3);
    // 0.9 right, 0.8 wrong, 0.7 right, 0.5 wrong.
    let accuracy: Vec<f64> = e.pooled.coverage.iter().map(|c| c.accuracy).collect();
    assert_eq!(accuracy, [0.5, 2.0 / 3.0, 0.5, 0.5]);
    assert_eq!(e.pooled.age_interval, None);
    let [low, high] = e
        .pooled
        .age
        .as_ref()
        .unwrap()
        .mean_absolute_interval
        .unwrap();
    assert!(low <= 5.5 && high >= 5.5, "{low} {high}");
}

#[test]
fn a_recording_without_speech_is_refused_and_others_only_failed() {
    let manifest = Manifest::parse(
        MANIFEST.as_bytes(),
        "m.csv",
        PathBuf::new(),
        &Manifest::EVALUATION,
    )
    .unwrap();
    let mut evaluator = Evaluator::new(&manifest, &info());
    let refused = NoAnswer::new(Code::NoSpeech, "one/a.wav: no speech");
    let failed = NoAnswer::new(Code::UnusableAudio, "one/b.wav: damaged");
    for outcome in [Err(refused), Err(failed), said(2, 0.7, 0.6, 20.0)] {
        evaluator.add(&outcome);
    }
    let e = evaluator.finish(None, &info(), "abc");
    assert_eq!((e.pooled.failed, e.pooled.refused), (2, 1));
    let codes: Vec<&str> = e.failures.iter().map(|f| f.code).collect();
    assert_eq!(codes, ["no_speech", "unusable_audio"]);
    assert!(
        e.text().contains("Recordings without speech"),
        "{}",
        e.text()
    );
}
