//! Transposed convolution.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats, grid, kernel_size};
use super::shapes::{
    Problem, count, expect, first_rank, kernel_and_bias, single, spatial, with_spatial,
};
use super::{
    Activation, BackendLayer, CpuOnly, LayerDefinition, Padding, Weight, WeightId, conv_kernel,
};
use crate::nn::limits::MAX_ELEMENTS;

/// Transposed convolution, the gradient of a convolution with respect to its input. A
/// one-dimensional one uses the first entry of `strides`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose {
    /// `[height, width, out, in]` or `[length, out, in]`.
    pub kernel: WeightId,
    /// `[out]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Distance in the output of neighbouring input samples, at least 1.
    pub strides: [usize; 2],
    /// `Valid`: `n * stride + max(size - stride, 0)` outputs; `Same`: `n * stride`.
    pub padding: Padding,
    /// Applied to the sum of products and bias.
    pub activation: Activation,
}

impl ConvTranspose {
    /// Returns the output length along a dimension, and the outputs that are cut off at its start.
    pub(in crate::nn) fn length(&self, n: usize, size: usize, stride: usize) -> (usize, usize) {
        match self.padding {
            Padding::Same => (n * stride, size.saturating_sub(stride) / 2),
            _ => (n * stride + size.saturating_sub(stride), 0),
        }
    }
}

impl LayerDefinition for ConvTranspose {
    fn class(&self) -> &'static str {
        "ConvTranspose"
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
        let (pixels, channels) = spatial(x)?;
        let fits = kernel.shape.len() == x.len() + 1;
        // Output channels precede input channels here.
        let sizes = conv_kernel(&kernel.shape).filter(|k| fits && k[3] == channels);
        let Some([height, width, filters, _]) = sizes else {
            return Err(format!(
                "its kernel ({}) has shape {:?}, which does not fit input {x:?}",
                kernel.name, kernel.shape
            ));
        };
        if let Some(bias) = self.bias {
            expect("bias", &weights[bias.0], &[filters])?;
        }
        if self.padding == Padding::Causal {
            return Err("causal padding is not defined for it".into());
        }
        let strides = self.strides;
        if strides.iter().any(|s| !(1..=MAX_ELEMENTS).contains(s))
            || (x.len() == 2 && strides[1] != 1)
        {
            return Err(format!("its strides are {strides:?}"));
        }
        let mut out = [0; 2];
        for (axis, size) in [height, width].into_iter().enumerate() {
            pixels[axis]
                .checked_mul(strides[axis])
                .and_then(|n| n.checked_add(size))
                .filter(|&n| n <= MAX_ELEMENTS)
                .ok_or("its output is too large")?;
            out[axis] = self.length(pixels[axis], size, strides[axis]).0;
        }
        Ok(with_spatial(x, out, filters))
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, weights: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        let kernel = weights[self.kernel.0].data.len() as u64;
        let channels = inputs[0].last().copied().unwrap_or(1) as u64;
        let pixels = count(inputs[0]) / channels;
        let activation = 1 + self.activation.flops_per_element();
        pixels
            .saturating_mul(2 * kernel)
            .saturating_add(count(output).saturating_mul(activation))
    }

    /// `y[o, p, f] = bias[f] + sum of x[i, j, c] * kernel[k, l, f, c]` over all `i`, `j`, `c` and taps
    /// with `o = i * stride + k - cut` and `p = j * stride + l - cut`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let kernel = &weights[self.kernel.0];
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, filters] = grid(output);
        let [kernel_height, kernel_width] = kernel_size(&kernel.shape);
        let kernel = floats(kernel);
        // Padding before the first element in the convolution whose transpose this is.
        let cut = |axis: usize, samples: usize, out: usize, size: usize| match self.padding {
            Padding::Same => ((samples - 1) * self.strides[axis] + size).saturating_sub(out) / 2,
            _ => 0,
        };
        let top = cut(0, height, out_height, kernel_height);
        let left = cut(1, width, out_width, kernel_width);
        let mut y = vec![0.0; out_height * out_width * filters];
        for i in 0..height {
            for k in 0..kernel_height {
                let Some(o) = (i * self.strides[0] + k).checked_sub(top) else {
                    continue;
                };
                for j in 0..width {
                    for l in 0..kernel_width {
                        let Some(p) = (j * self.strides[1] + l).checked_sub(left) else {
                            continue;
                        };
                        if o >= out_height || p >= out_width {
                            continue;
                        }
                        for f in 0..filters {
                            for c in 0..channels {
                                let tap = (k * kernel_width + l) * filters + f;
                                y[(o * out_width + p) * filters + f] += kernel[tap * channels + c]
                                    * x.data[(i * width + j) * channels + c];
                            }
                        }
                    }
                }
            }
        }
        if let Some(bias) = self.bias {
            let bias = floats(&weights[bias.0]);
            for (i, y) in y.iter_mut().enumerate() {
                *y += bias[i % filters];
            }
        }
        self.activation.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::ConvTranspose(self)))
    }
}
