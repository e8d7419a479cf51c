//! Convolution, pooling, resizing and padding over `[height, width, channels]`; a sequence `[time,
//! channels]` counts as `[time, 1, channels]`.

use super::super::graph::Weight;
use super::super::layer::{Conv, Interpolation, Padding, Pool, PoolKind};
use super::{Item, activation, floats};

fn grid(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [height, width, channels] => [height, width, channels],
        [time, channels] => [time, 1, channels],
        _ => unreachable!("shape inference accepts two or three dimensions"),
    }
}

/// Windows along one dimension.
struct Windows {
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
    fn new(
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
    fn taps(&self, o: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..self.size).filter_map(move |k| {
            let sample = (o * self.stride + k * self.dilation).checked_sub(self.before)?;
            (sample < self.samples).then_some((k, sample))
        })
    }
}

/// `y[i, j, o] = bias[o] + sum over k, l, c of
/// x[i * stride - before + k * dilation, j * ..., c] * kernel[k, l, c, o]`,
/// `x` being zero outside
pub(super) fn conv(
    conv: &Conv,
    kernel: &Weight,
    bias: Option<Vec<f64>>,
    x: Item,
    out: &[usize],
) -> Vec<f64> {
    let [height, width, channels] = grid(x.shape);
    let [out_height, out_width, filters] = grid(out);
    let [kernel_height, kernel_width] = match *kernel.shape {
        [length, _, _] => [length, 1],
        _ => [kernel.shape[0], kernel.shape[1]],
    };
    let kernel = floats(kernel);
    let windows = |axis: usize, samples, out, size| {
        let (stride, dilation) = (conv.strides[axis], conv.dilation[axis]);
        Windows::new(samples, out, size, stride, dilation, conv.padding)
    };
    let rows = windows(0, height, out_height, kernel_height);
    let columns = windows(1, width, out_width, kernel_width);
    let mut y = Vec::with_capacity(out_height * out_width * filters);
    for i in 0..out_height {
        for j in 0..out_width {
            for o in 0..filters {
                let mut sum = 0.0;
                for (k, row) in rows.taps(i) {
                    for (l, column) in columns.taps(j) {
                        for c in 0..channels {
                            sum += x.data[(row * width + column) * channels + c]
                                * kernel[((k * kernel_width + l) * channels + c) * filters + o];
                        }
                    }
                }
                y.push(bias.as_ref().map_or(0.0, |b| b[o]) + sum);
            }
        }
    }
    activation::apply(conv.activation, &mut y, out);
    y
}

/// Maximum or mean of the samples under each window; padding is excluded from both.
pub(super) fn pool(pool: &Pool, x: Item, out: &[usize]) -> Vec<f64> {
    let [height, width, channels] = grid(x.shape);
    let [out_height, out_width, _] = grid(out);
    let windows = |axis: usize, samples, out| {
        let (size, stride) = (pool.size[axis], pool.strides[axis]);
        Windows::new(samples, out, size, stride, 1, pool.padding)
    };
    let rows = windows(0, height, out_height);
    let columns = windows(1, width, out_width);
    let mut y = Vec::with_capacity(out_height * out_width * channels);
    for i in 0..out_height {
        for j in 0..out_width {
            for c in 0..channels {
                let samples: Vec<f64> = rows
                    .taps(i)
                    .flat_map(|(_, row)| columns.taps(j).map(move |(_, column)| (row, column)))
                    .map(|(row, column)| x.data[(row * width + column) * channels + c])
                    .collect();
                y.push(summary(pool.kind, &samples));
            }
        }
    }
    y
}

/// Maximum or mean over all positions, per channel.
pub(super) fn global_pool(kind: PoolKind, x: Item) -> Vec<f64> {
    let [_, _, channels] = grid(x.shape);
    (0..channels)
        .map(|c| {
            let samples: Vec<f64> = x.data[c..].iter().step_by(channels).copied().collect();
            summary(kind, &samples)
        })
        .collect()
}

fn summary(kind: PoolKind, samples: &[f64]) -> f64 {
    match kind {
        PoolKind::Max => samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        PoolKind::Average => samples.iter().sum::<f64>() / samples.len() as f64,
    }
}

/// Row `i` of the result lies at source row
/// * nearest: `floor(i / factor)`,
/// * bilinear, legacy: `i / factor`,
/// * bilinear, half-pixel: `(i + 0.5) / factor - 0.5`,
///
/// clamped to the image; between two rows, and likewise two columns, the result is linear.
pub(super) fn upsample(
    factor: [usize; 2],
    interpolation: Interpolation,
    x: Item,
    out: &[usize],
) -> Vec<f64> {
    let [height, width, channels] = grid(x.shape);
    let [out_height, out_width, _] = grid(out);
    // Two neighbouring samples and the weight of the second.
    let source = |i: usize, factor: usize, samples: usize| -> (usize, usize, f64) {
        let position = match interpolation {
            Interpolation::Nearest => return (i / factor, i / factor, 0.0),
            Interpolation::BilinearLegacy => i as f64 / factor as f64,
            Interpolation::BilinearHalfPixel => (i as f64 + 0.5) / factor as f64 - 0.5,
        };
        let position = position.clamp(0.0, (samples - 1) as f64);
        let lower = position.floor();
        let upper = (lower as usize + 1).min(samples - 1);
        (lower as usize, upper, position - lower)
    };
    let mut y = Vec::with_capacity(out_height * out_width * channels);
    for i in 0..out_height {
        let (top, bottom, down) = source(i, factor[0], height);
        for j in 0..out_width {
            let (left, right, across) = source(j, factor[1], width);
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

/// `y[top + i, left + j, c] = x[i, j, c]`, zero elsewhere
pub(super) fn zero_pad(top: usize, left: usize, x: Item, out: &[usize]) -> Vec<f64> {
    let [_, width, channels] = grid(x.shape);
    let [_, out_width, _] = grid(out);
    let mut y = vec![0.0; out.iter().product()];
    for (i, row) in x.data.chunks(width * channels).enumerate() {
        let start = ((top + i) * out_width + left) * channels;
        y[start..start + row.len()].copy_from_slice(row);
    }
    y
}
