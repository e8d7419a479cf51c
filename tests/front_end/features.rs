//! Feature stages of 2020: each against the captures, starting from the captured result of the
//! previous stage, and against naive transcriptions of the definitions on random input.

#[path = "features/naive.rs"]
mod naive;

use std::path::Path;

use crate::common::{self, Golden};
use maeum::front_end::legacy2020::{
    COEFFICIENTS, FeatureExtractor, Features, HISTOGRAM_BIN_WIDTH, HISTOGRAM_BINS, MAX_FRAMES,
    MOMENTS, WINDOW_FRAMES, Windows, extract, from_mel, summaries, windows,
};
use maeum::front_end::{FeatureError, HOP, LogMel, Mel, N_MELS, SAMPLE_RATE};
use naive::{naive_transform, random, signals, starts_by_the_text};
use proptest::prelude::*;

/// Contract for the mel power, relative to each golden value. A Fourier transform with another
/// order of summation can round a bin to the adjacent single-precision value, which changes its
/// power by 2.4e-7.
const MEL_RELATIVE: f64 = 1e-6;
/// Minimum divisor of the relative error: the system of 2020 squares in single precision, which has
/// fewer digits below its smallest normal number.
const MEL_FLOOR: f64 = f32::MIN_POSITIVE as f64;
/// Relative error of a mel power if every bin rounds like the capture: the effect of
/// double-precision sums of up to 30 weighted bins.
const MEL_EXACT: f64 = 1e-12;
/// Fraction of the values that must be within [`MEL_EXACT`]. A different order or precision of
/// rounding would leave almost none there, unlike a rare bin at a rounding boundary.
const MEL_EXACT_SHARE: f64 = 0.99;
/// Contract for transforms and moments from the golden mel spectrogram, relative to the golden
/// value or to 1 if that is larger.
const SUMMARY: f64 = 1e-9;
/// Tolerance of the transforms against the direct sum, whose floating-point angles, up to 40 * pi *
/// 313 / 626 radians, err by about 1e-14 each.
const NAIVE_TRANSFORM: f64 = 1e-11;
/// Tolerance of a histogram's integral, the sum of densities times the bin width: the rounding of
/// 40 terms around 1.
const UNIT_SUM: f64 = 1e-12;
/// Distance to a bin edge within which a value may fall on either side, unless it comes from the
/// golden mel spectrogram.
const EDGE: f64 = 1e-6;
/// Tolerance of moments computed from the signal. An odd moment near 0 transmits its error as a
/// third to seventh root, so the mel tolerance of 1e-6 cannot hold.
const MOMENTS_FROM_SIGNAL: f64 = 1e-4;
/// Tolerance of transforms computed from the signal. The relative error of the logarithm is at most
/// that of the mel power, and the transform at most doubles its mean.
const TRANSFORM_FROM_SIGNAL: f64 = 2.0 * MEL_RELATIVE;

/// Recordings whose signal stages were captured, in addition to the features.
const WITH_SIGNAL: [&str; 4] = ["de_8k", "en_short", "ko_stereo44", "test_dis"];

fn golden_mel(golden: &mut Golden) -> Mel {
    let (shape, data) = golden.get::<f64>("mel");
    assert_eq!(shape[0], N_MELS);
    Mel::from_bands(shape[1], data).unwrap()
}

/// Input signal of the features: the trimmed signal at its original level.
fn golden_signal(golden: &mut Golden) -> Vec<f64> {
    let (_, wiener) = golden.get::<f64>("wiener");
    let emphasised = wiener.windows(2).map(|w| w[1] - 0.97 * w[0]);
    let peak = emphasised.fold(wiener[0], f64::max);
    let (_, trimmed) = golden.get::<f64>("trimmed");
    trimmed.iter().map(|x| x * peak).collect()
}

/// Returns the largest difference, relative to the expected value or to `floor` if that is larger.
fn worst(actual: &[f64], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(actual.len(), expected.len());
    assert!(actual.iter().chain(expected).all(|v| v.is_finite()));
    let relative = |(a, e): (&f64, &f64)| (a - e).abs() / e.abs().max(floor);
    actual
        .iter()
        .zip(expected)
        .map(relative)
        .fold(0.0, f64::max)
}

