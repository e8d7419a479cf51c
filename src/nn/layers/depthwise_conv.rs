//! Depthwise convolution.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, Windows, floats, grid, kernel_size};
use super::shapes::{
    Problem, count, expect, first_rank, kernel_and_bias, single, spatial, with_spatial,
};
use super::windows::windowed;
use super::{
    Activation, BackendLayer, CpuOnly, LayerDefinition, Padding, Weight, WeightId, conv_kernel,
};

/// Convolution of each channel by itself, with `multiplier` filters per channel: output channel
/// `c * multiplier + m` is filter `m` of channel `c`. A one-dimensional convolution uses the first
/// entry of `strides` and `dilation`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthwiseConv {
    /// `[height, width, channels, multiplier]` or `[length, channels, multiplier]`.
    pub kernel: WeightId,
    /// `[channels * multiplier]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Samples from one window to the next, at least 1, as `[height, width]`.
    pub strides: [usize; 2],
    /// Samples from one tap of the kernel to the next, at least 1.
    pub dilation: [usize; 2],
    /// `Causal` is valid in one dimension only.
    pub padding: Padding,
    /// Applied to the sum of products and bias.
    pub activation: Activation,
}

impl LayerDefinition for DepthwiseConv {
    fn class(&self) -> &'static str {
        "DepthwiseConv"
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
        let sizes = conv_kernel(&kernel.shape).filter(|k| fits && k[2] == channels);
        let Some([height, width, _, multiplier]) = sizes else {
            return Err(format!(
                "its kernel ({}) has shape {:?}, which does not fit input {x:?}",
                kernel.name, kernel.shape
            ));
        };
        // The kernel holds as many elements, so the product cannot overflow.
        let filters = channels * multiplier;
        if let Some(bias) = self.bias {
            expect("bias", &weights[bias.0], &[filters])?;
        }
        let size = [height, width];
        let out = windowed(x, size, self.strides, self.dilation, self.padding)?;
        Ok(with_spatial(x, out, filters))
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, weights: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let kernel = conv_kernel(&weights[self.kernel.0].shape).unwrap_or([0; 4]);
        let terms = (kernel[0] * kernel[1]) as u64;
        count(output).saturating_mul(2 * terms + 1 + self.activation.flops_per_element())
    }

    /// `y[i, j, c * multiplier + m] = bias[..] + sum over k, l of
    /// x[i * stride - before + k * dilation, j * ..., c] * kernel[k, l, c, m]`,
    /// `x` being zero outside
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let kernel = &weights[self.kernel.0];
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, filters] = grid(output);
        let [kernel_height, kernel_width] = kernel_size(&kernel.shape);
        let bias = self.bias.map(|b| floats(&weights[b.0]));
        let kernel = floats(kernel);
        let multiplier = filters / channels;
        let windows = |axis: usize, samples, out, size| {
            let (stride, dilation) = (self.strides[axis], self.dilation[axis]);
            Windows::new(samples, out, size, stride, dilation, self.padding)
        };
        let rows = windows(0, height, out_height, kernel_height);
        let columns = windows(1, width, out_width, kernel_width);
        let mut y = Vec::with_capacity(out_height * out_width * filters);
        for i in 0..out_height {
            for j in 0..out_width {
                for c in 0..channels {
                    for m in 0..multiplier {
                        let mut sum = bias.as_ref().map_or(0.0, |b| b[c * multiplier + m]);
                        for (k, row) in rows.taps(i) {
                            for (l, column) in columns.taps(j) {
                                let tap = (k * kernel_width + l) * channels + c;
                                sum += x.data[(row * width + column) * channels + c]
                                    * kernel[tap * multiplier + m];
                            }
                        }
                        y.push(sum);
                    }
                }
            }
        }
        self.activation.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::DepthwiseConv(self)))
    }
}
