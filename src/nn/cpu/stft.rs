//! Short-time Fourier transform.

use std::f64::consts::PI;

use super::op::{OpCall, PlainOp};

/// Fourier transforms of the windowed frames of `[samples, channels]`.
///
/// A transform is computed in `f64`, by halving if its length is a power of two and by its sums
/// otherwise.
#[derive(Debug)]
pub(crate) struct StftPlan {
    pub samples: usize,
    pub channels: usize,
    pub frames: usize,
    pub hop: usize,
    pub pad_begin: usize,
    /// `[frame length]`.
    pub window: Vec<f64>,
    /// `exp(-2 pi j i / n)` for `i` below the length `n` of the transform.
    pub turns: Vec<[f64; 2]>,
}

/// Returns the table of factors of a transform of length `n`.
pub(crate) fn turns(n: usize) -> Vec<[f64; 2]> {
    (0..n)
        .map(|i| {
            let (sin, cos) = (-2.0 * PI * i as f64 / n as f64).sin_cos();
            // Half a turn is exact, because the highest frequency of an even length has no imaginary part:
            // a rounding error of it would make its angle jump.
            if 2 * i == n { [-1.0, 0.0] } else { [cos, sin] }
        })
        .collect()
}

/// Elements of `f32` that hold this number of `f64`, wherever they start.
fn singles(doubles: usize) -> usize {
    2 * doubles + 1
}

impl PlainOp for StftPlan {
    fn scratch(&self, _: usize) -> usize {
        singles(2 * self.turns.len())
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            input,
            output,
            scratch,
            ..
        } = call;
        let n = self.turns.len();
        let bins = n / 2 + 1;
        let (_, doubles, _) = bytemuck::pod_align_to_mut::<f32, f64>(scratch);
        let (real, imaginary) = doubles[..2 * n].split_at_mut(n);
        let item = self.samples * self.channels;
        let frame_size = bins * self.channels * 2;
        let frames = output.chunks_exact_mut(frame_size);
        for (number, y) in frames.enumerate() {
            let x = &input(0)[number / self.frames * item..][..item];
            let start = number % self.frames * self.hop;
            for channel in 0..self.channels {
                let sample = |i: usize| {
                    let place = (start + i).checked_sub(self.pad_begin);
                    let place = place.filter(|&p| p < self.samples);
                    place.map_or(0.0, |p| f64::from(x[p * self.channels + channel]))
                };
                let spectrum = y[2 * channel..].chunks_mut(2 * self.channels);
                match n.is_power_of_two() {
                    true => {
                        real.fill(0.0);
                        imaginary.fill(0.0);
                        // The order that halving leaves the samples in.
                        let shift = usize::BITS - n.trailing_zeros();
                        for (i, factor) in self.window.iter().enumerate() {
                            real[i.reverse_bits() >> shift] = sample(i) * factor;
                        }
                        self.halve(real, imaginary);
                        for (bin, y) in spectrum.take(bins).enumerate() {
                            y[0] = real[bin] as f32;
                            y[1] = imaginary[bin] as f32;
                        }
                    }
                    false => {
                        for (i, factor) in self.window.iter().enumerate() {
                            real[i] = sample(i) * factor;
                        }
                        for (bin, y) in spectrum.take(bins).enumerate() {
                            let mut turn = 0;
                            let mut sum = [0.0; 2];
                            for x in &real[..self.window.len()] {
                                sum[0] += x * self.turns[turn][0];
                                sum[1] += x * self.turns[turn][1];
                                turn += bin;
                                if turn >= n {
                                    turn -= n;
                                }
                            }
                            y[0] = sum[0] as f32;
                            y[1] = sum[1] as f32;
                        }
                    }
                }
            }
        }
    }
}

impl StftPlan {
    /// Transforms samples in bit-reversed order (Cooley and Tukey, 1965): each pass joins transforms
    /// of half the length.
    fn halve(&self, real: &mut [f64], imaginary: &mut [f64]) {
        let n = real.len();
        let mut half = 1;
        while half < n {
            let step = n / (2 * half);
            for start in (0..n).step_by(2 * half) {
                let (even, odd) = real[start..][..2 * half].split_at_mut(half);
                let (even_i, odd_i) = imaginary[start..][..2 * half].split_at_mut(half);
                for k in 0..half {
                    let [cos, sin] = self.turns[k * step];
                    let turned = odd[k] * cos - odd_i[k] * sin;
                    let turned_i = odd[k] * sin + odd_i[k] * cos;
                    odd[k] = even[k] - turned;
                    odd_i[k] = even_i[k] - turned_i;
                    even[k] += turned;
                    even_i[k] += turned_i;
                }
            }
            half *= 2;
        }
    }
}
