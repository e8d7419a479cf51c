//! Transposed convolution.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, floats, grid, kernel_size};
use super::shapes::{
    Problem, count, expect, first_rank, kernel_and_bias, single, spatial, with_spatial,
};
use super::windows::extent;
use super::{
    Activation, BackendLayer, CpuOnly, LayerDefinition, Padding, Weight, WeightId, conv_kernel,
};
use crate::nn::limits::MAX_ELEMENTS;

/// Transposed convolution, the gradient of a convolution with respect to its input. A
/// one-dimensional one uses the first entry of `strides` and `dilation`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose {
    /// `[height, width, out, in]` or `[length, out, in]`.
    pub kernel: WeightId,
    /// `[out]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Distance in the output of neighbouring input samples, at least 1.
    pub strides: [usize; 2],
    /// Distance in the output of neighbouring taps of the kernel, at least 1.
    #[serde(default = "ones", skip_serializing_if = "is_ones")]
    pub dilation: [usize; 2],
    /// With the extent `e = (size - 1) * dilation + 1`, and without `output_padding`: `Valid`: `n *
    /// stride + max(e - stride, 0)` outputs; `Same`: `n * stride`.
    pub padding: Padding,
    /// Number of outputs beyond `(n - 1) * stride + e` (`Valid`) or `(n - 1) * stride + e % 2` (`Same`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_padding: Option<[usize; 2]>,
    /// Applied to the sum of products and bias.
    pub activation: Activation,
}

impl ConvTranspose {
    /// Returns the output length along a dimension, and the outputs that are cut off at its start.
    pub(in crate::nn) fn length(&self, axis: usize, n: usize, size: usize) -> (usize, usize) {
        let stride = self.strides[axis];
        let extent = extent(size, self.dilation[axis]);
        let all = (n - 1) * stride + extent;
        let length = match (self.padding, self.output_padding) {
            (Padding::Same, None) => n * stride,
            (Padding::Same, Some(added)) => (n - 1) * stride + extent % 2 + added[axis],
            (_, None) => n * stride + extent.saturating_sub(stride),
            (_, Some(added)) => all + added[axis],
        };
        let cut = match self.padding {
            Padding::Same => all.saturating_sub(length) / 2,
            _ => 0,
        };
        (length, cut)
    }
}

/// Dilation of a bundle that states none.
fn ones() -> [usize; 2] {
    [1; 2]
}

fn is_ones(dilation: &[usize; 2]) -> bool {
    *dilation == ones()
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
        for (part, steps) in [("strides", self.strides), ("dilation", self.dilation)] {
            if steps.iter().any(|s| !(1..=MAX_ELEMENTS).contains(s))
                || (x.len() == 2 && steps[1] != 1)
            {
                return Err(format!("its {part} are {steps:?}"));
            }
        }
        let added = self.output_padding.unwrap_or_default();
        if x.len() == 2 && added[1] != 0 {
            return Err(format!("its output padding is {added:?}"));
        }
        let mut out = [0; 2];
        for (axis, size) in [height, width].into_iter().enumerate() {
            let taps = (size - 1).checked_mul(self.dilation[axis]);
            pixels[axis]
                .checked_mul(self.strides[axis])
                .and_then(|n| {
                    n.checked_add(taps?)?
                        .checked_add(added[axis])?
                        .checked_add(1)
                })
                .filter(|&n| n <= MAX_ELEMENTS)
                .ok_or("its output is too large")?;
            out[axis] = self.length(axis, pixels[axis], size).0;
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
    /// with `o = i * stride + k * dilation - cut` and `p = j * stride + l * dilation - cut`
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let kernel = &weights[self.kernel.0];
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, filters] = grid(output);
        let [kernel_height, kernel_width] = kernel_size(&kernel.shape);
        let kernel = floats(kernel);
        // Padding before the first element in the convolution whose transpose this is.
        let cut = |axis: usize, samples: usize, out: usize, size: usize| match self.padding {
            Padding::Same => {
                let span = (size - 1) * self.dilation[axis] + 1;
                ((samples - 1) * self.strides[axis] + span).saturating_sub(out) / 2
            }
            _ => 0,
        };
        let top = cut(0, height, out_height, kernel_height);
        let left = cut(1, width, out_width, kernel_width);
        let mut y = vec![0.0; out_height * out_width * filters];
        for i in 0..height {
            for k in 0..kernel_height {
                let place = i * self.strides[0] + k * self.dilation[0];
                let Some(o) = place.checked_sub(top) else {
                    continue;
                };
                for j in 0..width {
                    for l in 0..kernel_width {
                        let place = j * self.strides[1] + l * self.dilation[1];
                        let Some(p) = place.checked_sub(left) else {
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
