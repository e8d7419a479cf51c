//! Layers with several inputs.

use super::super::layer::MergeOp;
use super::Item;

/// Concatenates the inputs along dimension `axis`.
pub(super) fn concat(axis: usize, inputs: &[Item]) -> Vec<f64> {
    let block = |x: &Item| x.shape[axis..].iter().product::<usize>();
    let blocks: usize = inputs[0].shape[..axis].iter().product();
    let mut y = Vec::new();
    for b in 0..blocks {
        for x in inputs {
            y.extend(&x.data[b * block(x)..][..block(x)]);
        }
    }
    y
}

/// `y = x0 op x1 op x2 ...`, element by element after broadcasting; the average divides the sum by
/// the number of inputs.
pub(super) fn merge(op: MergeOp, inputs: &[Item], out: &[usize]) -> Vec<f64> {
    (0..out.iter().product())
        .map(|i| {
            let values = inputs
                .iter()
                .map(|x| x.data[broadcast_index(i, out, x.shape)]);
            let joined = values.reduce(|a, b| match op {
                MergeOp::Add | MergeOp::Average => a + b,
                MergeOp::Subtract => a - b,
                MergeOp::Multiply => a * b,
                MergeOp::Maximum => a.max(b),
                MergeOp::Minimum => a.min(b),
            });
            let joined = joined.unwrap_or(0.0);
            match op {
                MergeOp::Average => joined / inputs.len() as f64,
                _ => joined,
            }
        })
        .collect()
}

/// Returns the index, in a value of shape `part`, of element `index` of a value of shape `full`.
/// Shapes are aligned at the last dimension; dimensions of length 1 stretch.
pub(super) fn broadcast_index(mut index: usize, full: &[usize], part: &[usize]) -> usize {
    let mut found = 0;
    let mut stride = 1;
    for (&length, &own) in full.iter().rev().zip(part.iter().rev()) {
        if own > 1 {
            found += index % length * stride;
        }
        stride *= own;
        index /= length;
    }
    found
}
