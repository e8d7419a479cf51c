//! Convolution.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, Windows, floats, grid, kernel_size};
use super::shapes::{
    Problem, count, expect, first_rank, kernel_and_bias, single, spatial, with_spatial,
};
use super::windows::{extent, padded, windowed};
use super::{Activation, BackendLayer, LayerDefinition, Padding, Weight, WeightId};

/// Convolution. The rank of the kernel is the number of spatial dimensions plus two: `[height,
/// width, in, out]`, or `[length, in, out]` over time. A one-dimensional convolution uses the first
/// entry of `strides` and `dilation`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// `[height, width, in, out]` or `[length, in, out]`.
    pub kernel: WeightId,
    /// `[out]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Samples from one window to the next, at least 1, as `[height, width]`.
    pub strides: [usize; 2],
    /// Samples from one tap of the kernel to the next, at least 1 (1 is a dense kernel).
    pub dilation: [usize; 2],
    /// `Causal` is valid in one dimension only.
    pub padding: Padding,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
}

/// Returns kernel height, width (1 for a sequence), input channels and output channels.
pub(in crate::nn) fn conv_kernel(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [length, cin, cout] => Some([length, 1, cin, cout]),
        [height, width, cin, cout] => Some([height, width, cin, cout]),
        _ => None,
    }
}

impl LayerDefinition for Conv {
    fn class(&self) -> &'static str {
        "Conv"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        kernel_and_bias(self.kernel, self.bias)
    }

    fn activations(&self) -> Vec<Activation> {
        vec![self.activation]
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, weights: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let kernel = &weights[self.kernel.0];
        let (_, channels) = spatial(x)?;
        let fits = kernel.shape.len() == x.len() + 1;
        let Some([height, width, cin, cout]) = conv_kernel(&kernel.shape).filter(|_| fits) else {
            return Err(format!(
                "its kernel ({}) has shape {:?}, which does not fit input {x:?}",
                kernel.name, kernel.shape
            ));
        };
        if cin != channels {
            return Err(format!(
                "its kernel ({}) takes {cin} channels, its input {x:?} has {channels}",
                kernel.name
            ));
        }
        if let Some(bias) = self.bias {
            expect("bias", &weights[bias.0], &[cout])?;
        }
        let out = windowed(
            x,
            [height, width],
            self.strides,
            self.dilation,
            self.padding,
        )?;
        Ok(with_spatial(x, out, cout))
    }

    /// The zero-padded input.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        let kernel = conv_kernel(&weights[self.kernel.0].shape).unwrap_or([1; 4]);
        let Ok((pixels, channels)) = spatial(input) else {
            return 0;
        };
        let padded = |axis: usize| {
            let span = extent(kernel[axis], self.dilation[axis]);
            padded(pixels[axis], span, self.strides[axis], self.padding)
        };
        padded(0).saturating_mul(padded(1)).saturating_mul(channels)
    }

    fn flops(&self, weights: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let kernel = conv_kernel(&weights[self.kernel.0].shape).unwrap_or([0; 4]);
        let terms = (kernel[0] * kernel[1] * kernel[2]) as u64;
        count(output).saturating_mul(2 * terms + 1 + self.activation.flops_per_element())
    }

    /// `y[i, j, o] = bias[o] + sum over k, l, c of
    /// x[i * stride - before + k * dilation, j * ..., c] * kernel[k, l, c, o]`,
    /// `x` being zero outside
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let kernel = &weights[self.kernel.0];
        let bias = self.bias.map(|b| floats(&weights[b.0]));
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, filters] = grid(output);
        let [kernel_height, kernel_width] = kernel_size(&kernel.shape);
        let kernel = floats(kernel);
        let windows = |axis: usize, samples, out, size| {
            let (stride, dilation) = (self.strides[axis], self.dilation[axis]);
            Windows::new(samples, out, size, stride, dilation, self.padding)
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
        self.activation.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Conv(self))
    }
}
