//! Images of another size.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, grid};
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

/// Returns the sample nearest to sample `i` of `length` where there are `samples`, in 32 bits like TensorFlow.
pub(crate) fn nearest(i: usize, samples: usize, length: usize) -> usize {
    let scale = samples as f32 / length as f32;
    (((i as f32 + 0.5) * scale) as usize).min(samples - 1)
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
        let x = inputs[0];
        let [height, width, channels] = grid(x.shape);
        let [out_height, out_width, _] = grid(output);
        // Two neighbouring samples and the weight of the second.
        let source = |i: usize, samples: usize, length: usize| -> (usize, usize, f64) {
            if !self.bilinear {
                let nearest = nearest(i, samples, length);
                return (nearest, nearest, 0.0);
            }
            let position = (i as f64 + 0.5) * samples as f64 / length as f64 - 0.5;
            let position = position.clamp(0.0, (samples - 1) as f64);
            let lower = position.floor();
            let upper = (lower as usize + 1).min(samples - 1);
            (lower as usize, upper, position - lower)
        };
        let mut y = Vec::with_capacity(out_height * out_width * channels);
        for i in 0..out_height {
            let (top, bottom, down) = source(i, height, out_height);
            for j in 0..out_width {
                let (left, right, across) = source(j, width, out_width);
                for c in 0..channels {
                    let at =
                        |row: usize, column: usize| x.data[(row * width + column) * channels + c];
                    let above = at(top, left) * (1.0 - across) + at(top, right) * across;
                    let below = at(bottom, left) * (1.0 - across) + at(bottom, right) * across;
                    y.push(above * (1.0 - down) + below * down);
                }
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::CpuOnly(CpuOnly::Resize(self)))
    }
}
