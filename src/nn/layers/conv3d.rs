//! Convolution over three dimensions.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, Windows, floats};
use super::shapes::{Problem, count, expect, first_rank, kernel_and_bias, single};
use super::windows::{extent, padded, window_lengths};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Padding, Weight, WeightId};

/// Convolution of `[depth, height, width, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv3d {
    /// `[depth, height, width, in, out]`.
    pub kernel: WeightId,
    /// `[out]`; `None` is zeros.
    pub bias: Option<WeightId>,
    /// Samples from one window to the next, at least 1, as `[depth, height, width]`.
    pub strides: [usize; 3],
    /// Samples from one tap of the kernel to the next, at least 1 (1 is a dense kernel).
    pub dilation: [usize; 3],
    /// `Causal` is not valid.
    pub padding: Padding,
    /// Applied to the sum of product and bias.
    pub activation: Activation,
}

impl LayerDefinition for Conv3d {
    fn class(&self) -> &'static str {
        "Conv3d"
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
        let &[depth, height, width, channels] = x else {
            return Err(format!(
                "it takes [depth, height, width, channels], not {x:?}"
            ));
        };
        let kernel = &weights[self.kernel.0];
        let [kernel_depth, kernel_height, kernel_width, cin, cout] = *kernel.shape else {
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
        if self.padding == Padding::Causal {
            return Err(format!("causal padding needs [time, channels], not {x:?}"));
        }
        let [depth, height, width] = window_lengths(
            [depth, height, width],
            [kernel_depth, kernel_height, kernel_width],
            self.strides,
            self.dilation,
            self.padding,
        )?;
        Ok(vec![depth, height, width, cout])
    }

    /// The images that one image of the output reads, as they are and zero-padded.
    fn scratch(&self, weights: &[Weight], input: &[usize]) -> usize {
        let kernel = &weights[self.kernel.0].shape;
        let padded = |axis: usize| {
            let span = extent(kernel[axis], self.dilation[axis]);
            padded(input[axis], span, self.strides[axis], self.padding)
        };
        let pixels = (input[1] * input[2]).saturating_add(padded(1).saturating_mul(padded(2)));
        pixels.saturating_mul(kernel[0]).saturating_mul(input[3])
    }

    fn flops(&self, weights: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let terms = count(&weights[self.kernel.0].shape[..4]);
        count(output).saturating_mul(2 * terms + 1 + self.activation.flops_per_element())
    }

    /// `y[h, i, j, o] = bias[o] + sum over d, k, l, c of
    /// x[h * stride - before + d * dilation, i * ..., j * ..., c] * kernel[d, k, l, c, o]`,
    /// `x` being zero outside
    fn oracle(&self, weights: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let kernel = &weights[self.kernel.0];
        let bias = self.bias.map(|b| floats(&weights[b.0]));
        let channels = x.shape[3];
        let filters = output[3];
        let windows = [0, 1, 2].map(|axis| {
            Windows::new(
                x.shape[axis],
                output[axis],
                kernel.shape[axis],
                self.strides[axis],
                self.dilation[axis],
                self.padding,
            )
        });
        let size = &kernel.shape;
        let kernel = floats(kernel);
        let mut y = Vec::with_capacity(output.iter().product());
        for h in 0..output[0] {
            for i in 0..output[1] {
                for j in 0..output[2] {
                    for o in 0..filters {
                        let mut sum = 0.0;
                        for (d, image) in windows[0].taps(h) {
                            for (k, row) in windows[1].taps(i) {
                                for (l, column) in windows[2].taps(j) {
                                    let pixel = (image * x.shape[1] + row) * x.shape[2] + column;
                                    let tap = (d * size[1] + k) * size[2] + l;
                                    for c in 0..channels {
                                        sum += x.data[pixel * channels + c]
                                            * kernel[(tap * channels + c) * filters + o];
                                    }
                                }
                            }
                        }
                        y.push(bias.as_ref().map_or(0.0, |b| b[o]) + sum);
                    }
                }
            }
        }
        self.activation.apply(&mut y, output);
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::Conv3d(self)))
    }
}
