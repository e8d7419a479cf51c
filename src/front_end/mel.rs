//! Power mel spectrogram.
//!
//! Method: librosa 0.6.2 `feature.melspectrogram` (short-time Fourier transform with a periodic
//! Hann window on the mirror-padded signal, Slaney's mel scale and area normalisation as in his
//! Auditory Toolbox). librosa stores the transform as complex64; its magnitude and square are
//! single precision too, and only the mel sums are double. The same roundings are applied here
//! because they change the result by 1e-7.

use std::f64::consts::PI;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::{BINS, FRAME_SAMPLES, FeatureError, HOP, LOG_SCALE, N_MELS, PAD, SAMPLE_RATE};

/// Upper edge of the last mel band, in Hz.
const TOP_HZ: f64 = SAMPLE_RATE as f64 / 2.0;
/// Top of the linear part of Slaney's scale, in Hz; above it the scale is logarithmic.
const LINEAR_TOP_HZ: f64 = 1000.0;
/// Hz per mel in the linear part.
const LINEAR_HZ_PER_MEL: f64 = 200.0 / 3.0;
/// Number of mels in the logarithmic part over which the frequency grows by [`LOG_RATIO`].
const LOG_MELS: f64 = 27.0;
/// See [`LOG_MELS`].
const LOG_RATIO: f64 = 6.4;

/// Power per mel band and frame: 40 bands from 0 to 8,000 Hz, one frame per 10 ms.
///
/// Every value is finite, non-negative and within single precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Mel {
    frames: usize,
    data: Vec<f64>,
}

impl Mel {
    /// Maximum number of frames of a spectrogram (about 2 years); it prevents size overflow.
    pub const MAX_FRAMES: usize = u32::MAX as usize;

    /// Creates a spectrogram from existing powers, `[N_MELS][frames]`.
    ///
    /// # Errors
    /// [`FeatureError::Shape`] if the number of values differs, [`FeatureError::NotPower`] for a
    /// value that is negative, not finite or beyond single precision.
    pub fn from_bands(frames: usize, data: Vec<f64>) -> Result<Self, FeatureError> {
        if frames == 0
            || frames > Self::MAX_FRAMES
            || frames.checked_mul(N_MELS) != Some(data.len())
        {
            return Err(FeatureError::Shape {
                frames,
                values: data.len(),
            });
        }
        match data.iter().position(|v| !is_power(*v)) {
            Some(at) => Err(FeatureError::NotPower {
                band: at / frames,
                frame: at % frames,
                value: data[at],
            }),
            None => Ok(Self { frames, data }),
        }
    }

    /// Returns the number of frames, at least 1.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Returns all powers, `[N_MELS][frames]`.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// Returns the logarithmic spectrogram `ln(1 + 1e6 * power)`.
    #[must_use]
    pub fn log(&self) -> LogMel {
        self.clone().into_log()
    }

    /// Computes [`Self::log`] in place.
    pub(super) fn into_log(mut self) -> LogMel {
        for s in &mut self.data {
            // Not `ln_1p`: the system of 2020 rounds the sum first, which makes a quiet band
            // exactly 0.
            *s = (1.0 + LOG_SCALE * *s).ln();
        }
        LogMel {
            frames: self.frames,
            data: self.data,
        }
    }
}

/// `ln(1 + 1e6 * power)` per mel band and frame; finite and non-negative.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    frames: usize,
    data: Vec<f64>,
}

impl LogMel {
    /// Returns the number of frames, at least 1.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Returns all values, `[N_MELS][frames]`.
    #[must_use]
    pub fn data(&self) -> &[f64] {
        &self.data
    }

    /// Iterates over the bands from low to high frequency, each a slice over time.
    pub fn bands(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.data.chunks_exact(self.frames)
    }
}

/// Returns whether `value` is a valid mel power. The filter weights of a band sum to less than 1,
/// so if every bin fits single precision, so does the band.
fn is_power(value: f64) -> bool {
    (0.0..=f64::from(f32::MAX)).contains(&value)
}

/// Mel filter bank with the preceding analysis window and Fourier transform.
#[derive(Clone)]
pub struct MelFilterbank {
    fft: Arc<dyn RealToComplex<f64>>,
    hann: Vec<f64>,
    filters: Vec<Filter>,
}

