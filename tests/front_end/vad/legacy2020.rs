//! Plain transcription of the processing of 2020 from a recording to the voice detector's input,
//! independent of the library, so that the detector is tested on its own.

use std::f64::consts::PI;
use std::path::Path;

/// Returns the samples of a recording as interleaved 16-bit integers, the number of channels, and
/// the rate in Hz.
pub fn read_wav(path: &Path) -> (Vec<i16>, usize, f64) {
    let mut reader = hound::WavReader::open(path).unwrap();
    let spec = reader.spec();
    let samples = match spec.sample_format {
        hound::SampleFormat::Float => reader
            .samples::<f32>()
            .map(|x| (x.unwrap() * 32768.0).round_ties_even() as i16)
            .collect(),
        hound::SampleFormat::Int => reader
            .samples::<i32>()
            .map(|x| (x.unwrap() >> (spec.bits_per_sample - 16)) as i16)
            .collect(),
    };
    (samples, spec.channels.into(), f64::from(spec.sample_rate))
}

/// Returns the output of the noise filter of 2020 for a recording: decoded, averaged over channels,
/// resampled to 16 kHz by way of 22,050 Hz, filtered.
pub fn filtered(path: &Path) -> Vec<f64> {
    let (samples, channels, rate) = read_wav(path);
    let mono: Vec<f32> = samples
        .chunks_exact(channels)
        .map(|frame| frame.iter().map(|&x| f32::from(x) / 32768.0).sum::<f32>() / channels as f32)
        .collect();
    let at_16k = resample(&resample(&mono, 22_050.0 / rate), 16_000.0 / 22_050.0);
    let audible: Vec<f64> = at_16k
        .into_iter()
        .map(|x| f64::from(if x == 0.0 { 1e-10 } else { x }))
        .collect();
    wiener(&audible)
}

/// Band-limited interpolation with a Kaiser-windowed sinc table of 64 zero crossings (resampy
/// 0.2.1, "kaiser_best").
fn resample(input: &[f32], ratio: f64) -> Vec<f32> {
    const ZEROS: usize = 64;
    const PER_ZERO: usize = 512;
    const BETA: f64 = 14.769656459379492;
    const ROLL_OFF: f64 = 0.9475937167399596;
    if ratio == 1.0 {
        return input.to_vec();
    }
    let scale = ratio.min(1.0);
    let last = ZEROS * PER_ZERO;
    let table: Vec<f64> = (0..=last)
        .map(|i| {
            let x = i as f64 / last as f64;
            let angle = PI * ROLL_OFF * ZEROS as f64 * x;
            let sinc = if i == 0 { 1.0 } else { angle.sin() / angle };
            scale * ROLL_OFF * sinc * bessel_i0(BETA * (1.0 - x * x).sqrt()) / bessel_i0(BETA)
        })
        .collect();
    let step = (scale * PER_ZERO as f64) as usize;

    let exact = input.len() as f64 * ratio;
    let mut output = vec![0.0_f32; exact.ceil() as usize];
    let mut time = 0.0;
    for out in &mut output[..exact as usize] {
        let n = time as usize;
        let fraction = scale * (time - n as f64);
        let mut add = |fraction: f64, samples: &mut dyn Iterator<Item = &f32>| {
            let position = fraction * PER_ZERO as f64;
            let offset = position as usize;
            let eta = position - offset as f64;
            let taps = (table.len() - offset) / step;
            for (k, &x) in samples.take(taps).enumerate() {
                let i = offset + k * step;
                let slope = table.get(i + 1).map_or(0.0, |next| next - table[i]);
                *out = (f64::from(*out) + (table[i] + eta * slope) * f64::from(x)) as f32;
            }
        };
        add(fraction, &mut input[..=n].iter().rev());
        add(scale - fraction, &mut input[n + 1..].iter());
        time += 1.0 / ratio;
    }
    output
}

/// Modified Bessel function of order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..100 {
        term *= quarter / f64::from(k * k);
        sum += term;
    }
    sum
}

/// Wiener filter over three samples; squares are rounded to `f32`, as in scipy on float32 input.
fn wiener(x: &[f64]) -> Vec<f64> {
    let local_mean = |x: &[f64]| -> Vec<f64> {
        (0..x.len())
            .map(|i| {
                x[i.saturating_sub(1)..x.len().min(i + 2)]
                    .iter()
                    .sum::<f64>()
                    / 3.0
            })
            .collect()
    };
    let squares: Vec<f64> = x.iter().map(|x| f64::from((x * x) as f32)).collect();
    let means = local_mean(x);
    let variances: Vec<f64> = local_mean(&squares)
        .iter()
        .zip(&means)
        .map(|(square, mean)| square - mean * mean)
        .collect();
    let noise = variances.iter().sum::<f64>() / x.len() as f64;
    x.iter()
        .zip(means.iter().zip(&variances))
        .map(|(x, (m, v))| {
            if *v < noise {
                *m
            } else {
                m + (x - m) * (1.0 - noise / v)
            }
        })
        .collect()
}

/// Returns the detector's input: pre-emphasised, divided by the largest positive sample, scaled to
/// a peak of 0.9 if a sample exceeds full scale, and quantised by truncation.
pub fn detector_input(filtered: &[f64]) -> Vec<i16> {
    let mut x: Vec<f64> = std::iter::once(filtered[0])
        .chain(filtered.windows(2).map(|w| w[1] - 0.97 * w[0]))
        .collect();
    let positive = x.iter().copied().fold(0.0, f64::max);
    x.iter_mut().for_each(|x| *x /= positive);
    let peak = x.iter().map(|x| x.abs()).fold(0.0, f64::max);
    if peak >= 1.0 {
        x.iter_mut().for_each(|x| *x = *x / peak * 0.9);
    }
    x.iter().map(|x| (x * 32768.0) as f32 as i16).collect()
}
