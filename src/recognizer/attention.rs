//! Where the emotion windows' network looks: the weights of its attention pool.

use super::statistics::mean;
use crate::nn::Session;
use crate::nn::graph::{Graph, Node, ValueId};
use crate::nn::layer::{Activation, Layer, MergeOp, PoolKind};
use crate::prediction::Attention;

/// The name of the output that the weights are added as.
pub const OUTPUT: &str = "attention weights";

/// The value `[time, units]` that weighs the time steps: a softmax over time, permuted, that is
/// multiplied with the sequence before the sum (or mean) over time.
pub fn weights(graph: &Graph) -> Option<ValueId> {
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
    graph
        .nodes
        .iter()
        .filter(pools)
        .filter_map(|pool| graph.producer(pool.inputs[0]))
        .filter(|n| {
            matches!(
                n.layer,
                Layer::Merge {
                    op: MergeOp::Multiply
                }
            )
        })
        .find_map(|product| product.inputs.iter().find_map(is_weights))
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

/// The attention of window `window`, which lasts `seconds`, of the last run; `None` if the network
/// has none.
pub fn of_window(session: &Session, window: usize, seconds: f64) -> Option<Attention> {
    let outputs = session.plan().outputs();
    let index = outputs.len() - 1;
    let (name, shape) = session.plan().outputs().last()?;
    let &[cells, units] = shape else {
        return None;
    };
    (name == OUTPUT).then(|| Attention {
        cell: seconds / cells as f64,
        weights: session.output(index)[window * cells * units..][..cells * units]
            .chunks_exact(units)
            .map(|cell| mean(&cell.iter().map(|&w| f64::from(w)).collect::<Vec<_>>()))
            .collect(),
    })
}
