//! Upsampling of images.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::{Item, interpolate};
use super::shapes::{Problem, count, first_rank, image, single};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Repeats or interpolates rows and columns of `[height, width, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// Repetitions of rows and of columns, at least 1.
    pub factor: [usize; 2],
    /// Values of the inserted rows and columns.
    pub interpolation: Interpolation,
}

/// Interpolation of upsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Nearest neighbour: source = floor(destination / factor).
    Nearest,
    /// TensorFlow 1's bilinear: source = destination / factor, edges clamped.
    BilinearLegacy,
    /// TensorFlow 2's bilinear: source = (destination + 0.5) / factor - 0.5, edges clamped.
    BilinearHalfPixel,
}

/// Returns the length of a dimension after upsampling.
fn scaled_length(n: usize, factor: usize) -> Result<usize, Problem> {
    n.checked_mul(factor)
        .filter(|&n| n > 0)
        .ok_or_else(|| format!("the factor {factor} does not fit length {n}"))
}

impl LayerDefinition for Upsample {
    fn class(&self) -> &'static str {
        "Upsample"
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
        let [h, w, c] = image(single(inputs)?)?;
        Ok(vec![
            scaled_length(h, self.factor[0])?,
            scaled_length(w, self.factor[1])?,
            c,
        ])
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], output: &[usize]) -> u64 {
        count(output) * 6
    }

    /// Row `i` of the result lies at source row
    /// * nearest: `floor(i / factor)`,
    /// * bilinear, legacy: `i / factor`,
    /// * bilinear, half-pixel: `(i + 0.5) / factor - 0.5`,
    ///
    /// clamped to the image; between two rows, and likewise two columns, the result is linear.
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        interpolate(inputs[0], output, |axis, i, _, _| {
            let factor = self.factor[axis];
            match self.interpolation {
                Interpolation::Nearest => (i / factor) as f64,
                Interpolation::BilinearLegacy => i as f64 / factor as f64,
                Interpolation::BilinearHalfPixel => (i as f64 + 0.5) / factor as f64 - 0.5,
            }
        })
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::Upsample(self))
    }
}
