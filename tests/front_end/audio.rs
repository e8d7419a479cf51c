//! The front end of 2020 against captures of that system, stage by stage.

use std::ops::Range;

use crate::common::{Golden, SAMPLE, all_recordings, legacy2020_dir, recording};
use maeum::audio::decode::decode_path;
use maeum::audio::resample::{INTERMEDIATE_RATE, TARGET_RATE, resample};
use maeum::front_end::AudioError;
use maeum::front_end::legacy2020::clean::{largest_sample, pre_emphasis, replace_zeros, wiener};
use maeum::front_end::legacy2020::prepare;
use maeum::front_end::legacy2020::trim::{FRAME, trim};
use webrtc_vad::{SampleRate, Vad, VadMode};

/// Recordings whose intermediate signals were captured, in addition to decisions and features.
const WITH_SIGNALS: [&str; 4] = ["de_8k", "en_short", "ko_stereo44", SAMPLE];

/// Tolerance for signals at the recording's own level, which stay below 1. The captured order of
/// float64 summation is unknown, and scipy's formula, run again, differs from the captures by
/// 9.7e-15. Signals divided by their peak are multiplied by it before the comparison.
const SIGNAL_TOLERANCE: f64 = 1e-14;

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max)
}

/// Computes the signal for the voice decisions, stage by stage like the library.
fn normalised(y16000: &[f32]) -> (Vec<f64>, f64) {
    let mut signal = wiener(y16000);
    pre_emphasis(&mut signal);
    let peak = largest_sample(&signal).unwrap();
    signal.iter_mut().for_each(|x| *x /= peak);
    (signal, peak)
}

fn resampled(path: &std::path::Path) -> (Vec<f32>, Vec<f32>) {
    let decoded = decode_path(path).unwrap();
    let y22050 = resample(&decoded.samples, decoded.sample_rate, INTERMEDIATE_RATE);
    let mut y16000 = resample(&y22050, INTERMEDIATE_RATE, TARGET_RATE);
    replace_zeros(&mut y16000);
    (y22050, y16000)
}

fn decisions(golden: &mut Golden) -> Vec<bool> {
    golden
        .get::<u8>("vad")
        .1
        .into_iter()
        .map(|v| v != 0)
        .collect()
}

fn assert_same_bits(name: &str, key: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name} {key}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(
            a.to_bits(),
            b.to_bits(),
            "{name} {key}[{i}]: {a:e} against {b:e}"
        );
    }
}

#[test]
fn resampled_signals_are_bit_identical() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in WITH_SIGNALS {
        let mut golden = Golden::open(&dir, name);
        let (y22050, y16000) = resampled(&recording(&dir, name));
        assert_same_bits(name, "y22050", &y22050, &golden.get::<f32>("y22050").1);
        assert_same_bits(name, "y16000", &y16000, &golden.get::<f32>("y16000").1);
    }
}

#[test]
fn every_recording_has_the_captured_length_at_16_khz() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in all_recordings() {
        let (_, y16000) = resampled(&recording(&dir, name));
        assert_eq!(
            y16000.len(),
            Golden::open(&dir, name).get::<u8>("vad").1.len(),
            "{name}"
        );
    }
}

#[test]
fn wiener_agrees() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in WITH_SIGNALS {
        let mut golden = Golden::open(&dir, name);
        let ours = wiener(&golden.get::<f32>("y16000").1);
        let difference = largest_difference(&ours, &golden.get::<f64>("wiener").1);
        println!("{name} wiener {difference:e}");
        assert!(difference <= SIGNAL_TOLERANCE, "{name}: {difference:e}");
    }
}

