//! The utterance front end on a device against the CPU's.

use std::sync::Arc;

use maeum::audio::decode::decode_path;
use maeum::audio::resample::{TARGET_RATE, resample, resample_directly};
use maeum::audio::{Recording, Resampling};
use maeum::front_end::AudioError;
use maeum::front_end::cuda::FrontEndError;
use maeum::front_end::utterance;
use maeum::front_end::utterance::{Frames, PitchFrame, STATS, Utterance, UtteranceExtractor};
use maeum::front_end::{FeatureError, N_MELS};
use maeum::nn::cuda::{Driver, Stream, Timed};
use proptest::prelude::*;

use crate::drivers;
use crate::front_end::{recorded, voice};

/// Tolerance of the square root of a mel power, relative to the largest of its frame. A Fourier
/// transform with another order of summation moves each amplitude by a few roundings of double
/// precision (1.1e-16) of the frame's norm, and a band's root by no more.
const AMPLITUDE: f64 = 1e-14;
/// Tolerance of heights and strengths of autocorrelation peaks, which are between 0 and 1: some
/// tens of roundings of the energy, several times that at the last lags, where the window's
/// autocorrelation is small.
const CORRELATION: f64 = 1e-13;
/// Tolerance of the pitch in Hz: the vertex divides such roundings by the peak's curvature, which
/// is 1e-3 for a sound and rarely below 1e-6 in noise.
const PITCH: f64 = 1e-7;
/// Tolerance of frame values, which are single precision: a value up to 4 may be rounded to its
/// neighbour.
const FRAMES: f64 = 2.4e-7;
/// Tolerance of descriptors, relative to the descriptor or to 1 if that is larger: rounded to the
/// neighbour.
const DESCRIPTORS: f64 = 1.2e-7;

const BOTH: [Resampling; 2] = [Resampling::Exact, Resampling::Fast];

fn front_end(driver: &Arc<dyn Driver>, resampling: Resampling) -> utterance::cuda::CudaFrontEnd {
    utterance::cuda::CudaFrontEnd::new(driver.clone(), Stream::A, resampling).unwrap()
}

/// Resamples like the recogniser: in one step, or not at all.
fn signal(recording: &Recording, resampling: Resampling) -> Vec<f64> {
    let (x, rate) = (&recording.samples, recording.sample_rate);
    let signal = match resampling {
        _ if rate == TARGET_RATE => x.clone(),
        Resampling::Exact => resample(x, rate, TARGET_RATE),
        Resampling::Fast => resample_directly(x, rate, TARGET_RATE),
    };
    signal.into_iter().map(f64::from).collect()
}

/// Returns the largest difference; infinite if any value is NaN.
fn worst(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    pairs.into_iter().fold(0.0, |worst: f64, (a, b)| {
        let off = (a - b).abs();
        if off.is_nan() {
            f64::INFINITY
        } else {
            worst.max(off)
        }
    })
}

/// Checks mel powers; returns the largest difference.
fn check_power(what: &str, ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let frames = ours.chunks(N_MELS).zip(theirs.chunks(N_MELS));
    let off = frames.map(|(ours, theirs)| {
        let roots = ours.iter().zip(theirs).map(|(a, b)| (a.sqrt(), b.sqrt()));
        let largest = theirs.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        worst(roots) / largest.sqrt()
    });
    let off = off.fold(0.0, f64::max);
    assert!(off <= AMPLITUDE, "{what}: amplitudes off by {off:e}");
    off
}

/// Checks candidates; returns the largest differences of heights and strengths, and of frequencies.
fn check_pitch(what: &str, ours: &PitchFrame, theirs: &PitchFrame) -> [f64; 2] {
    // Resampling, both means and their subtraction have the CPU's order.
    assert_eq!(ours.peak.to_bits(), theirs.peak.to_bits(), "{what}: peak");
    let mut values = vec![(ours.height, theirs.height)];
    let mut frequencies = Vec::new();
    for (ours, theirs) in ours.candidates.iter().zip(&theirs.candidates) {
        if theirs.strength == f64::NEG_INFINITY {
            assert_eq!(ours, theirs, "{what}: no candidate");
            continue;
        }
        values.extend([
            (ours.strength, theirs.strength),
            (ours.height, theirs.height),
        ]);
        frequencies.push((ours.frequency, theirs.frequency));
    }
    let (off, pitch) = (worst(values), worst(frequencies));
    assert!(off <= CORRELATION, "{what}: heights off by {off:e}");
    assert!(pitch <= PITCH, "{what}: candidates off by {pitch:e} Hz");
    [off, pitch]
}

