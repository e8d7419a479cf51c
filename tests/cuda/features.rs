//! Tolerances of features, with their reasons.

use std::sync::Arc;

use maeum::front_end::legacy2020::cuda::{FeatureLocation, Inputs};
use maeum::front_end::legacy2020::{HISTOGRAM_BIN_WIDTH, HISTOGRAM_BINS, from_mel};
use maeum::front_end::{FeatureError, Mel, N_MELS};
use maeum::nn::cuda::Driver;

use crate::download;

/// Mel power, relative: the CPU's own tolerance against the goldens. A Fourier transform with
/// another order of summation can round a bin to the neighbouring single-precision value, which
/// changes its power by 2.4e-7.
const MEL: f64 = 1e-6;
/// Smaller powers are compared relative to this value. They stand for digital silence, consist of
/// rounding errors of louder samples in the same frame, and vanish beside speech (about 1e-3) in
/// every sum.
const MEL_FLOOR: f64 = 1e-20;
/// Minimum share of mel powers within [`MEL_EXACT`], where every bin was rounded alike. A loss of
/// precision in the transform would lower it.
const MEL_EXACT: f64 = 1e-12;
const MEL_EXACT_SHARE: f64 = 0.99;
/// Windows from the same spectrogram: the same operations give the same bits.
const WINDOWS: f64 = 0.0;
/// Transforms and moments from the same spectrogram, relative to the value or 1. The device's
/// logarithm and root may differ in the last bit (2e-16), which can round to the neighbouring
/// single-precision value (6e-8).
const SUMMARIES: f64 = 1.2e-7;
/// Windows from the recording: `(power - mean) / deviation`, where mean and deviation follow the
/// power.
const WINDOWS_FROM_SIGNAL: f64 = 3.0 * MEL;
/// Transforms from the recording: the relative error of the logarithm is at most that of the power,
/// the transform at most doubles its mean, and the result is rounded to single precision.
const TRANSFORMS_FROM_SIGNAL: f64 = 2.0 * MEL + 6e-8;
/// Moments from the recording: an odd moment near 0 propagates its error as a third to seventh
/// root.
const MOMENTS_FROM_SIGNAL: f64 = 1e-4;
/// Distance to a histogram bin's edge within which a value may fall on either side.
const EDGE: f64 = 1e-6;
/// Names of the branches in the goldens.
pub const BRANCHES: [&str; 4] = ["dct", "dst", "hist", "moments"];

pub const FROM_SIGNAL: Limits = Limits {
    windows: WINDOWS_FROM_SIGNAL,
    transforms: TRANSFORMS_FROM_SIGNAL,
    moments: MOMENTS_FROM_SIGNAL,
    edge: EDGE,
};

/// Returns the tolerances for features from the same spectrogram.
pub fn from_mel_limits(driver: &Arc<dyn Driver>) -> Limits {
    match is_emulated(driver) {
        // The emulator calls the same maths functions as the CPU code.
        true => Limits {
            windows: 0.0,
            transforms: 0.0,
            moments: 0.0,
            edge: 0.0,
        },
        false => Limits {
            windows: WINDOWS,
            transforms: SUMMARIES,
            moments: SUMMARIES,
            // The last bit of the logarithm.
            edge: 1e-14,
        },
    }
}

pub fn is_emulated(driver: &Arc<dyn Driver>) -> bool {
    driver.name().starts_with("emulator")
}

/// Features of a batch, downloaded from the device.
pub struct Taken {
    pub windows: Vec<f32>,
    pub branches: [Vec<f32>; 4],
    pub mel: Vec<f64>,
}

pub fn take(driver: &Arc<dyn Driver>, inputs: &Inputs, frames: usize) -> Taken {
    let driver = &**driver;
    let columns = [40, 40, 40, 8];
    Taken {
        windows: download(driver, inputs.windows, inputs.window_count * 200 * 40).unwrap(),
        branches: std::array::from_fn(|b| {
            download(driver, inputs.branches[b], inputs.rows * 40 * columns[b]).unwrap()
        }),
        mel: download(driver, inputs.mel, 40 * frames).unwrap(),
    }
}

