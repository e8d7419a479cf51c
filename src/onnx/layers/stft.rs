//! Short-time Fourier transform.

use super::{NodeContext, Problem};
use crate::nn::layers::Stft;
use crate::onnx::builder::Attribute::Ints;

impl NodeContext<'_, '_> {
    /// Transforms every channel as a row of the batch. The operator's frames are as long as the
    /// transform, so the window and the signal are followed by zeros.
    pub(super) fn stft(&mut self, stft: &Stft) -> Result<String, Problem> {
        let x = self.inputs[0].clone();
        let (&[Some(samples), Some(channels)], &[Some(frames), ..]) =
            (&*self.shapes[0], &*self.output)
        else {
            return Err(
                "a short-time Fourier transform of an input of open length has no equivalent"
                    .into(),
            );
        };
        let [samples, channels, frames] = [samples, channels, frames].map(|n| n as i64);
        let [hop, length, pad_begin, bins] =
            [stft.hop, stft.fft_length, stft.pad_begin, stft.bins()].map(|n| n as i64);
        let by_channel = self.add("Transpose", &[&x], &[("perm", Ints(&[0, 2, 1]))]);
        let shape = self.builder.integers(&[-1, samples, 1]);
        let rows = self.add("Reshape", &[&by_channel, &shape], &[]);
        // A negative number of zeros removes samples.
        let pad_end = (frames - 1) * hop + length - pad_begin - samples;
        let pads = self.builder.integers(&[0, pad_begin, 0, 0, pad_end, 0]);
        let signal = self.add("Pad", &[&rows, &pads], &[]);
        let window = self
            .builder
            .weight(stft.window, "followed by zeros", |_, data| {
                let zeros = std::iter::repeat_n(0.0, stft.fft_length - data.len());
                let data = data.iter().copied().chain(zeros).collect();
                (vec![stft.fft_length], data)
            });
        let hop = self.builder.scalar(hop);
        let length = self.builder.scalar(length);
        let spectrum = self.add("STFT", &[&signal, &hop, &window, &length], &[]);
        let shape = self.builder.integers(&[-1, channels, frames, bins, 2]);
        let spectrum = self.add("Reshape", &[&spectrum, &shape], &[]);
        let order = [0, 2, 3, 1, 4];
        Ok(self.add("Transpose", &[&spectrum], &[("perm", Ints(&order))]))
    }
}
