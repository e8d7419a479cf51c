//! The front end on a device against the CPU's stages and against the goldens.
//!
//! Up to the cleaned signal, and from the normalisation of a given spectrogram on, the device
//! repeats the CPU's operations in the CPU's order. There the results are bit-identical, or within
//! a tolerance whose reason is given.

use std::sync::Arc;

use maeum::audio::decode::decode_path;
use maeum::audio::vad::{Mode, SampleRate, Vad};
use maeum::audio::{Recording, Resampling};
use maeum::front_end::AudioError;
use maeum::front_end::cuda::FrontEndError;
use maeum::front_end::legacy2020::clean::{largest_sample, pre_emphasis, replace_zeros, wiener};
use maeum::front_end::legacy2020::cuda::{Cleaned, CudaFrontEnd, RecordingFeatures};
use maeum::front_end::legacy2020::from_mel;
use maeum::front_end::legacy2020::trim::FRAME;
use maeum::front_end::legacy2020::{VoiceDetector, prepare_with};
use maeum::front_end::{FeatureError, Mel, MelFilterbank, N_MELS};
use maeum::nn::cuda::{Driver, Stream, Timed};
use proptest::prelude::*;

use crate::common::{Golden, all_recordings, legacy2020_dir, recording};
use crate::features::{
    BRANCHES, Expected, FROM_SIGNAL, check_mel, check_share, compare, from_mel_limits, is_emulated,
    own_mel, take,
};
use crate::{download, drivers};

fn front_end(driver: &Arc<dyn Driver>, resampling: Resampling) -> CudaFrontEnd {
    CudaFrontEnd::new(driver.clone(), Stream::A, resampling).unwrap()
}

fn detector() -> impl VoiceDetector {
    let mut vad = Vad::new(SampleRate::Khz16, Mode::Aggressive);
    move |frame: &[i16; FRAME]| vad.is_speech(frame).unwrap()
}

pub fn recorded(samples: Vec<f32>, sample_rate: u32) -> Recording {
    let mut recording = Recording::from_samples([0.0], sample_rate).expect("the rate is supported");
    // Not rounded to 16 bits.
    recording.samples = samples;
    recording
}

/// Synthesises syllables: tones with overtones under slow envelopes, silence between them, a little
/// noise.
pub fn voice(seconds: f64, rate: u32, seed: u64) -> Recording {
    let mut state = seed | 1;
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    let n = (seconds * f64::from(rate)) as usize;
    let samples = (0..n)
        .map(|i| {
            let t = i as f64 / f64::from(rate);
            let syllable = (t * 9.0 + seed as f64).sin().max(0.0);
            let pitch = 120.0 + 30.0 * (t * 2.0).sin() + (seed % 50) as f64;
            let tone: f64 = (1..12)
                .map(|h| (std::f64::consts::TAU * pitch * f64::from(h) * t).sin() / f64::from(h))
                .sum();
            let x = 0.2 * syllable * tone + 1e-3 * noise();
            (x * 32768.0).round() as f32 / 32768.0
        })
        .collect();
    recorded(samples, rate)
}

/// Returns recordings of many lengths and rates for one batch, including some that cannot be
/// analysed.
fn mixed() -> Vec<Recording> {
    let mut long_silence = voice(0.8, 16_000, 9);
    long_silence.samples[2_000..9_000].fill(0.0);
    vec![
        voice(1.3, 44_100, 1),
        recorded(vec![0.1; 30], 16_000),
        voice(0.026, 16_000, 2),
        voice(2.7, 8_000, 3),
        recorded(vec![0.0; 5_000], 16_000),
        voice(0.05, 22_050, 4),
        voice(0.7, 22_050, 5),
        voice(0.4, 48_000, 6),
        long_silence,
        voice(0.3, 44_101, 7),
        recorded(vec![], 16_000),
        recorded(vec![1e-3; 1_000], 11_025),
        voice(0.5, 96_000, 8),
    ]
}

fn bits<T: Copy + Into<f64>>(values: &[T]) -> Vec<u64> {
    values.iter().map(|&v| v.into().to_bits()).collect()
}

fn cleaned(recording: &Recording, resampling: Resampling) -> (Vec<f64>, f64) {
    let mut resampled = resampling.to_target_rate(&recording.samples, recording.sample_rate);
    replace_zeros(&mut resampled);
    let mut signal = wiener(&resampled);
    pre_emphasis(&mut signal);
    let peak = largest_sample(&signal).unwrap();
    signal.iter_mut().for_each(|x| *x /= peak);
    (signal, peak)
}

