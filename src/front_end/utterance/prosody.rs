//! Rhythm, pitch and harmonicity of the voiced runs.

use std::ops::Range;

use super::Contours;
use super::describe::{
    count, deviation, mean, mean_and_deviation, median, percentiles, runs, select, thirds,
};

/// Numbers of values of the groups.
pub(super) const RHYTHM: usize = 12;
pub(super) const F0: usize = 21;
pub(super) const HNR: usize = 8;

/// Frames per second.
const RATE: f64 = 100.0;
/// Minimum number of frames of a voiced run.
const MIN_RUN: usize = 3;
/// Reference pitch of the semitone scale, in Hz.
const SEMITONE_REFERENCE: f64 = 100.0;
/// Largest step between frames, in semitones; a larger one is an octave error.
const MAX_STEP: f64 = 6.0;
/// Steepest slope of a run, in semitones per second.
const MAX_SLOPE: f64 = 100.0;
/// Minimum divisor of the skewness, in semitones.
const MIN_DEVIATION: f64 = 0.3;
/// Bounds of the autocorrelation peak, which keep the harmonics-to-noise ratio finite.
const PEAK_BOUNDS: [f64; 2] = [1e-3, 0.9999];
/// Minimum deviation (exclusive) for a correlation.
const MIN_CORRELATION_DEVIATION: f64 = 1e-6;

/// Returns the voiced runs of sufficient length.
pub(super) fn voiced_runs(voiced: &[bool]) -> Vec<Range<usize>> {
    let mut found = runs(voiced);
    found.retain(|run| run.len() >= MIN_RUN);
    found
}

/// Returns whether each of `frames` frames lies in one of `runs`.
fn mask(runs: &[Range<usize>], frames: usize) -> Vec<bool> {
    let mut mask = vec![false; frames];
    for run in runs {
        mask[run.clone()].fill(true);
    }
    mask
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().reduce(f64::max).unwrap_or(0.0)
}

fn share(mask: &[bool]) -> f64 {
    count(mask) as f64 / mask.len() as f64
}

/// Computes the `rhythm` group; see [`super::STAT_GROUPS`].
pub(super) fn rhythm(voiced: &[bool], active: &[bool], voices: &[Range<usize>]) -> [f64; RHYTHM] {
    let seconds = voiced.len() as f64 / RATE;
    let lengths = lengths(voices);
    let gaps: Vec<f64> = voices
        .windows(2)
        .map(|pair| (pair[1].start - pair[0].end) as f64 / RATE)
        .collect();
    let quiet: Vec<bool> = active.iter().map(|a| !a).collect();
    let pauses = runs(&quiet);
    let (mean_length, deviation_length) = mean_and_deviation(&lengths);
    let (mean_gap, deviation_gap) = mean_and_deviation(&gaps);
    [
        seconds.ln(),
        share(voiced),
        share(active),
        count(voiced) as f64 / count(active).max(1) as f64,
        lengths.len() as f64 / seconds,
        mean_length,
        deviation_length,
        largest(lengths),
        mean_gap,
        deviation_gap,
        pauses.len() as f64 / seconds,
        largest(pauses.iter().map(|p| p.len() as f64 / RATE)),
    ]
}

/// Returns the lengths of runs in seconds.
fn lengths(runs: &[Range<usize>]) -> Vec<f64> {
    runs.iter().map(|run| run.len() as f64 / RATE).collect()
}

fn semitones(f0: &[f64]) -> Vec<f64> {
    let above = |f0: &f64| 12.0 * (f0 / SEMITONE_REFERENCE).log2();
    f0.iter().map(above).collect()
}

/// Returns the slope of the regression line in semitones per second.
fn slope(semitones: &[f64]) -> f64 {
    let middle = (semitones.len() as f64 - 1.0) / 2.0;
    let (mut product, mut square) = (0.0, 0.0);
    for (i, pitch) in semitones.iter().enumerate() {
        let x = i as f64 - middle;
        product += x * pitch;
        square += x * x;
    }
    (RATE * product / square).clamp(-MAX_SLOPE, MAX_SLOPE)
}

