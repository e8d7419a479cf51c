//! The same elements in another shape.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, open_shape, single};
use super::{Activation, LayerDefinition, Weight, WeightId};

/// The same elements in another shape. At most one dimension is `None`, inferred from the element
/// count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Target shape, without the batch.
    pub shape: Vec<Option<usize>>,
}

impl LayerDefinition for Reshape {
    fn class(&self) -> &'static str {
        "Reshape"
    }

    fn weights(&self) -> Vec<(&'static str, WeightId)> {
        Vec::new()
    }

    fn activations(&self) -> Vec<Activation> {
        Vec::new()
    }

    fn rank(&self, _: &[usize]) -> usize {
        self.shape.len()
    }

    fn shape(&self, _: &[Weight], inputs: &[&[usize]]) -> Result<Vec<usize>, Problem> {
        let (x, target) = (single(inputs)?, &self.shape);
        let total: usize = x.iter().product();
        let known = target
            .iter()
            .flatten()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .unwrap_or(0);
        let open = target.iter().filter(|d| d.is_none()).count();
        let fits = match open {
            0 => known == total,
            1 => known > 0 && total.is_multiple_of(known),
            _ => false,
        };
        if !fits {
            return Err(format!("{x:?} cannot become {}", open_shape(target)));
        }
        Ok(target.iter().map(|d| d.unwrap_or(total / known)).collect())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], _: &[&[usize]], _: &[usize]) -> u64 {
        0
    }

    /// The elements of the input in their order.
    fn oracle(&self, _: &[Weight], inputs: &[Item], _: &[usize]) -> Vec<f64> {
        inputs[0].data.to_vec()
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Identity
    }
}
