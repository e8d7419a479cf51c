//! Matrix product of two values.

use serde::{Deserialize, Serialize};

use super::ops::{Lowering, NodeShapes};
use super::oracle::Item;
use super::shapes::{Problem, count, first_rank};
use super::{Activation, BackendLayer, LayerDefinition, Weight, WeightId};

/// Product of the matrices in the last two dimensions of the two inputs, `[.., m, k]` and
/// `[.., k, n]` to `[.., m, n]`; the other dimensions are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatMul {
    /// The first input is `[.., k, m]`.
    pub transpose_a: bool,
    /// The second input is `[.., n, k]`.
    pub transpose_b: bool,
}

impl MatMul {
    /// Returns `[m, k, n]`.
    pub(in crate::nn) fn sizes(&self, a: &[usize], b: &[usize]) -> Option<[usize; 3]> {
        let (&[.., a0, a1], &[.., b0, b1]) = (a, b) else {
            return None;
        };
        let (m, k) = if self.transpose_a { (a1, a0) } else { (a0, a1) };
        let (other, n) = if self.transpose_b { (b1, b0) } else { (b0, b1) };
        (k == other).then_some([m, k, n])
    }
}

impl LayerDefinition for MatMul {
    fn class(&self) -> &'static str {
        "MatMul"
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
        let [a, b] = *inputs else {
            return Err(format!("it takes two inputs, not {}", inputs.len()));
        };
        let sizes = self
            .sizes(a, b)
            .filter(|_| a.len() == b.len() && a[..a.len() - 2] == b[..b.len() - 2]);
        let Some([m, _, n]) = sizes else {
            return Err(format!("the matrices {a:?} and {b:?} do not fit"));
        };
        Ok([&a[..a.len() - 2], &[m, n]].concat())
    }

    fn scratch(&self, _: &[Weight], _: &[usize]) -> usize {
        0
    }

    fn flops(&self, _: &[Weight], inputs: &[&[usize]], output: &[usize]) -> u64 {
        let k = self
            .sizes(inputs[0], inputs[1])
            .map_or(0, |[_, k, _]| k as u64);
        count(output).saturating_mul(2 * k)
    }

    /// `y[.., i, j] = sum over k of a[.., i, k] * b[.., k, j]`
    fn oracle(&self, _: &[Weight], inputs: &[Item], output: &[usize]) -> Vec<f64> {
        let (a, b) = (inputs[0], inputs[1]);
        let [m, k, n] = self.sizes(a.shape, b.shape).unwrap_or([1; 3]);
        let groups: usize = output[..output.len() - 2].iter().product();
        let mut y = Vec::new();
        for g in 0..groups {
            for i in 0..m {
                for j in 0..n {
                    let term = |l: usize| {
                        let left = if self.transpose_a {
                            l * m + i
                        } else {
                            i * k + l
                        };
                        let right = if self.transpose_b {
                            j * k + l
                        } else {
                            l * n + j
                        };
                        a.data[g * m * k + left] * b.data[g * k * n + right]
                    };
                    y.push((0..k).map(term).sum());
                }
            }
        }
        y
    }

    fn lower<W>(&self, _: &NodeShapes) -> Lowering<'_, W> {
        Lowering::Backend(BackendLayer::MatMul(self))
    }
}