/// Returns the largest difference, relative to the expected value or to `floor` if that is larger.
pub fn worst(actual: &[f64], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(actual.len(), expected.len());
    assert!(actual.iter().all(|v| v.is_finite()));
    let relative = |(a, e): (&f64, &f64)| (a - e).abs() / e.abs().max(floor);
    actual
        .iter()
        .zip(expected)
        .map(relative)
        .fold(0.0, f64::max)
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v as f32)).collect()
}

/// Expected features of one recording, computed on the CPU.
pub struct Expected {
    pub windows: Vec<f32>,
    pub branches: [Vec<f64>; 4],
    pub mel: Mel,
}

impl Expected {
    pub fn of(mel: Mel) -> Result<Self, FeatureError> {
        let features = from_mel(&mel)?;
        Ok(Self {
            windows: features.windows.data(),
            branches: [
                features.dct,
                features.dst,
                features.histogram,
                features.moments,
            ],
            mel,
        })
    }
}

/// Tolerances of features.
pub struct Limits {
    windows: f64,
    /// For the cosine and sine transforms.
    transforms: f64,
    moments: f64,
    /// Distance to a bin's edge within which a value may change sides.
    edge: f64,
}

pub fn compare(
    what: &str,
    location: &FeatureLocation,
    taken: &Taken,
    expected: &Expected,
    limits: &Limits,
) {
    let values = 200 * 40;
    let windows = &taken.windows[location.windows.start * values..location.windows.end * values];
    let off = worst(&doubles(windows), &doubles(&expected.windows), 1.0);
    assert!(off <= limits.windows, "{what}: windows off by {off:e}");
    for (b, name) in BRANCHES.iter().enumerate() {
        let count = expected.branches[b].len();
        let ours = doubles(&taken.branches[b][location.row * count..][..count]);
        let theirs = rounded(&expected.branches[b]);
        let limit = match *name {
            "hist" => {
                same_histograms(what, &ours, &theirs, &expected.mel, limits.edge);
                continue;
            }
            "moments" => limits.moments,
            _ => limits.transforms,
        };
        let off = worst(&ours, &theirs, 1.0);
        println!("{what}: {name} off by {off:.1e}");
        assert!(off <= limit, "{what}: {name} off by {off:e}");
    }
}

/// Checks that the densities are equal, except in bands with a value at a bin's edge.
fn same_histograms(what: &str, ours: &[f64], theirs: &[f64], mel: &Mel, edge: f64) {
    let at_edge = |v: &f64| {
        let nearest = (v / HISTOGRAM_BIN_WIDTH).round() * HISTOGRAM_BIN_WIDTH;
        nearest > 0.0 && (v - nearest).abs() < edge
    };
    let log = mel.log();
    let rows = ours
        .chunks(HISTOGRAM_BINS)
        .zip(theirs.chunks(HISTOGRAM_BINS));
    let mut compared = 0;
    for (band, (values, (ours, theirs))) in log.bands().zip(rows).enumerate() {
        if !values.iter().any(at_edge) {
            assert_eq!(ours, theirs, "{what}: band {band}");
            compared += 1;
        }
    }
    assert!(
        compared > N_MELS / 2,
        "{what}: only {compared} bands were compared"
    );
}

/// Returns a recording's mel powers.
pub fn own_mel(taken: &Taken, before: usize, frames: usize) -> &[f64] {
    &taken.mel[N_MELS * before..][..N_MELS * frames]
}

/// Compares mel powers; returns the number that are equal up to the order of summation.
pub fn check_mel(what: &str, ours: &[f64], expected: &[f64]) -> usize {
    let off = worst(ours, expected, MEL_FLOOR);
    println!("{what}: mel off by {off:.1e}");
    assert!(off <= MEL, "{what}: mel off by {off:e}");
    let same = |(a, e): &(&f64, &f64)| (*a - *e).abs() <= MEL_EXACT * e.max(MEL_FLOOR);
    ours.iter().zip(expected).filter(same).count()
}

pub fn check_share(driver: &Arc<dyn Driver>, exact: usize, values: usize) {
    let share = exact as f64 / values as f64;
    println!(
        "{}: {share} of the mel powers within {MEL_EXACT:e}",
        driver.name()
    );
    assert!(
        share >= MEL_EXACT_SHARE,
        "only {share} within {MEL_EXACT:e}"
    );
}