/// Checks the stages whose operations round alike on all machines.
fn check_cleaned(driver: &Arc<dyn Driver>, resampling: Resampling, recordings: &[Recording]) {
    let given: Vec<&Recording> = recordings.iter().collect();
    let ours = front_end(driver, resampling).cleaned(&given).unwrap();
    assert_eq!(ours.len(), recordings.len());
    for (i, (recording, ours)) in recordings.iter().zip(ours).enumerate() {
        let Ok(Cleaned { signal, peak }) = ours else {
            continue;
        };
        let (expected, expected_peak) = cleaned(recording, resampling);
        assert_eq!(
            signal.len(),
            expected.len(),
            "{resampling:?}, recording {i}"
        );
        let differs = bits(&signal)
            .iter()
            .zip(bits(&expected))
            .position(|(a, b)| *a != b);
        assert_eq!(
            differs, None,
            "{resampling:?}, recording {i}, {} Hz",
            recording.sample_rate
        );
        assert_eq!(peak.to_bits(), expected_peak.to_bits());
    }
}

#[test]
fn cleaned_signals_are_the_cpus_bits() {
    for driver in drivers() {
        for resampling in [Resampling::Exact, Resampling::Fast] {
            check_cleaned(&driver, resampling, &mixed());
        }
    }
}

fn check_whole_way(driver: &Arc<dyn Driver>, resampling: Resampling, recordings: &[Recording]) {
    let given: Vec<&Recording> = recordings.iter().collect();
    let mut front_end = front_end(driver, resampling);
    let (results, inputs) = front_end.run(&given).unwrap();
    let placed = || results.iter().flatten();
    let frames = placed().map(|h| h.location.frames).sum();
    let taken = take(driver, &inputs, frames);
    let extractor = MelFilterbank::new();
    let (mut before, mut exact) = (0, 0);
    for (i, (recording, result)) in recordings.iter().zip(&results).enumerate() {
        let what = format!("{}, {resampling:?}, recording {i}", driver.name());
        let expected = prepare_with(recording, resampling, &mut detector());
        let (prepared, heard) = match (expected, result) {
            (Ok(prepared), Ok(heard)) => (prepared, heard),
            (Err(theirs), Err(FrontEndError::Audio(ours))) => {
                assert_eq!(*ours, theirs, "{what}");
                continue;
            }
            (theirs, ours) => panic!("{what}: {ours:?} against {theirs:?}"),
        };
        let RecordingFeatures {
            location,
            kept,
            trimmed,
            voiced_frames,
            total_samples,
            peak,
        } = heard;
        assert_eq!(*kept, prepared.kept, "{what}");
        assert_eq!(*trimmed, prepared.trimmed, "{what}");
        assert_eq!(*voiced_frames, prepared.voiced_frames, "{what}");
        assert_eq!(*total_samples, prepared.total_samples, "{what}");
        assert_eq!(peak.to_bits(), prepared.peak.to_bits(), "{what}");
        let mel = extractor.mel(&prepared.signal).unwrap();
        assert_eq!(location.frames, mel.frames(), "{what}");
        exact += check_mel(&what, own_mel(&taken, before, location.frames), mel.data());
        before += location.frames;
        compare(
            &what,
            location,
            &taken,
            &Expected::of(mel).unwrap(),
            &FROM_SIGNAL,
        );
    }
    check_share(driver, exact, N_MELS * before);
}

#[test]
fn features_of_recordings_are_the_cpus() {
    for driver in drivers() {
        for resampling in [Resampling::Exact, Resampling::Fast] {
            check_whole_way(&driver, resampling, &mixed());
        }
    }
}

#[test]
fn a_batch_after_a_batch_has_its_own_numbers() {
    let driver = drivers().remove(0);
    let mut front_end = front_end(&driver, Resampling::Exact);
    let one = |front_end: &mut CudaFrontEnd, recordings: &[Recording]| {
        let given: Vec<&Recording> = recordings.iter().collect();
        let (results, inputs) = front_end.run(&given).unwrap();
        let frames = results.iter().flatten().map(|h| h.location.frames).sum();
        let taken = take(&driver, &inputs, frames);
        (results, taken.windows, taken.branches)
    };
    let [small, large] = [vec![voice(0.4, 16_000, 1)], mixed()];
    let first = one(&mut front_end, &small);
    let between = one(&mut front_end, &large);
    assert!(first == one(&mut front_end, &small));
    assert!(between == one(&mut front_end, &large));
    // A recording's result does not depend on the other recordings of its batch.
    let [a, b] = [voice(0.9, 44_100, 5), voice(1.1, 8_000, 6)];
    let (_, together, _) = one(&mut front_end, &[a.clone(), b.clone()]);
    let alone = [a, b].map(|r| one(&mut front_end, &[r]).1).concat();
    assert_eq!(bits(&together), bits(&alone));
    assert!(one(&mut front_end, &[]).0.is_empty());
}

