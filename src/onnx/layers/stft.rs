//! Spectra of complex numbers: the short-time Fourier transform and its angles.

use std::f32::consts::PI;

use super::{NodeContext, Problem};
use crate::nn::layers::Stft;
use crate::onnx::builder::Attribute::{Int, Ints};

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
        // The lowest frequency, and the highest of an even length, are real; a rounding error of their
        // imaginary part would make an angle jump.
        let is_real = |bin: usize| bin == 0 || 2 * bin == stft.fft_length;
        let parts = (0..stft.bins()).flat_map(|bin| [1.0, f32::from(u8::from(!is_real(bin)))]);
        let parts: Vec<f32> = parts.collect();
        let name = format!("{}/parts", self.name);
        let parts = self.builder.constant(&name, &[stft.bins(), 2], &parts);
        let spectrum = self.add("Mul", &[&spectrum, &parts], &[]);
        let order = [0, 2, 3, 1, 4];
        Ok(self.add("Transpose", &[&spectrum], &[("perm", Ints(&order))]))
    }

    /// Angle by the arctangent of the quotient, which is that of the half plane of positive real parts.
    pub(super) fn angle(&mut self) -> String {
        let x = self.inputs[0].clone();
        let axis = self.shapes[0].len() as i64;
        let [real, imaginary] = [0, 1].map(|part| {
            let part = self.builder.scalar(part);
            self.add("Gather", &[&x, &part], &[("axis", Int(axis))])
        });
        let [zero, tiny, half_turn, minus] =
            [0.0, f32::MIN_POSITIVE, PI, -PI].map(|c| self.builder.number(c));
        // A real part of 0 gives a quarter turn, or 0 for 0.
        let none = self.add("Equal", &[&real, &zero], &[]);
        let divisor = self.add("Where", &[&none, &tiny, &real], &[]);
        let quotient = self.add("Div", &[&imaginary, &divisor], &[]);
        let angle = self.add("Atan", &[&quotient], &[]);
        let below = self.add("Less", &[&imaginary, &zero], &[]);
        let turn = self.add("Where", &[&below, &minus, &half_turn], &[]);
        let turned = self.add("Add", &[&angle, &turn], &[]);
        let behind = self.add("Less", &[&real, &zero], &[]);
        self.add("Where", &[&behind, &turned, &angle], &[])
    }
}