/// Triangular filter: weights of the bins from `first` on; the weights of all other bins are 0.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) first: usize,
    pub(crate) weights: Vec<f64>,
}

impl Filter {
    /// Returns the weighted sum of the [`BINS`] powers of a frame.
    pub(super) fn apply(&self, power: &[f64; BINS]) -> f64 {
        let bins = &power[self.first..self.first + self.weights.len()];
        bins.iter().zip(&self.weights).map(|(p, w)| p * w).sum()
    }
}

impl std::fmt::Debug for MelFilterbank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MelFilterbank")
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

impl Default for MelFilterbank {
    fn default() -> Self {
        Self::new()
    }
}

impl MelFilterbank {
    /// Builds the transform, window and filters.
    #[must_use]
    pub fn new() -> Self {
        Self {
            fft: RealFftPlanner::new().plan_fft_forward(FRAME_SAMPLES),
            hann: periodic_hann(FRAME_SAMPLES),
            filters: filters(),
        }
    }

    /// Computes the power mel spectrogram of a 16 kHz signal: `1 + samples / HOP` frames.
    ///
    /// # Errors
    /// [`FeatureError::TooShort`] for fewer than 400 samples, [`FeatureError::NotFinite`] for a NaN
    /// or infinite sample, [`FeatureError::TooLoud`] if the power exceeds single precision.
    pub fn mel(&self, signal: &[f64]) -> Result<Mel, FeatureError> {
        if signal.len() < FRAME_SAMPLES {
            return Err(FeatureError::TooShort {
                samples: signal.len(),
            });
        }
        // One branch-free pass over all samples is faster than an early exit.
        if !signal.iter().fold(true, |all, x| all & x.is_finite())
            && let Some(index) = signal.iter().position(|x| !x.is_finite())
        {
            return Err(FeatureError::NotFinite {
                index,
                value: signal[index],
            });
        }
        let frames = 1 + signal.len() / HOP;
        if frames > Mel::MAX_FRAMES {
            return Err(FeatureError::Shape {
                frames,
                values: signal.len(),
            });
        }
        let mut data = vec![0.0; N_MELS * frames];
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = [0.0; BINS];
        for frame in 0..frames {
            fill_frame(signal, frame, &self.hann, &mut windowed);
            self.fft
                .process_with_scratch(&mut windowed, &mut spectrum, &mut scratch)
                .expect("the buffers were made by this transform");
            for (power, bin) in power.iter_mut().zip(&spectrum) {
                let (re, im) = (f64::from(bin.re as f32), f64::from(bin.im as f32));
                let magnitude = (re * re + im * im).sqrt() as f32;
                *power = f64::from(magnitude * magnitude);
            }
            for (band, filter) in self.filters.iter().enumerate() {
                let value = filter.apply(&power);
                if !is_power(value) {
                    return Err(FeatureError::TooLoud { frame });
                }
                data[band * frames + frame] = value;
            }
        }
        Ok(Mel { frames, data })
    }
}

/// Returns a periodic Hann window: the sample after the last would equal the first.
pub(crate) fn periodic_hann(samples: usize) -> Vec<f64> {
    let turn = 2.0 * PI / samples as f64;
    (0..samples)
        .map(|i| 0.5 - 0.5 * (turn * i as f64).cos())
        .collect()
}