/// Computes the `f0` group; see [`super::STAT_GROUPS`].
pub(super) fn f0(f0: &[f64], voices: &[Range<usize>]) -> Vec<f64> {
    if voices.is_empty() {
        return vec![0.0; F0];
    }
    let of_runs: Vec<Vec<f64>> = voices.iter().map(|r| semitones(&f0[r.clone()])).collect();
    let pitch = of_runs.concat();
    let step = |pair: &[f64]| pair[1] - pair[0];
    let steps: Vec<f64> = of_runs
        .iter()
        .flat_map(|r| r.windows(2).map(step))
        .collect();
    let sizes: Vec<f64> = steps.iter().map(|s| s.abs()).collect();
    let limited = |values: &[f64]| -> Vec<f64> {
        let limit = |v: &f64| v.clamp(-MAX_STEP, MAX_STEP);
        values.iter().map(limit).collect()
    };
    let changes: Vec<f64> = steps.windows(2).map(|pair| step(pair).abs()).collect();
    let means: Vec<f64> = of_runs.iter().map(|run| mean(run)).collect();
    let slopes: Vec<f64> = of_runs.iter().map(|run| slope(run)).collect();
    let lengths = lengths(voices);
    let total: f64 = lengths.iter().sum();
    let weighted = |value: fn(f64) -> f64| -> f64 {
        let pairs = lengths.iter().zip(&slopes);
        pairs.map(|(length, s)| length / total * value(*s)).sum()
    };
    let (mean_pitch, deviation_pitch) = mean_and_deviation(&pitch);
    let [p5, p20, p50, p80, p95] = percentiles(&pitch, [5.0, 20.0, 50.0, 80.0, 95.0]);
    let cubes: Vec<f64> = pitch.iter().map(|p| (p - mean_pitch).powi(3)).collect();
    vec![
        mean_pitch,
        deviation_pitch,
        p5,
        p20,
        p50,
        p80,
        p95,
        p95 - p5,
        p80 - p20,
        mean(&limited(&sizes)),
        deviation(&limited(&steps)),
        mean(&limited(&changes)),
        median(&sizes).min(MAX_STEP),
        weighted(|s| s),
        weighted(f64::abs),
        deviation(&means),
        slopes[slopes.len() - 1],
        largest(slopes.iter().copied()),
        -largest(slopes.iter().map(|s| -s)),
        thirds(&pitch),
        mean(&cubes) / deviation_pitch.max(MIN_DEVIATION).powi(3),
    ]
}

/// Computes the `hnr` group; see [`super::STAT_GROUPS`].
pub(super) fn hnr(c: &Contours, voices: &[Range<usize>]) -> Vec<f64> {
    if voices.is_empty() {
        return vec![0.0; HNR];
    }
    let within = mask(voices, c.f0.len());
    let [least, most] = PEAK_BOUNDS;
    let ratios: Vec<f64> = select(&c.height, &within)
        .iter()
        .map(|r| r.min(most))
        .map(|r| 10.0 * (r.max(least) / (1.0 - r)).log10())
        .collect();
    let (mean_ratio, deviation_ratio) = mean_and_deviation(&ratios);
    let pitch = semitones(&select(&c.f0, &within));
    let heights = mean_and_deviation(&select(&c.height, &c.active));
    let mut out = vec![mean_ratio, deviation_ratio];
    out.extend(percentiles(&ratios, [10.0, 50.0, 90.0]));
    out.push(correlation(&pitch, &select(&c.energy, &within)));
    out.extend([heights.0, heights.1]);
    out
}

/// Returns Pearson's correlation; 0 if either input hardly varies.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, deviation_a) = mean_and_deviation(a);
    let (mean_b, deviation_b) = mean_and_deviation(b);
    if !(deviation_a > MIN_CORRELATION_DEVIATION && deviation_b > MIN_CORRELATION_DEVIATION) {
        return 0.0;
    }
    let products: Vec<f64> = a
        .iter()
        .zip(b)
        .map(|(a, b)| (a - mean_a) * (b - mean_b))
        .collect();
    (mean(&products) / deviation_a / deviation_b).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rise_has_its_slope() {
        let rise: Vec<f64> = (0..10).map(|i| 2.0 + 0.3 * f64::from(i)).collect();
        assert!((slope(&rise) - 30.0).abs() < 1e-9);
        let steep: Vec<f64> = (0..10).map(|i| 3.0 * f64::from(i)).collect();
        assert_eq!(slope(&steep), MAX_SLOPE);
    }

    #[test]
    fn correlation_is_of_shape_alone() {
        let a = [1.0, 2.0, 4.0, 3.0];
        let b = a.map(|v| 5.0 - 2.0 * v);
        assert!((correlation(&a, &b) + 1.0).abs() < 1e-12);
        assert_eq!(correlation(&a, &[7.0; 4]), 0.0);
    }
}
