//! Images of another size.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, interpolate};
use super::shapes::{Problem, count, first_rank, image, single};
use super::{Activation, BackendLayer, CpuOnly, LayerDefinition, Weight, WeightId};
use crate::nn::limits::MAX_ELEMENTS;

/// Interpolates `[height, width, channels]` to a given size, as `tf.image.resize` of TensorFlow 2 does without
/// antialiasing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Rows and columns of the output, at least 1.
    pub size: [usize; 2],
    /// Linear between the neighbouring rows and columns; otherwise the nearest one.
    pub bilinear: bool,
}

impl Resize {
    /// Returns the row (`axis` 0) or column of an image of `samples` rows or columns that is nearest to row or column `i` of
    /// the output, in 32 bits like TensorFlow.
    pub(crate) fn nearest(&self, axis: usize, i: usize, samples: usize) -> usize {
        let scale = samples as f32 / self.size[axis] as f32;
        (((i as f32 + 0.5) * scale) as usize).min(samples - 1)
    }
}

impl LayerDefinition for Resize {
    fn class(&self) -> &'static str {
        "Resize"
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
        let [_, _, channels] = image(single(inputs)?)?;
        let [height, width] = self.size;
        if !self.size.iter().all(|n| (1..=MAX_ELEMENTS).contains(n)) {
            return Err(format!("its output has {height} rows and {width} columns"));
        }
        Ok(vec![height, width, channels])
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 6
    }

    /// Row `i` of the result lies at source row `(i + 0.5) * rows / new rows - 0.5`, clamped to the image; between two
    /// rows, and likewise two columns, the result is linear. The nearest row is
    /// `floor((i + 0.5) * (rows / new rows))`, whose product and quotient are rounded to 32 bits.
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        interpolate(inputs[0], output, |_, i, samples, length| {
            if self.bilinear {
                return (i as f64 + 0.5) * samples as f64 / length as f64 - 0.5;
            }
            let position = (i as f32 + 0.5) * (samples as f32 / length as f32);
            f64::from(position.floor())
        })
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::Resize(self)))
    }
}
