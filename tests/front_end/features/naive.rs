//! Literal transcriptions of the definitions, independent of the implementation, and test signals.

use std::f64::consts::PI;

use maeum::front_end::FRAME_SAMPLES;
use proptest::prelude::*;

/// Returns the window starts for `t` frames, transcribed from the definition.
pub fn starts_by_the_text(t: usize) -> Vec<i64> {
    if t > 1500 {
        return (0..14).map(|i| i * 100).collect();
    }
    if t < 200 {
        return vec![0];
    }
    let exact = t as f64 / 100.0;
    let floor = exact.floor();
    let half_even = match t % 100 {
        0..50 => floor,
        50 if (t / 100).is_multiple_of(2) => floor,
        _ => floor + 1.0,
    };
    let k = half_even as i64 - 1;
    let mut starts: Vec<i64> = (0..k).map(|i| i * 100).collect();
    if half_even >= exact {
        starts[k as usize - 1] += ((exact - half_even) * 100.0).trunc() as i64;
    }
    starts
}

/// Returns coefficient `k` of one band by its defining sum.
pub fn naive_transform(band: &[f64], k: usize, shift: f64, wave: fn(f64) -> f64) -> f64 {
    let t = band.len() as f64;
    let angle = |n: usize| PI * (k as f64 + shift) * (2.0 * n as f64 + 1.0) / (2.0 * t);
    let sum: f64 = band
        .iter()
        .enumerate()
        .map(|(n, x)| x * wave(angle(n)))
        .sum();
    2.0 * sum / t
}

/// Signals of many kinds, including damaged recordings.
pub fn signals() -> impl Strategy<Value = Vec<f64>> {
    let length = FRAME_SAMPLES..50_000;
    let noise = (length.clone(), any::<u64>(), -30.0..8.0_f64).prop_map(|(n, seed, level)| {
        let scale = 10_f64.powf(level);
        random(seed).take(n).map(|x| x * scale).collect::<Vec<_>>()
    });
    let constant = (length.clone(), -1.0..1.0_f64).prop_map(|(n, x)| vec![x; n]);
    let impulses = (
        length.clone(),
        prop::collection::vec((any::<u32>(), -1.0..1.0_f64), 0..9),
    )
        .prop_map(|(n, impulses)| {
            let mut signal = vec![0.0; n];
            for (at, x) in impulses {
                signal[at as usize % n] = x;
            }
            signal
        });
    let tone = (length, 0.0..PI, 1e-6..1.0_f64)
        .prop_map(|(n, step, x)| (0..n).map(|i| x * (step * i as f64).sin()).collect());
    prop_oneof![3 => noise, 1 => constant, 2 => impulses, 2 => tone]
}

/// Uniform random values in -1..1 (xorshift64*, Vigna 2016).
pub fn random(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 52) as f64 - 1.0
    })
}
