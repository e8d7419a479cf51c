//! Short-time Fourier transform.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats};
use super::shapes::{Problem, count, single};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};
use crate::nn::limits::MAX_ELEMENTS;

/// Short-time Fourier transform of `[samples, channels]` to `[frames, bins, channels, 2]`, real part
/// before imaginary part, as `tf.signal.stft` of TensorFlow defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stft {
    /// Factors of a frame's samples, `[frame length]`; at most `fft_length`.
    pub window: WeightId,
    /// Samples from one frame to the next, at least 1.
    pub hop: usize,
    /// Length of the transform, at least 2: the windowed frame is followed by zeros. There are
    /// `fft_length / 2 + 1` bins.
    pub fft_length: usize,
    /// Zeros before the first sample.
    pub pad_begin: usize,
    /// One frame starts at every multiple of `hop`, zeros following the last sample; otherwise frames
    /// end at the last sample or before.
    pub pad_end: bool,
}

impl Stft {
    /// Returns the number of frames of `samples` samples; `None` if there is none, or too many.
    pub(in crate::nn) fn frames(&self, samples: usize, frame_length: usize) -> Option<usize> {
        let padded = samples.checked_add(self.pad_begin)?;
        let frames = match self.pad_end {
            true => padded.div_ceil(self.hop),
            false => padded.checked_sub(frame_length)? / self.hop + 1,
        };
        (1..=MAX_ELEMENTS).contains(&frames).then_some(frames)
    }

    /// Returns the number of frequencies.
    pub(crate) fn bins(&self) -> usize {
        self.fft_length / 2 + 1
    }
}

impl LayerDefinition for Stft {
    fn class(&self) -> &'static str {
        "Stft"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        vec![("window", self.window)]
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, _: &[usize]) -> usize {
        4
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let &[samples, channels] = x else {
            return Err(format!("it takes [samples, channels], not {x:?}"));
        };
        let window = &weights[self.window.0];
        let &[frame_length] = &*window.shape else {
            return Err(format!(
                "its window ({}) has shape {:?}, one dimension is needed",
                window.name, window.shape
            ));
        };
        if !(1..=MAX_ELEMENTS).contains(&self.hop) {
            return Err(format!("it steps {} samples", self.hop));
        }
        if !(2..=MAX_ELEMENTS).contains(&self.fft_length) {
            return Err(format!("its transform has length {}", self.fft_length));
        }
        if frame_length > self.fft_length {
            return Err(format!(
                "its window has {frame_length} samples, more than the {} of its transform",
                self.fft_length
            ));
        }
        let Some(frames) = self.frames(samples, frame_length) else {
            return Err(format!(
                "its window has {frame_length} samples and {} zeros stand before the input, which do not fit its {samples} samples",
                self.pad_begin
            ));
        };
        Ok(vec![frames, self.bins(), channels, 2])
    }

    /// Real and imaginary parts of a frame before and after a transform, in 64 bits each, and the
    /// table of its factors.
    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        self.fft_length.saturating_mul(8).saturating_add(1)
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let transforms = (output[0] * output[2]) as u64;
        let n = self.fft_length as u64;
        let operations = match n.is_power_of_two() {
            true => 5 * n * u64::from(n.ilog2()),
            false => n.saturating_mul(4 * self.bins() as u64),
        };
        transforms.saturating_mul(operations).max(count(output))
    }

    /// `y[t, k, c] = sum over i of x[t * hop - pad_begin + i, c] * window[i] *
    /// exp(-2 pi j i k / fft_length)`, `x` being zero outside
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let (samples, channels) = (x.shape[0], x.shape[1]);
        let window = floats(&weights[self.window.0]);
        let mut y = Vec::with_capacity(output.iter().product());
        for frame in 0..output[0] {
            for bin in 0..output[1] {
                for channel in 0..channels {
                    let (mut real, mut imaginary) = (0.0, 0.0);
                    for (i, factor) in window.iter().enumerate() {
                        let place = (frame * self.hop + i).checked_sub(self.pad_begin);
                        let Some(place) = place.filter(|&p| p < samples) else {
                            continue;
                        };
                        let turns = (i * bin % self.fft_length) as f64 / self.fft_length as f64;
                        let (sin, cos) = (-2.0 * std::f64::consts::PI * turns).sin_cos();
                        let sample = x.data[place * channels + channel] * factor;
                        real += sample * cos;
                        // The highest frequency of an even length is real.
                        if 2 * bin != self.fft_length {
                            imaginary += sample * sin;
                        }
                    }
                    y.extend([real, imaginary]);
                }
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::Stft(self)))
    }
}
