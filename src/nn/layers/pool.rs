//! Pooling over windows, and over all pixels.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes, Op};
use super::oracle::{Item, Windows, grid};
use super::shapes::{Problem, count, first_rank, single, spatial, with_spatial};
use super::windows::windowed;
use super::{Activation, BackendLayer, LayerDefinition, Padding, Weight, WeightId};

/// Reduction of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// Maximum.
    Max,
    /// Mean.
    Average,
}

impl PoolKind {
    /// Reduces samples in `f64`.
    fn of(self, samples: &[f64]) -> f64 {
        match self {
            Self::Max => samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Self::Average => samples.iter().sum::<f64>() / samples.len() as f64,
        }
    }
}

/// Pooling. A one-dimensional input `[time, channels]` uses the first entry of `size` and
/// `strides`; the second is 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Reduction over each window, per channel.
    pub kind: PoolKind,
    /// Samples of a window, as `[height, width]`.
    pub size: [usize; 2],
    /// Samples from one window to the next, at least 1.
    pub strides: [usize; 2],
    /// `Valid` or `Same`.
    pub padding: Padding,
}

impl LayerDefinition for Pool {
    fn class(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average => "AveragePool",
        }
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        first_rank(inputs)
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        if self.padding == Padding::Causal {
            return Err("pooling has no causal padding".into());
        }
        let (_, channels) = spatial(x)?;
        let out = windowed(x, self.size, self.strides, [1, 1], self.padding)?;
        Ok(with_spatial(x, out, channels))
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        let size = self.size.map(|n| n as u64);
        count(output).saturating_mul(size[0] * size[1])
    }

    /// Maximum or mean of the samples under each window; padding is excluded from both.
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, _] = grid(output);
        let windows = |axis: usize, samples, out| {
            let (size, stride) = (self.size[axis], self.strides[axis]);
            Windows::new(samples, out, size, stride, 1, self.padding)
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
                    y.push(self.kind.of(&samples));
                }
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Pool(self))
    }
}

/// Pooling over all of the one or two spatial dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalPool {
    /// Reduction over the pixels of a channel.
    pub kind: PoolKind,
    /// Keep the pooled dimensions with length 1.
    pub keep_dims: bool,
}

impl LayerDefinition for GlobalPool {
    fn class(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "GlobalMaxPool",
            PoolKind::Average => "GlobalAveragePool",
        }
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, inputs: &[usize]) -> usize {
        if self.keep_dims {
            first_rank(inputs)
        } else {
            1
        }
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let x = single(inputs)?;
        let (_, channels) = spatial(x)?;
        let mut shape = vec![1; if self.keep_dims { x.len() - 1 } else { 0 }];
        shape.push(channels);
        Ok(shape)
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], inputs: &[&[usize]], _: &[usize]) -> u64 {
        count(inputs[0])
    }

    /// Maximum or mean over all positions, per channel.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        let x = inputs[0];
        let [_, _, channels] = grid(x.shape);
        (0..channels)
            .map(|c| {
                let samples: Vec<f64> = x.data[c..].iter().step_by(channels).copied().collect();
                self.kind.of(&samples)
            })
            .collect()
    }

    fn lower<W>(&self, node: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Common(Op::GlobalPool {
            kind: self.kind,
            pixels: node.elements() / node.last(),
            channels: node.last(),
        })
    }
}