fn check_frames(what: &str, ours: &Frames, theirs: &Frames) {
    let power = check_power(what, ours.power(), theirs.power());
    assert_eq!(ours.pitch().len(), theirs.pitch().len(), "{what}");
    let mut largest = [0.0f64; 2];
    for (t, (ours, theirs)) in ours.pitch().iter().zip(theirs.pitch()).enumerate() {
        let off = check_pitch(&format!("{what}, frame {t}"), ours, theirs);
        largest = [0, 1].map(|i| largest[i].max(off[i]));
    }
    let [heights, pitch] = largest;
    println!(
        "{what}: amplitudes off by {power:.1e}, heights by {heights:.1e}, candidates by {pitch:.1e} Hz"
    );
}

fn check_utterance(what: &str, ours: &Utterance, theirs: &Utterance) {
    assert_eq!(ours.total_frames, theirs.total_frames, "{what}");
    assert_eq!(ours.kept, theirs.kept, "{what}");
    assert_eq!(ours.active, theirs.active, "{what}");
    assert_eq!([ours.stats.len(), theirs.stats.len()], [STATS; 2], "{what}");
    assert_eq!(ours.frames.len(), theirs.frames.len(), "{what}");
    assert_eq!(ours.f0.len(), theirs.f0.len(), "{what}");
    let f0 = worst(ours.f0.iter().copied().zip(theirs.f0.iter().copied()));
    assert!(f0 <= PITCH, "{what}: pitch off by {f0:e} Hz");
    let pairs = |a: &[f32], b: &[f32]| -> Vec<(f64, f64)> {
        let wide = |x: &f32| f64::from(*x);
        a.iter().map(wide).zip(b.iter().map(wide)).collect()
    };
    let frames = worst(pairs(&ours.frames, &theirs.frames));
    assert!(frames <= FRAMES, "{what}: frame values off by {frames:e}");
    let stats = pairs(&ours.stats, &theirs.stats);
    let stats = worst(
        stats
            .into_iter()
            .map(|(a, b)| (a / b.abs().max(1.0), b / b.abs().max(1.0))),
    );
    assert!(stats <= DESCRIPTORS, "{what}: descriptors off by {stats:e}");
    println!(
        "{what}: pitch off by {f0:.1e} Hz, frames by {frames:.1e}, descriptors by {stats:.1e}"
    );
}

/// Both halves of the analysis, on a whole batch.
fn check(driver: &Arc<dyn Driver>, resampling: Resampling, recordings: &[Recording]) {
    let extractor = UtteranceExtractor::new();
    let given: Vec<&Recording> = recordings.iter().collect();
    let mut front_end = front_end(driver, resampling);
    let frames = front_end.frames(&given).unwrap();
    let utterances = front_end.analyse(&extractor, &given).unwrap();
    assert_eq!([frames.len(), utterances.len()], [recordings.len(); 2]);
    let results = frames.into_iter().zip(utterances);
    for (i, (recording, (frames, utterance))) in recordings.iter().zip(results).enumerate() {
        let what = format!("{}, {resampling:?}, recording {i}", driver.name());
        let signal = signal(recording, resampling);
        match extractor.frames(&signal) {
            Ok(theirs) => check_frames(&what, &frames.unwrap(), &theirs),
            Err(e) => assert_eq!(frames, Err(e.into()), "{what}"),
        }
        match extractor.analyse(&signal) {
            Ok(theirs) => check_utterance(&what, &utterance.unwrap(), &theirs),
            Err(e) => assert_eq!(utterance, Err(e.into()), "{what}"),
        }
    }
}

