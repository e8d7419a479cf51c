//! Chain detection and grouping of windows. Their results are tested on random networks.

use super::run::overlapping_windows;
use crate::nn::graph::{Graph, Input, Node, Output, ValueId, Weight, WeightId};
use crate::nn::layers::{Activation, Conv, Layer, Padding, Pool, PoolKind, Slice};
use crate::nn::plan::Plan;

/// Three convolutions over five rows, each followed by pooling by two, of a part of the input or all of it.
fn plan(shape: &[usize], slice: Option<Slice>, output_too: bool) -> Plan {
    let kernel = |input| Weight {
        name: "kernel".into(),
        shape: vec![5, 1, input, 2],
        data: vec![0.5; 10 * input],
    };
    let conv = |weight| {
        Layer::Conv(Conv {
            kernel: WeightId(weight),
            bias: None,
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Relu,
        })
    };
    let pool = Layer::Pool(Pool {
        kind: PoolKind::Max,
        size: [2, 1],
        strides: [2, 1],
        padding: Padding::Valid,
    });
    let layers = [conv(0), pool.clone(), conv(1), pool.clone(), conv(1), pool];
    let sliced = slice.clone().into_iter().map(Layer::Slice);
    let layers = sliced.chain(layers).chain([Layer::Flatten]);
    let nodes = layers.enumerate().map(|(i, layer)| Node {
        name: format!("node{i}"),
        layer,
        inputs: vec![ValueId(i)],
        outer: 0,
    });
    let output = |value| Output {
        name: format!("out{value}"),
        value: ValueId(value),
    };
    let last = 7 + usize::from(slice.is_some());
    let outputs = match output_too {
        true => vec![output(last), output(last - 3)],
        false => vec![output(last)],
    };
    let graph = Graph {
        name: "chain".into(),
        inputs: vec![Input {
            name: "in".into(),
            shape: shape.iter().map(|&d| Some(d)).collect(),
        }],
        nodes: nodes.collect(),
        outputs,
        weights: vec![kernel(1), kernel(2)],
    };
    Plan::new(&graph, &[shape.to_vec()]).unwrap()
}

#[test]
fn a_chain_ends_where_something_else_reads() {
    let whole = plan(&[200, 3, 1], None, false);
    assert_eq!(whole.windows.chains.len(), 1);
    assert_eq!(whole.windows.chains[0].stages.len(), 3);
    assert!(!whole.windows.reads_input);
    let cut = plan(&[200, 3, 1], None, true);
    assert_eq!(cut.windows.chains[0].stages.len(), 2);
}

#[test]
fn a_chain_may_begin_with_a_part_of_each_row() {
    let slice = |axis, stop| Slice {
        axis,
        start: 1,
        stop: Some(stop),
        step: 1,
    };
    let columns = plan(&[200, 3, 1], Some(slice(1, 3)), false);
    assert_eq!(columns.windows.chains[0].stages.len(), 4);
    assert!(!columns.windows.reads_input);
    let rows = plan(&[200, 3, 1], Some(slice(0, 199)), false);
    assert!(rows.windows.chains.is_empty());
}

#[test]
fn windows_on_one_grid_share() {
    let plan = plan(&[200, 3, 1], None, false);
    let chain = &plan.windows.chains[0];
    let count = |starts: &[usize]| overlapping_windows(chain, starts);
    // The last pooling runs per window, so a multiple of four is enough.
    assert_eq!(count(&[0, 100, 200, 300, 387]), 4);
    assert_eq!(count(&[387, 400]), 1);
    assert_eq!(count(&[3, 103, 203]), 3);
    assert_eq!(count(&[0, 180, 280]), 1);
    assert_eq!(count(&[100, 0]), 1);
}