/// Writes the windowed samples of `frame` into `out`, mirroring the signal at its ends without
/// repeating the end sample. The signal has at least [`FRAME_SAMPLES`] samples.
fn fill_frame(signal: &[f64], frame: usize, hann: &[f64], out: &mut [f64]) {
    let n = signal.len();
    let padded_start = frame * HOP;
    if padded_start >= PAD && padded_start - PAD + FRAME_SAMPLES <= n {
        let samples = &signal[padded_start - PAD..][..FRAME_SAMPLES];
        for ((out, w), x) in out.iter_mut().zip(hann).zip(samples) {
            *out = w * x;
        }
        return;
    }
    for (i, (out, w)) in out.iter_mut().zip(hann).enumerate() {
        let at = (padded_start + i).abs_diff(PAD);
        let at = if at < n { at } else { 2 * (n - 1) - at };
        *out = w * signal[at];
    }
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < LINEAR_TOP_HZ {
        hz / LINEAR_HZ_PER_MEL
    } else {
        LINEAR_TOP_HZ / LINEAR_HZ_PER_MEL + (hz / LINEAR_TOP_HZ).ln() * LOG_MELS / LOG_RATIO.ln()
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    let linear_top = LINEAR_TOP_HZ / LINEAR_HZ_PER_MEL;
    if mel < linear_top {
        mel * LINEAR_HZ_PER_MEL
    } else {
        LINEAR_TOP_HZ * ((mel - linear_top) * LOG_RATIO.ln() / LOG_MELS).exp()
    }
}

/// Returns the 40 triangular filters: edges equally spaced in mel, area 1 over frequency in Hz.
pub(crate) fn filters() -> Vec<Filter> {
    let mel_step = hz_to_mel(TOP_HZ) / (N_MELS + 1) as f64;
    let edges: Vec<f64> = (0..N_MELS + 2)
        .map(|i| mel_to_hz(i as f64 * mel_step))
        .collect();
    let bin_hz = TOP_HZ / (BINS - 1) as f64;
    edges
        .windows(3)
        .map(|edge| {
            let weight = |bin: usize| {
                let hz = bin as f64 * bin_hz;
                let rising = (hz - edge[0]) / (edge[1] - edge[0]);
                let falling = (edge[2] - hz) / (edge[2] - edge[1]);
                rising.min(falling).max(0.0) * 2.0 / (edge[2] - edge[0])
            };
            let first = (0..BINS).find(|&bin| weight(bin) > 0.0).unwrap_or(BINS);
            let weights = (first..BINS).map(weight).take_while(|w| *w > 0.0).collect();
            Filter { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mel_scale_has_slaneys_landmarks() {
        assert_eq!(hz_to_mel(0.0), 0.0);
        assert!((hz_to_mel(1000.0) - 15.0).abs() < 1e-12);
        assert!((hz_to_mel(6400.0) - 42.0).abs() < 1e-12);
        for hz in [0.0, 60.0, 999.9, 1000.0, 3200.0, 8000.0] {
            assert!((mel_to_hz(hz_to_mel(hz)) - hz).abs() < 1e-9, "{hz} Hz");
        }
    }

    #[test]
    fn every_filter_has_bins_and_weights_under_one() {
        let filters = filters();
        assert_eq!(filters.len(), N_MELS);
        for (band, filter) in filters.iter().enumerate() {
            assert!(!filter.weights.is_empty(), "band {band} covers no bin");
            let sum: f64 = filter.weights.iter().sum();
            assert!(sum > 0.0 && sum < 1.0, "band {band} sums to {sum}");
        }
    }

    #[test]
    fn a_pure_tone_lands_in_its_band() {
        let signal: Vec<f64> = (0..16_000)
            .map(|i| 0.5 * (2.0 * PI * 1000.0 * f64::from(i) / 16_000.0).sin())
            .collect();
        let mel = MelFilterbank::new().mel(&signal).unwrap();
        let step = hz_to_mel(TOP_HZ) / (N_MELS + 1) as f64;
        let nearest = (15.0 / step).round() as usize - 1;
        for frame in 2..mel.frames() - 2 {
            let at = |band: &usize| mel.data()[band * mel.frames() + frame];
            let loudest = (0..N_MELS).max_by(|a, b| at(a).total_cmp(&at(b))).unwrap();
            assert_eq!(loudest, nearest, "frame {frame}");
        }
    }

    #[test]
    fn frames_mirror_the_signal_at_both_ends() {
        let n = 401_usize;
        let signal: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let padded = |i: usize| match i {
            0..200 => signal[200 - i],
            200..601 => signal[i - 200],
            _ => signal[n - 2 - (i - 601)],
        };
        let mut out = vec![0.0; FRAME_SAMPLES];
        for frame in 0..=n / HOP {
            fill_frame(&signal, frame, &[1.0; FRAME_SAMPLES], &mut out);
            let expected: Vec<f64> = (0..FRAME_SAMPLES)
                .map(|i| padded(frame * HOP + i))
                .collect();
            assert_eq!(out, expected, "frame {frame}");
        }
    }
}