/// Returns recordings of many lengths and rates, soft and loud, with inner silence and an offset.
fn mixed() -> Vec<Recording> {
    let mut pause = voice(0.5, 16_000, 9);
    pause.samples[2_000..5_000].fill(0.0);
    let mut offset = voice(0.3, 16_000, 3);
    offset.samples.iter_mut().for_each(|x| *x += 0.25);
    let mut soft = voice(0.4, 22_050, 4);
    soft.samples.iter_mut().for_each(|x| *x *= 1e-2);
    vec![
        voice(0.45, 44_100, 1),
        voice(0.025, 16_000, 2),
        offset,
        soft,
        recorded(vec![0.1; 30], 16_000),
        voice(0.3, 8_000, 5),
        voice(0.2, 48_000, 6),
        pause,
        voice(0.15, 44_101, 7),
        voice(0.2, 96_000, 8),
    ]
}

#[test]
fn recordings_of_any_rate_are_analysed_as_on_the_cpu() {
    for driver in drivers() {
        for resampling in BOTH {
            check(&driver, resampling, &mixed());
        }
    }
}

#[test]
fn a_real_voice_is_analysed_as_on_the_cpu() {
    let voice = decode_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/voice.wav")).unwrap();
    let extractor = UtteranceExtractor::new();
    let pitch = extractor
        .analyse(&signal(&voice, Resampling::Fast))
        .unwrap()
        .f0;
    assert!(
        pitch.iter().filter(|f| **f > 0.0).count() > 50,
        "it has a pitch"
    );
    for driver in drivers() {
        check(&driver, Resampling::Fast, std::slice::from_ref(&voice));
    }
}

/// Returns noise between -1 and 1.
fn noise(samples: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let next = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    next.take(samples).collect()
}

fn with(mut samples: Vec<f32>, at: usize, value: f32) -> Recording {
    samples[at] = value;
    recorded(samples, 16_000)
}

#[test]
fn what_cannot_be_analysed_is_said_in_its_place() {
    let features = FrontEndError::Features;
    let silence = FrontEndError::Audio(AudioError::Silence);
    let cases = [
        (recorded(vec![], 16_000), Some(silence.clone())),
        (recorded(vec![0.0; 900], 8_000), Some(silence.clone())),
        // Dither.
        (
            recorded(
                (0..900).map(|i| (i % 3 - 1) as f32 / 32768.0).collect(),
                44_100,
            ),
            Some(silence),
        ),
        (
            recorded(noise(399, 1), 16_000),
            Some(features(FeatureError::TooShort { samples: 399 })),
        ),
        (
            recorded(noise(1, 1), 96_000),
            Some(features(FeatureError::TooShort { samples: 1 })),
        ),
        (recorded(noise(400, 1), 16_000), None),
        (
            recorded(vec![-0.3; 2_000], 16_000),
            Some(features(FeatureError::Constant { value: 0.0 })),
        ),
        (
            with(
                with(noise(900, 1), 899, f32::INFINITY).samples,
                600,
                f32::NEG_INFINITY,
            ),
            Some(features(FeatureError::NotFinite {
                index: 600,
                value: f64::NEG_INFINITY,
            })),
        ),
        (
            with(noise(700, 2), 0, f32::INFINITY),
            Some(features(FeatureError::NotFinite {
                index: 0,
                value: f64::INFINITY,
            })),
        ),
        (
            recorded(noise(500, 2).iter().map(|x| x * f32::MAX).collect(), 16_000),
            None,
        ),
        // Different samples without any sound.
        (
            recorded(
                (0..900)
                    .map(|i| if i == 450 { 4e-5 } else { 4.0000002e-5 })
                    .collect(),
                16_000,
            ),
            None,
        ),
    ];
    for driver in drivers() {
        let mut front_end = front_end(&driver, Resampling::Exact);
        let extractor = UtteranceExtractor::new();
        let given: Vec<&Recording> = cases.iter().map(|(r, _)| r).collect();
        let results = front_end.analyse(&extractor, &given).unwrap();
        assert_eq!(results.len(), cases.len());
        for (i, (result, (recording, expected))) in results.iter().zip(&cases).enumerate() {
            let what = format!("{}, recording {i}", driver.name());
            match expected {
                Some(error) => assert_eq!(result.as_ref().err(), Some(error), "{what}"),
                None => match extractor.analyse(&signal(recording, Resampling::Exact)) {
                    Ok(theirs) => check_utterance(&what, result.as_ref().unwrap(), &theirs),
                    Err(e) => assert_eq!(result, &Err(e.into()), "{what}"),
                },
            }
        }
        // NaN differs from itself.
        let nan = with(noise(800, 3), 17, f32::NAN);
        let result = front_end.analyse(&extractor, &[&nan]).unwrap().remove(0);
        assert!(
            matches!(result, Err(FrontEndError::Features(FeatureError::NotFinite { index: 17, value })) if value.is_nan()),
            "{result:?}"
        );
        // An unusable batch, and an empty one.
        let bad: Vec<&Recording> = cases
            .iter()
            .filter(|(_, e)| e.is_some())
            .map(|(r, _)| r)
            .collect();
        let results = front_end.analyse(&extractor, &bad).unwrap();
        assert!(results.len() == bad.len() && results.iter().all(Result::is_err));
        assert!(front_end.analyse(&extractor, &[]).unwrap().is_empty());
        assert!(front_end.analyse(&extractor, &[given[1]]).unwrap()[0].is_err());
    }
}