/// Returns a random spectrogram of `frames` frames whose band `flat` is constant.
fn spectrogram(frames: usize, seed: u64, flat: usize) -> Mel {
    let mut state = seed | 1;
    let data = (0..N_MELS * frames).map(|i| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let x = (state >> 11) as f64 / (1u64 << 53) as f64;
        if i / frames == flat {
            0.1
        } else {
            x.powi(6) * 0.02
        }
    });
    Mel::from_bands(frames, data.collect()).unwrap()
}

/// Returns a spectrogram whose logarithm has values on the edges of all histogram bins.
fn at_bin_edges() -> Mel {
    let power_of = |log: f64| {
        // Candidates around the approximate inverse.
        let near = (log.exp() - 1.0) / 1e6;
        let around = (-4..=4).map(|ulps| f64::from_bits(near.to_bits().wrapping_add_signed(ulps)));
        around
            .into_iter()
            .find(|power| (1.0 + 1e6 * power).ln() == log)
    };
    let edges: Vec<f64> = (1..=40)
        .filter_map(|i| power_of(f64::from(i) * 0.25))
        .collect();
    assert_eq!(
        (1.0 + 1e6 * edges[edges.len() - 1]).ln(),
        10.0,
        "the last edge has a power"
    );
    let data = (0..N_MELS * 90).map(|i| edges[i * 7 % edges.len()]);
    Mel::from_bands(90, data.collect()).unwrap()
}

fn check_summaries(driver: &Arc<dyn Driver>, mels: &[Mel]) {
    let given: Vec<&Mel> = mels.iter().collect();
    let mut front_end = front_end(driver, Resampling::Exact);
    let (locations, inputs) = front_end.from_mels(&given).unwrap();
    let taken = take(driver, &inputs, mels.iter().map(Mel::frames).sum());
    for (i, (mel, location)) in mels.iter().zip(&locations).enumerate() {
        let what = format!(
            "{}, spectrogram {i} of {} frames",
            driver.name(),
            mel.frames()
        );
        match (Expected::of(mel.clone()), location) {
            (Ok(expected), Ok(location)) => {
                let features = from_mel(mel).unwrap();
                assert_eq!(location.frames, features.frames, "{what}");
                assert_eq!(location.window_starts, features.windows.starts(), "{what}");
                assert_eq!(
                    location.empty_histogram_bands, features.empty_histogram_bands,
                    "{what}"
                );
                compare(&what, location, &taken, &expected, &from_mel_limits(driver));
            }
            (Err(theirs), Err(ours)) => assert_eq!(*ours, theirs, "{what}"),
            (theirs, ours) => panic!("{what}: {ours:?} against {:?}", theirs.err()),
        }
    }
}

#[test]
fn summaries_of_spectrograms_are_the_cpus() {
    let lengths = [
        1, 2, 3, 7, 8, 9, 39, 40, 41, 63, 64, 127, 128, 129, 150, 199, 200, 250, 251,
    ];
    let longer = [257, 300, 513, 586, 1_029, 1_499, 1_500, 1_501, 2_600, 5_000];
    let mut mels: Vec<Mel> = lengths
        .into_iter()
        .chain(longer)
        .zip(0u64..)
        .map(|(frames, seed)| spectrogram(frames, seed, seed as usize % 50))
        .collect();
    mels.push(Mel::from_bands(30, vec![0.25; 30 * N_MELS]).unwrap());
    mels.push(Mel::from_bands(1, vec![0.0; N_MELS]).unwrap());
    for driver in drivers() {
        check_summaries(&driver, &mels);
        // Another implementation of the logarithm may put these values on the other side.
        if is_emulated(&driver) {
            check_summaries(&driver, &[at_bin_edges()]);
        }
    }
}

#[test]
fn a_timed_driver_names_every_kernel_and_changes_nothing() {
    let plain = drivers().remove(0);
    let timed = Arc::new(Timed::new(plain.clone()));
    let recording = voice(0.4, 22_050, 2);
    let windows = |driver: Arc<dyn Driver>| {
        let mut front_end = front_end(&driver, Resampling::Exact);
        let (_, inputs) = front_end.run(&[&recording]).unwrap();
        download::<f32>(&*driver, inputs.windows, 200 * 40).unwrap()
    };
    assert_eq!(bits(&windows(timed.clone())), bits(&windows(plain)));
    let timings = timed.take().unwrap();
    let kernels: Vec<&str> = timings.iter().map(|t| &*t.kernel).collect();
    let expected = [
        "resample_copy",
        "resample_exact",
        "clean_noise",
        "clean_filter",
        "clean_peak",
        "clean_normalize",
        "mel_spectrogram",
        "feature_spread",
        "feature_windows",
        "feature_log",
        "feature_transforms",
        "feature_histogram",
        "feature_moments",
    ];
    assert_eq!(kernels, expected);
    assert!(timings.iter().all(|t| !t.work.exact && t.work.bytes > 0));
    assert!(timed.take().unwrap().is_empty());
}

