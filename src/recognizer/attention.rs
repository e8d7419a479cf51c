//! Attention of the emotion window network: the weights of its attention pools.

use super::row;
use super::statistics::mean;
use crate::front_end::windows::WINDOW_FRAMES;
use crate::front_end::{HOP, SAMPLE_RATE};
use crate::nn::graph::{Graph, Node, ValueId};
use crate::nn::layers::{
    Activation, Dense, GlobalPool, Layer, Merge, MergeOp, Permute, PoolKind, SumAxis,
};
use crate::prediction::Attention;

/// Length of a full window in seconds, equal in both front ends.
const WINDOW_SECONDS: f64 = (WINDOW_FRAMES * HOP) as f64 / SAMPLE_RATE as f64;

/// Prefix of the names of the graph outputs that hold attention weights.
pub const OUTPUT: &str = "attention weights";

/// Finds the attention weights of a graph, one value `[time, units]` per attention pool.
///
/// An attention pool multiplies a sequence by a permuted softmax over time and then sums or averages
/// over time. A network that averages several branches has one pool per branch.
pub fn weights(graph: &Graph) -> Vec<ValueId> {
    let is_weights = |value: &ValueId| {
        let permuted = graph.producer(*value)?;
        let transposes =
            matches!(&permuted.layer, Layer::Permute(Permute { order }) if *order == [1, 0]);
        let mut source = graph.producer(permuted.inputs[0])?;
        if let Layer::RepeatVector(_) = source.layer {
            source = graph.producer(source.inputs[0])?;
        }
        (transposes && is_softmax(source)).then_some(*value)
    };
    let pools = |n: &&Node| {
        matches!(
            n.layer,
            Layer::SumAxis(SumAxis { axis: 0 })
                | Layer::GlobalPool(GlobalPool {
                    kind: PoolKind::Average,
                    ..
                })
        )
    };
    let multiplies = |n: &&Node| {
        matches!(
            n.layer,
            Layer::Merge(Merge {
                op: MergeOp::Multiply
            })
        )
    };
    graph
        .nodes
        .iter()
        .filter(pools)
        .filter_map(|pool| graph.producer(pool.inputs[0]))
        .filter(multiplies)
        .filter_map(|product| product.inputs.iter().find_map(is_weights))
        .collect()
}

fn is_softmax(node: &Node) -> bool {
    matches!(
        node.layer,
        Layer::Dense(Dense {
            activation: Activation::Softmax,
            ..
        }) | Layer::Activation(Activation::Softmax)
            | Layer::Softmax(_)
    )
}

/// Returns the attention in row `window` of a run: the mean over the units of all pools, or `None`
/// without an attention pool. Each output is a name, a shape and the values.
pub fn of_row<'a>(
    outputs: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    window: usize,
) -> Option<Attention> {
    let mut pools = Vec::new();
    let mut cells = 0;
    for (name, shape, output) in outputs {
        let Some([time, units]) = pool(name, shape) else {
            continue;
        };
        cells = time;
        pools.push(&output[window * time * units..][..time * units]);
    }
    let cell_mean = |cell: usize| {
        let units = |pool: &[f32]| {
            let width = pool.len() / cells;
            mean(&row(pool, cell, width))
        };
        mean(&pools.iter().map(|pool| units(pool)).collect::<Vec<_>>())
    };
    (cells > 0).then(|| of_weights((0..cells).map(cell_mean).collect()))
}

/// Returns `[time, units]` if a network's output holds attention weights.
pub fn pool(name: &str, shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [time, units] if name.starts_with(OUTPUT) => Some([time, units]),
        _ => None,
    }
}

/// Makes the attention in a window from the weights of its time steps.
pub fn of_weights(weights: Vec<f64>) -> Attention {
    Attention {
        cell: WINDOW_SECONDS / weights.len() as f64,
        weights,
    }
}