#[test]
fn a_batch_after_a_batch_has_its_own_utterances() {
    let extractor = UtteranceExtractor::new();
    for driver in drivers() {
        let mut front_end = front_end(&driver, Resampling::Fast);
        let mut one = |recordings: &[Recording]| {
            let given: Vec<&Recording> = recordings.iter().collect();
            let results = front_end.analyse(&extractor, &given).unwrap();
            results.into_iter().map(Result::ok).collect::<Vec<_>>()
        };
        let [small, large] = [vec![voice(0.2, 16_000, 1)], mixed()];
        let first = one(&small);
        let between = one(&large);
        assert!(first[0].is_some() && first == one(&small));
        assert!(between == one(&large));
        // Results do not depend on the other recordings of a batch.
        for (recording, together) in large.iter().zip(between) {
            assert!([together] == *one(std::slice::from_ref(recording)));
        }
        front_end.release();
        let given: Vec<&Recording> = small.iter().collect();
        let after = front_end.analyse(&extractor, &given).unwrap();
        assert!(after[0].as_ref().ok() == first[0].as_ref());
    }
}

#[test]
fn what_the_device_computes_is_timed() {
    let timed = Arc::new(Timed::new(drivers().remove(0)));
    let driver: Arc<dyn Driver> = timed.clone();
    let [a, b] = [voice(0.1, 16_000, 1), voice(0.1, 8_000, 1)];
    front_end(&driver, Resampling::Exact)
        .frames(&[&a, &b])
        .unwrap();
    let timings = timed.take().unwrap();
    let mut kernels: Vec<&str> = timings.iter().map(|t| &*t.kernel).collect();
    kernels.sort_unstable();
    let expected = [
        "resample_copy",
        "resample_exact",
        "signal_level",
        "utterance_pitch",
        "utterance_power",
    ];
    assert_eq!(kernels, expected);
}

proptest! {
    // Each case runs on every driver.
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_length_is_analysed_as_on_the_cpu(
        lengths in prop::collection::vec((2usize..12, -2isize..=2), 1..4),
        seed in any::<u64>(),
        pitch in 60.0f32..700.0,
        loudness in prop::sample::select(vec![1e-4f32, 0.1, 1.0, 1e30]),
    ) {
        // Around the borders of a frame, whose samples also belong to half the windows.
        let recordings: Vec<Recording> = lengths.iter().map(|&(frames, more)| {
            let samples = (160 * frames).saturating_add_signed(more);
            let turn = std::f32::consts::TAU * pitch / 16_000.0;
            let noise = noise(samples, seed ^ frames as u64).into_iter().zip(0u16..);
            let x = noise.map(|(x, i)| loudness * (0.1 * x + (turn * f32::from(i)).sin()));
            recorded(x.collect(), 16_000)
        }).collect();
        for driver in drivers() {
            check(&driver, Resampling::Exact, &recordings);
        }
    }
}