#[test]
fn what_cannot_be_analysed_is_said_in_its_place() {
    let driver = drivers().remove(0);
    let loud = (0..8_000).map(|i| 5e18 * (i as f32 * 1.2).sin()).collect();
    let loud = recorded(loud, 16_000);
    let recordings = [recorded(vec![0.0; 900], 8_000), voice(0.6, 16_000, 1), loud];
    let given: Vec<&Recording> = recordings.iter().collect();
    let mut front_end = front_end(&driver, Resampling::Fast);
    let (results, inputs) = front_end.run(&given).unwrap();
    assert_eq!(results[0], Err(AudioError::Silence.into()));
    assert!(results[1].is_ok());
    assert!(
        matches!(
            results[2],
            Err(FrontEndError::Features(FeatureError::TooLoud { .. }))
        ),
        "{:?}",
        results[2]
    );
    assert_eq!(inputs.rows, 2);
}

proptest! {
    // Each case runs on every driver.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_signal_is_resampled_and_cleaned_to_the_cpus_bits(
        parts in prop::collection::vec((1usize..3_000, prop::sample::select(vec![0.0f32, 1e-4, 0.5, 1.0])), 1..5),
        seed in any::<u64>(),
        rate in prop_oneof![
            prop::sample::select(vec![8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000]),
            1_000u32..200_000,
        ],
    ) {
        let mut state = seed;
        let samples = parts.iter().flat_map(|&(n, level)| (0..n).map(move |_| level)).map(|level| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 48) as i16 as f32 / 32768.0) * level
        });
        let recordings = [recorded(samples.collect(), rate)];
        for driver in drivers() {
            for resampling in [Resampling::Exact, Resampling::Fast] {
                check_cleaned(&driver, resampling, &recordings);
            }
        }
    }

    #[test]
    fn any_spectrograms_have_the_cpus_summaries(
        lengths in prop::collection::vec(1usize..700, 1..5),
        seed in any::<u64>(),
        flat in 0usize..60,
    ) {
        let mels: Vec<Mel> = lengths.iter().zip(0..).map(|(&n, i)| spectrogram(n, seed ^ i, flat)).collect();
        for driver in drivers() {
            check_summaries(&driver, &mels);
        }
    }
}

/// All captured recordings in one batch.
#[test]
fn features_of_the_captured_recordings_are_the_references() {
    let Some(dir) = legacy2020_dir() else { return };
    let names: Vec<&str> = all_recordings().collect();
    let recordings: Vec<Recording> = names
        .iter()
        .map(|name| decode_path(recording(&dir, name)).unwrap())
        .collect();
    let given: Vec<&Recording> = recordings.iter().collect();
    for driver in drivers() {
        let mut front_end = front_end(&driver, Resampling::Exact);
        let (results, inputs) = front_end.run(&given).unwrap();
        let frames = results.iter().flatten().map(|h| h.location.frames).sum();
        let taken = take(&driver, &inputs, frames);
        let mut before = 0;
        for (name, result) in names.iter().zip(&results) {
            let heard = result.as_ref().unwrap();
            let mut golden = Golden::open(&dir, name);
            let decisions = golden.get::<u8>("vad").1;
            assert_eq!(heard.total_samples, decisions.len(), "{name}");
            let spread = (0..decisions.len()).map(|i| heard.voiced_frames[i / 480]);
            assert!(
                spread.eq(decisions.iter().map(|d| *d != 0)),
                "{name}: decisions"
            );
            let (shape, mel) = golden.get::<f64>("mel");
            assert_eq!(heard.location.frames, shape[1], "{name}");
            check_mel(name, own_mel(&taken, before, shape[1]), &mel);
            before += shape[1];
            let expected = Expected {
                windows: golden.get::<f32>("crops").1,
                branches: BRANCHES.map(|key| golden.get::<f64>(key).1),
                mel: Mel::from_bands(shape[1], mel).unwrap(),
            };
            compare(name, &heard.location, &taken, &expected, &FROM_SIGNAL);
        }
    }
}
