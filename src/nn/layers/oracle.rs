//! Parts that the layers' `f64` definitions share. None of them is used by the engine.

use super::windows::Padding;
use crate::nn::weight::Weight;

/// Slice of a value for one row and one outer index.
#[derive(Clone, Copy)]
pub(in crate::nn) struct Item<'a> {
    pub shape: &'a [usize],
    pub data: &'a [f64],
}

/// Returns the elements of a weight.
pub(super) fn floats(weight: &Weight) -> Vec<f64> {
    weight.data.iter().map(|&w| f64::from(w)).collect()
}

/// Returns height, width (1 for a sequence) and channels.
pub(super) fn grid(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [height, width, channels] => [height, width, channels],
        [time, channels] => [time, 1, channels],
        _ => unreachable!("shape inference accepts two or three dimensions"),
    }
}

/// Returns height and width (1 for a sequence) of a convolution kernel.
pub(super) fn kernel_size(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [length, _, _] => [length, 1],
        _ => [shape[0], shape[1]],
    }
}

/// Returns the sums over dimension `axis`.
pub(super) fn sum_over(axis: usize, x: Item) -> Vec<f64> {
    let inner = x.shape[axis + 1..].iter().product::<usize>();
    let length = x.shape[axis];
    let mut y = vec![0.0; x.data.len() / length];
    for (i, v) in x.data.iter().enumerate() {
        y[i / inner / length * inner + i % inner] += v;
    }
    y
}

/// Interpolates the rows and columns of an image linearly. `position` returns the place in the image of an output row (axis
/// 0) or column from its axis, its number, and the rows or columns of image and output; places outside of the image
/// are moved to its edge.
pub(super) fn interpolate(
    x: Item,
    output: &[usize],
    position: impl Fn(usize, usize, usize, usize) -> f64,
) -> Vec<f64> {
    let [height, width, channels] = grid(x.shape);
    let [out_height, out_width, _] = grid(output);
    // Two neighbouring samples and the weight of the second.
    let source = |axis, i, samples: usize, length| -> (usize, usize, f64) {
        let position = position(axis, i, samples, length).clamp(0.0, (samples - 1) as f64);
        let lower = position.floor();
        let upper = (lower as usize + 1).min(samples - 1);
        (lower as usize, upper, position - lower)
    };
    let mut y = Vec::with_capacity(out_height * out_width * channels);
    for i in 0..out_height {
        let (top, bottom, down) = source(0, i, height, out_height);
        for j in 0..out_width {
            let (left, right, across) = source(1, j, width, out_width);
            for c in 0..channels {
                let at = |row: usize, column: usize| x.data[(row * width + column) * channels + c];
                let above = at(top, left) * (1.0 - across) + at(top, right) * across;
                let below = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
                y.push(above * (1.0 - down) + below * down);
            }
        }
    }
    y
}

/// Returns the index, in a value of shape `part`, of element `index` of a value of shape `full`.
/// Shapes are aligned at the last dimension; dimensions of length 1 stretch.
pub(super) fn broadcast_index(mut index: usize, full: &[usize], part: &[usize]) -> usize {
    let mut found = 0;
    let mut stride = 1;
    for (&length, &own) in full.iter().rev().zip(part.iter().rev()) {
        if own > 1 {
            found += index % length * stride;
        }
        stride *= own;
        index /= length;
    }
    found
}

/// Windows along one dimension.
pub(super) struct Windows {
    size: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    samples: usize,
}

impl Windows {
    /// `out` windows over `samples`; before the first sample lie
    /// * valid: none,
    /// * causal: `extent - 1`,
    /// * same: half, rounded down, of `max(0, (out - 1) * stride + extent - samples)`.
    pub fn new(
        samples: usize,
        out: usize,
        size: usize,
        stride: usize,
        dilation: usize,
        padding: Padding,
    ) -> Self {
        let extent = (size - 1) * dilation + 1;
        let before = match padding {
            Padding::Valid => 0,
            Padding::Causal => extent - 1,
            Padding::Same => ((out - 1) * stride + extent).saturating_sub(samples) / 2,
        };
        Self {
            size,
            stride,
            dilation,
            before,
            samples,
        }
    }

    /// Iterates over the taps of window `o` that fall on samples, as (tap, sample).
    pub fn taps(&self, o: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.size).filter_map(move |k| {
            let sample = (o * self.stride + k * self.dilation).checked_sub(self.before)?;
            (sample < self.samples).then_some((k, sample))
        })
    }
}
