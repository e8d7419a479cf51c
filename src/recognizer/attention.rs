//! Where the emotion windows' network looks: the weights of its attention pool.

use super::row;
use super::statistics::mean;
use crate::front_end::legacy2020::WINDOW_FRAMES;
use crate::front_end::{HOP, SAMPLE_RATE, utterance};
use crate::nn::graph::{Graph, Node, ValueId};
use crate::nn::layer::{Activation, Layer, MergeOp, PoolKind};
use crate::prediction::Attention;

/// Length of a full window, the same in both front ends.
const WINDOW_SECONDS: f64 = (WINDOW_FRAMES * HOP) as f64 / SAMPLE_RATE as f64;
const _: () = assert!(WINDOW_FRAMES == utterance::WINDOW_FRAMES);

/// What the names of the outputs begin with that the weights are added as.
pub const OUTPUT: &str = "attention weights";

/// The values `[time, units]` that weigh the time steps of each attention pool: a softmax over time,
/// permuted, that is multiplied with the sequence before the sum (or mean) over time. A network
/// that averages several has as many pools.
pub fn weights(graph: &Graph) -> Vec<ValueId> {
    let is_weights = |value: &ValueId| {
        let permuted = graph.producer(*value)?;
        let transposes = matches!(&permuted.layer, Layer::Permute { order } if *order == [1, 0]);
        let mut source = graph.producer(permuted.inputs[0])?;
        if let Layer::RepeatVector { .. } = source.layer {
            source = graph.producer(source.inputs[0])?;
        }
        (transposes && is_softmax(source)).then_some(*value)
    };
    let pools = |n: &&Node| {
        matches!(
            n.layer,
            Layer::SumAxis { axis: 0 }
                | Layer::GlobalPool {
                    kind: PoolKind::Average,
                    ..
                }
        )
    };
    let multiplies = |n: &&Node| {
        matches!(
            n.layer,
            Layer::Merge {
                op: MergeOp::Multiply
            }
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
        Layer::Dense {
            activation: Activation::Softmax,
            ..
        } | Layer::Activation(Activation::Softmax)
            | Layer::Softmax { .. }
    )
}

/// The attention in row `number`, a window of two seconds, of a run's outputs with their names and
/// shapes: the mean over the units of all pools; `None` if the network has none.
pub fn of_row<'a>(
    outputs: impl Iterator<Item = (&'a str, &'a [usize], &'a [f32])>,
    number: usize,
) -> Option<Attention> {
    let mut pools = Vec::new();
    let mut cells = 0;
    for (name, shape, output) in outputs {
        let Some([time, units]) = pool(name, shape) else {
            continue;
        };
        cells = time;
        pools.push(&output[number * time * units..][..time * units]);
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

/// Time steps and units, if this output of a network is the weights of a pool.
pub fn pool(name: &str, shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [time, units] if name.starts_with(OUTPUT) => Some([time, units]),
        _ => None,
    }
}

/// The attention in a window, from the weights of its cells.
pub fn of_weights(weights: Vec<f64>) -> Attention {
    Attention {
        cell: WINDOW_SECONDS / weights.len() as f64,
        weights,
    }
}