fn for_each(names: impl IntoIterator<Item = &'static str>, check: impl Fn(&str, &mut Golden)) {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let mut seen = 0;
    for name in names {
        check(name, &mut Golden::open(Path::new(&dir), name));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn mel_matches_the_captures() {
    let extractor = FeatureExtractor::new();
    for_each(WITH_SIGNAL, |name, golden| {
        let expected = golden_mel(golden);
        let mel = extractor.mel(&golden_signal(golden)).unwrap();
        assert_eq!(mel.frames(), expected.frames(), "{name}");
        let off = worst(mel.data(), expected.data(), MEL_FLOOR);
        let exact = mel
            .data()
            .iter()
            .zip(expected.data())
            .filter(|(a, e)| (*a - *e).abs() <= MEL_EXACT * e.max(MEL_FLOOR))
            .count();
        let share = exact as f64 / mel.data().len() as f64;
        println!("{name}: mel off by {off:.2e} relative, {share} within {MEL_EXACT:e}");
        assert!(off <= MEL_RELATIVE, "{name}: off by {off:e}");
        assert!(
            share >= MEL_EXACT_SHARE,
            "{name}: only {share} within {MEL_EXACT:e}"
        );
    });
}

#[test]
fn normalised_mel_and_windows_are_bit_identical() {
    for_each(common::all_recordings(), |name, golden| {
        let mel = golden_mel(golden);
        let normalized = windows::normalize(&mel).unwrap();
        let (shape, expected) = golden.get::<f32>("mel_normalized_padded");
        assert_eq!(shape, [N_MELS, MAX_FRAMES], "{name}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(
            bits(normalized.data()) == bits(&expected),
            "{name}: normalised mel differs"
        );
        let windows = normalized.windows();
        let (shape, expected) = golden.get::<f32>("crops");
        assert_eq!(
            shape,
            [windows.starts().len(), WINDOW_FRAMES, N_MELS],
            "{name}"
        );
        assert!(
            bits(&windows.data()) == bits(&expected),
            "{name}: windows differ"
        );
    });
}

#[test]
fn transforms_match_the_captures() {
    for_each(common::all_recordings(), |name, golden| {
        let (dct, dst) = summaries::dct_dst(&golden_mel(golden).log());
        for (key, values) in [("dct", dct), ("dst", dst)] {
            let (shape, expected) = golden.get::<f64>(key);
            assert_eq!(shape, [N_MELS, COEFFICIENTS]);
            let off = worst(&values, &expected, 1.0);
            println!("{name}: {key} off by {off:.2e}");
            assert!(off <= SUMMARY, "{name}: {key} off by {off:e}");
        }
    });
}

#[test]
fn histograms_are_identical() {
    for_each(common::all_recordings(), |name, golden| {
        let histogram = summaries::histogram(&golden_mel(golden).log());
        let (shape, expected) = golden.get::<f64>("hist");
        assert_eq!(shape, [N_MELS, HISTOGRAM_BINS]);
        assert_eq!(histogram.density, expected, "{name}");
        assert!(histogram.empty_bands.is_empty(), "{name}");
    });
}

#[test]
fn moments_match_the_captures() {
    for_each(common::all_recordings(), |name, golden| {
        let values = summaries::moments(&golden_mel(golden).log());
        let (shape, expected) = golden.get::<f64>("moments");
        assert_eq!(shape, [N_MELS, MOMENTS]);
        let off = worst(&values, &expected, 1.0);
        println!("{name}: moments off by {off:.2e}");
        assert!(off <= SUMMARY, "{name}: off by {off:e}");
    });
}

/// All stages from the signal, which also tests their connections.
#[test]
fn features_of_a_signal_match_the_captures() {
    for_each(WITH_SIGNAL, |name, golden| {
        let features = extract(&golden_signal(golden)).unwrap();
        let mel = golden_mel(golden);
        assert_eq!(features.frames, mel.frames(), "{name}");
        assert_eq!(
            features.frames as i64,
            golden.get::<i64>("frames").1[0],
            "{name}"
        );
        let (_, crops) = golden.get::<f32>("crops");
        let (ours, theirs): (Vec<f64>, Vec<f64>) = features
            .windows
            .data()
            .iter()
            .zip(&crops)
            .map(|(a, e)| (f64::from(*a), f64::from(*e)))
            .unzip();
        assert_eq!(features.windows.data().len(), crops.len(), "{name}");
        assert!(
            worst(&ours, &theirs, 1.0) <= MEL_RELATIVE,
            "{name}: windows"
        );
        for (key, values, tolerance) in [
            ("dct", &features.dct, TRANSFORM_FROM_SIGNAL),
            ("dst", &features.dst, TRANSFORM_FROM_SIGNAL),
            ("moments", &features.moments, MOMENTS_FROM_SIGNAL),
        ] {
            let off = worst(values, &golden.get::<f64>(key).1, 1.0);
            println!("{name}: {key} from the signal off by {off:.2e}");
            assert!(off <= tolerance, "{name}: {key} off by {off:e}");
        }
        let (_, hist) = golden.get::<f64>("hist");
        assert_histogram(name, &features, &mel.log(), &hist);
    });
}

/// Asserts equal densities, except in bands with a value at a bin edge.
fn assert_histogram(name: &str, features: &Features, log: &LogMel, expected: &[f64]) {
    let at_edge = |v: &f64| {
        let edge = (v / HISTOGRAM_BIN_WIDTH).round() * HISTOGRAM_BIN_WIDTH;
        // No value is negative, so the lowest edge cannot be crossed.
        edge > 0.0 && (v - edge).abs() <= EDGE
    };
    let rows = features
        .histogram
        .chunks(HISTOGRAM_BINS)
        .zip(expected.chunks(HISTOGRAM_BINS));
    let mut compared = 0;
    for (band, (values, (actual, expected))) in log.bands().zip(rows).enumerate() {
        if !values.iter().any(at_edge) {
            assert_eq!(actual, expected, "{name}: band {band}");
            compared += 1;
        }
    }
    assert!(
        compared > N_MELS / 2,
        "{name}: only {compared} bands could be compared"
    );
}

#[test]
fn network_inputs_have_the_networks_shapes() {
    let signal: Vec<f64> = (0..SAMPLE_RATE)
        .map(|i| (i as f64 * 0.3).sin() * 0.1)
        .collect();
    let features = extract(&signal).unwrap();
    let inputs = features.branch_inputs();
    assert_eq!(
        inputs.each_ref().map(|i| i.name),
        ["dct", "dst", "histogram", "moments"]
    );
    for (input, columns) in inputs
        .iter()
        .zip([COEFFICIENTS, COEFFICIENTS, HISTOGRAM_BINS, MOMENTS])
    {
        assert_eq!(input.shape, [40, columns, 1]);
        assert_eq!(input.data.len(), 40 * columns);
    }
    assert_eq!(inputs[3].data[9], features.moments[9] as f32);
}

#[test]
fn bad_signals_are_named_errors() {
    assert_eq!(extract(&[]), Err(FeatureError::TooShort { samples: 0 }));
    assert_eq!(
        extract(&[0.1; 399]),
        Err(FeatureError::TooShort { samples: 399 })
    );
    assert!(
        FeatureError::TooShort { samples: 399 }
            .to_string()
            .contains("400")
    );
    let silence = extract(&[0.0; 16_000]);
    assert_eq!(silence, Err(FeatureError::Constant { value: 0.0 }));
    // The power of this signal is below the smallest single-precision number.
    assert_eq!(extract(&[1e-30; 16_000]), silence);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut signal = vec![0.1; 1000];
        signal[700] = bad;
        assert!(matches!(
            extract(&signal),
            Err(FeatureError::NotFinite { index: 700, .. })
        ));
    }
    let mut loud = vec![0.0; 16_000];
    loud[8000] = 1e30;
    assert_eq!(extract(&loud), Err(FeatureError::TooLoud { frame: 49 }));
}

#[test]
fn bad_spectrograms_are_named_errors() {
    for (frames, values) in [(0, 0), (3, 119), (usize::MAX, 40)] {
        let shape = FeatureError::Shape { frames, values };
        assert_eq!(Mel::from_bands(frames, vec![0.0; values]), Err(shape));
    }
    for value in [-1e-9, f64::NAN, f64::INFINITY, 1e39] {
        let mut data = vec![1.0; N_MELS * 3];
        data[7] = value;
        let error = Mel::from_bands(3, data).unwrap_err();
        assert!(
            matches!(
                error,
                FeatureError::NotPower {
                    band: 2,
                    frame: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}

/// A constant band has no moments, and a band above the histogram's range no densities.
#[test]
fn flat_and_loud_bands_have_zeros_instead_of_nan() {
    let frames = 50;
    let mut data: Vec<f64> = (0..N_MELS * frames)
        .map(|i| (i % 17) as f64 * 1e-6)
        .collect();
    data[3 * frames..4 * frames].fill(0.1); // ln(1 + 1e5) = 11.5
    data[5 * frames..6 * frames].fill(0.0);
    let features = from_mel(&Mel::from_bands(frames, data).unwrap()).unwrap();
    assert_eq!(features.empty_histogram_bands, [3]);
    let row = |values: &[f64], columns: usize, band: usize| {
        values[band * columns..(band + 1) * columns].to_vec()
    };
    assert_eq!(
        row(&features.histogram, HISTOGRAM_BINS, 3),
        [0.0; HISTOGRAM_BINS]
    );
    assert_eq!(
        row(&features.histogram, HISTOGRAM_BINS, 5)[0],
        1.0 / HISTOGRAM_BIN_WIDTH
    );
    let mut loud = [0.0; MOMENTS];
    loud[0] = (1.0_f64 + 1e6 * 0.1).ln();
    assert_eq!(row(&features.moments, MOMENTS, 3), loud);
    assert_eq!(row(&features.moments, MOMENTS, 5), [0.0; MOMENTS]);
    assert!(
        row(&features.moments, MOMENTS, 4)[2..]
            .iter()
            .all(|m| *m != 0.0)
    );
}

#[test]
fn histogram_bins_include_their_lower_edge_and_the_last_its_upper() {
    // Band 0 stays at exact zeros: the lower edge of the first bin.
    let frames = 2;
    let mut data = vec![0.0; N_MELS * frames];
    let power = |log: f64| (log.exp() - 1.0) / 1e6;
    data[frames] = power(9.99);
    data[frames + 1] = power(10.01);
    data[2 * frames] = power(0.26);
    data[2 * frames + 1] = power(0.24);
    data[3 * frames..4 * frames].fill(power(5.0));
    data[4 * frames..5 * frames].fill(power(10.0));
    let log = Mel::from_bands(frames, data).unwrap().log();
    // The logarithm is exact for values this large.
    assert_eq!(log.data()[3 * frames..5 * frames], [5.0, 5.0, 10.0, 10.0]);
    let histogram = summaries::histogram(&log);
    let bins = |band: usize| {
        let row = &histogram.density[band * HISTOGRAM_BINS..][..HISTOGRAM_BINS];
        row.iter()
            .enumerate()
            .filter(|(_, d)| **d > 0.0)
            .map(|(i, d)| (i, *d))
            .collect::<Vec<_>>()
    };
    assert_eq!(bins(0), [(0, 4.0)]);
    assert_eq!(bins(1), [(39, 4.0)]);
    assert_eq!(bins(2), [(0, 2.0), (1, 2.0)]);
    assert_eq!(bins(3), [(20, 4.0)]);
    assert_eq!(bins(4), [(39, 4.0)]);
    assert_eq!(histogram.empty_bands, [] as [usize; 0]);
}

#[test]
fn window_starts_follow_the_definition() {
    for t in 1..3000 {
        let starts: Vec<i64> = windows::window_starts(t)
            .iter()
            .map(|&s| s as i64)
            .collect();
        assert_eq!(starts, starts_by_the_text(t), "{t} frames");
        let last = *starts.last().unwrap() as usize;
        assert!(last + WINDOW_FRAMES <= MAX_FRAMES, "{t} frames");
    }
}

#[test]
fn windows_hold_their_frames_and_zeros_after_the_end() {
    for frames in [1, 78, 199, 200, 251, 586, 1499, 1500, 1700] {
        let data: Vec<f64> = (0..N_MELS * frames)
            .map(|i| (i * i % 1009) as f64)
            .collect();
        let mel = Mel::from_bands(frames, data).unwrap();
        let normalized = windows::normalize(&mel).unwrap();
        let windows = normalized.windows();
        assert_eq!(windows.iter().len(), windows.starts().len());
        for (index, (window, &start)) in windows.iter().zip(windows.starts()).enumerate() {
            assert_eq!(window.len(), Windows::VALUES);
            let real = windows.real_frames(index);
            assert_eq!(real, WINDOW_FRAMES.min(frames - start), "{frames} frames");
            for (t, row) in window.chunks(N_MELS).enumerate() {
                for (band, value) in row.iter().enumerate() {
                    let expected = normalized.data()[band * MAX_FRAMES + start + t];
                    assert_eq!(*value, expected);
                    assert!(t < real || *value == 0.0, "{frames} frames, row {t}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn features_are_finite_or_an_error(signal in signals()) {
        match extract(&signal) {
            Ok(features) => {
                prop_assert_eq!(features.frames, 1 + signal.len() / HOP);
                let Features { dct, dst, histogram, moments, .. } = &features;
                for values in [dct, dst, histogram, moments] {
                    prop_assert!(values.iter().all(|v| v.is_finite()));
                }
                for input in features.branch_inputs() {
                    prop_assert!(input.data.iter().all(|v| v.is_finite()));
                }
                prop_assert!(features.windows.data().iter().all(|v| v.is_finite()));
                for (band, row) in histogram.chunks(HISTOGRAM_BINS).enumerate() {
                    let sum = row.iter().sum::<f64>() * HISTOGRAM_BIN_WIDTH;
                    let expected = if features.empty_histogram_bands.contains(&band) { 0.0 } else { 1.0 };
                    prop_assert!((sum - expected).abs() <= UNIT_SUM, "band {} sums to {}", band, sum);
                }
            }
            Err(FeatureError::Constant { .. }) => {
                // Only a signal whose power vanishes in single precision may have no features.
                prop_assert!(signal.iter().all(|x| x.abs() < 1e-20));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn extreme_samples_do_not_panic(n in 0_usize..2000, seed: u64, level in -320.0..308.0_f64) {
        let scale = 10_f64.powf(level);
        let signal: Vec<f64> = random(seed).take(n).map(|x| x * scale).collect();
        if let Ok(features) = extract(&signal) {
            prop_assert!(features.moments.iter().all(|v| v.is_finite()));
            prop_assert!(features.windows.data().iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn transforms_are_the_sums_that_define_them(frames in 1_usize..320, seed: u64) {
        let data = random(seed).take(N_MELS * frames).map(f64::abs).collect();
        let log = Mel::from_bands(frames, data).unwrap().log();
        let (dct, dst) = summaries::dct_dst(&log);
        prop_assert_eq!(&summaries::dct(&log), &dct);
        prop_assert_eq!(&summaries::dst(&log), &dst);
        for (band, values) in log.bands().enumerate() {
            for k in 0..COEFFICIENTS {
                let at = band * COEFFICIENTS + k;
                if k >= frames {
                    prop_assert_eq!((dct[at], dst[at]), (0.0, 0.0));
                    continue;
                }
                let expected = naive_transform(values, k, 0.0, f64::cos);
                prop_assert!((dct[at] - expected).abs() <= NAIVE_TRANSFORM, "dct {k} of {frames}");
                let expected = naive_transform(values, k, 1.0, f64::sin);
                prop_assert!((dst[at] - expected).abs() <= NAIVE_TRANSFORM, "dst {k} of {frames}");
            }
        }
    }

    #[test]
    fn moments_follow_their_definition(frames in 2_usize..600, seed: u64) {
        // Squaring makes the bands skewed, so that no moment is near 0, where it would lose digits.
        let data = random(seed).take(N_MELS * frames).map(|x| x * x * 1e-6).collect();
        let log = Mel::from_bands(frames, data).unwrap().log();
        let ours = summaries::moments(&log);
        for (row, band) in ours.chunks(MOMENTS).zip(log.bands()) {
            let n = frames as f64;
            let mean = band.iter().sum::<f64>() / n;
            let central = |p: i32| band.iter().map(|x| (x - mean).powi(p)).sum::<f64>() / n;
            prop_assert!((row[0] - mean).abs() <= SUMMARY);
            prop_assert!((row[1] - central(2).sqrt()).abs() <= SUMMARY);
            for order in 3..=8_i32 {
                // Compared as powers, because a root would amplify the rounding of a moment near 0.
                let scaled = row[order as usize - 1].abs().powi(order);
                let expected = central(order).abs() / central(2).powf(f64::from(order) / 2.0);
                prop_assert!((scaled - expected).abs() <= SUMMARY * expected.max(1.0), "moment {order}");
            }
        }
    }
}