/// Returns the range of `part` in `whole`, and their largest difference there.
fn locate(part: &[f64], whole: &[f64]) -> (Range<usize>, f64) {
    let (start, difference) = (0..=whole.len() - part.len())
        .map(|s| {
            let probe = part.iter().zip(&whole[s..]).take(50);
            (s, probe.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
        })
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    let range = start..start + part.len();
    let all = largest_difference(part, &whole[range.clone()]);
    assert!(difference <= all);
    (range, all)
}

#[test]
fn trimming_agrees_given_the_captured_decisions() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in WITH_SIGNALS {
        let mut golden = Golden::open(&dir, name);
        let (signal, peak) = normalised(&golden.get::<f32>("y16000").1);
        let range = trim(&decisions(&mut golden), &signal).unwrap();
        let trimmed = golden.get::<f64>("trimmed").1;
        let (expected, difference) = locate(&trimmed, &signal);
        let difference = difference * peak;
        println!("{name} trimmed {range:?} {difference:e}");
        assert_eq!(range, expected, "{name}");
        assert!(difference <= SIGNAL_TOLERANCE, "{name}: {difference:e}");
    }
}

#[test]
fn trimming_agrees_for_every_recording() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in all_recordings() {
        let mut golden = Golden::open(&dir, name);
        let (_, y16000) = resampled(&recording(&dir, name));
        let (signal, _) = normalised(&y16000);
        let range = trim(&decisions(&mut golden), &signal);
        assert_eq!(
            range.is_some(),
            golden.get::<bool>("vad_found").1[0],
            "{name}"
        );
        // One mel frame per 160 samples of the kept part.
        let kept = range.map_or(signal.len(), |r| r.len());
        let mel_frames = golden.get::<f64>("mel").0[1];
        assert_eq!(1 + kept / 160, mel_frames, "{name}");
    }
}

#[test]
fn the_front_end_agrees_with_webrtc_as_detector() {
    let Some(dir) = legacy2020_dir() else { return };
    for name in all_recordings() {
        let mut golden = Golden::open(&dir, name);
        let decoded = decode_path(recording(&dir, name)).unwrap();
        let mut vad = Vad::new_with_rate_and_mode(SampleRate::Rate16kHz, VadMode::Aggressive);
        let mut detector = |frame: &[i16; FRAME]| vad.is_voice_segment(frame).unwrap();
        let prepared = prepare(&decoded, &mut detector).unwrap();

        let expected = decisions(&mut golden);
        for (i, frame) in expected.chunks(FRAME).enumerate() {
            assert!(
                frame.iter().all(|v| *v == prepared.voiced_frames[i]),
                "{name} frame {i}"
            );
        }
        assert_eq!(prepared.total_samples, expected.len(), "{name}");
        assert_eq!(
            prepared.trimmed,
            golden.get::<bool>("vad_found").1[0],
            "{name}"
        );
        assert_eq!(prepared.signal.len(), prepared.kept.len(), "{name}");
        // Resampling rounds up, so the last sample may extend beyond the recording's end.
        let end = (prepared.original_seconds * 16_000.0).min(expected.len() as f64);
        let voiced = expected.iter().enumerate().filter(|(_, voiced)| **voiced);
        let voiced = voiced
            .map(|(i, _)| (end - i as f64).clamp(0.0, 1.0))
            .sum::<f64>()
            / 16_000.0;
        assert!((prepared.voiced_seconds() - voiced).abs() < 1e-9, "{name}");
        if WITH_SIGNALS.contains(&name) {
            let trimmed = golden.get::<f64>("trimmed").1;
            let trimmed: Vec<f64> = trimmed.iter().map(|x| x * prepared.peak).collect();
            let difference = largest_difference(&prepared.signal, &trimmed);
            assert!(difference <= SIGNAL_TOLERANCE, "{name}: {difference:e}");
        }
    }
}

#[test]
fn digital_silence_is_an_error() {
    let Some(dir) = legacy2020_dir() else { return };
    let decoded = decode_path(dir.join("golden/silence2s.wav")).unwrap();
    let answer = prepare(&decoded, &mut |_: &[i16; FRAME]| false);
    assert_eq!(answer.unwrap_err(), AudioError::Silence);
}
