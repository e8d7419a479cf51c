//! Comparison of an engine with the naive oracle.

use std::collections::HashMap;

use maeum::nn::dropout::{DropoutMode, Masks, draw_factors};
use maeum::nn::layers::{Dropout, Layer};
use maeum::nn::{Graph, Input, Node, Output, ValueId, oracle};

use super::Case;

pub fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Maximum difference of an engine from the oracle, relative to the larger of 1 and the largest
/// magnitude of the layer's output.
///
/// The project guarantees this bound. A sum of a thousand products near 1 in `f32` has a tenth of
/// this error.
pub const TOLERANCE: f64 = 1e-5;

/// Panics with `what` unless `got` agrees with `wanted` within `tolerance`, relative to the larger
/// of 1 and the largest wanted magnitude.
#[track_caller]
pub fn assert_close(what: &str, tolerance: f64, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{what}: length");
    let scale = wanted.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(wanted).enumerate() {
        // A NaN fails this comparison.
        let near = (g - w).abs() <= tolerance * scale;
        assert!(
            near,
            "{what}: element {i} is {g}, not {w} (difference {:e}, scale {scale})",
            (g - w).abs()
        );
    }
}

/// Compares every value of an engine with the oracle.
///
/// `run_engine` returns every value of the graph, inputs first, for all rows. Values that are
/// independent of dropout may have one row per input row instead of one per draw. The oracle
/// computes each node from the engine's own inputs to it, so errors do not accumulate and the
/// tolerance is that of a single layer.
pub fn check_against_oracle(case: &Case, run_engine: impl Fn(&Case) -> Vec<Vec<f32>>) {
    let shapes = case.graph.infer_shapes(&case.shapes).unwrap();
    let draws = case.mode.rows();
    let rows = case.batch * draws;
    let got = run_engine(case);
    assert_eq!(got.len(), shapes.len(), "number of values");
    let got: Vec<Vec<f64>> = got
        .iter()
        .zip(&shapes)
        .map(|(value, shape)| {
            let size: usize = shape.iter().product();
            match value.len() == case.batch * size {
                true => widen(&repeat_rows(value, size, draws)),
                false => widen(value),
            }
        })
        .collect();
    let masks = DropoutMode::Masks(masks_of(case));
    for (i, input) in case.inputs.iter().enumerate() {
        let size = shapes[i].iter().product();
        let wanted = widen(&repeat_rows(input, size, draws));
        assert_close(&case.graph.inputs[i].name, 0.0, &got[i], &wanted);
    }
    for (i, node) in case.graph.nodes.iter().enumerate() {
        let id = case.graph.output_of(i);
        let own = alone(&case.graph, node, &shapes);
        let own_shapes: Vec<Vec<usize>> = node.inputs.iter().map(|v| shapes[v.0].clone()).collect();
        let own_inputs: Vec<Vec<f64>> = node.inputs.iter().map(|v| got[v.0].clone()).collect();
        let mode = match case.mode {
            DropoutMode::Off => &DropoutMode::Off,
            _ => &masks,
        };
        let wanted = oracle::run(&own, &own_shapes, &own_inputs, rows, mode).unwrap();
        let what = format!("{} ({:?})", node.name, node.layer);
        assert_close(
            &what,
            TOLERANCE,
            &got[id.0],
            &wanted.output(0).unwrap().data,
        );
    }
}

/// Returns a graph of this node only.
fn alone(graph: &Graph, node: &Node, shapes: &[Vec<usize>]) -> Graph {
    let inputs: Vec<Input> = node
        .inputs
        .iter()
        .enumerate()
        .map(|(i, v)| Input {
            name: format!("in{i}"),
            shape: shapes[v.0].iter().map(|&d| Some(d)).collect(),
        })
        .collect();
    let count = inputs.len();
    Graph {
        name: node.name.clone(),
        inputs,
        nodes: vec![Node {
            inputs: (0..count).map(ValueId).collect(),
            ..node.clone()
        }],
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(count),
        }],
        weights: graph.weights.clone(),
    }
}

/// Repeats every row `times` times consecutively.
pub fn repeat_rows<T: Copy>(x: &[T], size: usize, times: usize) -> Vec<T> {
    x.chunks(size).flat_map(|row| row.repeat(times)).collect()
}

/// Returns the dropout masks of the case, one per output row.
pub fn masks_of(case: &Case) -> Masks {
    let shapes = case.graph.infer_shapes(&case.shapes).unwrap();
    let mut masks = HashMap::new();
    let mut number = 0;
    for (i, node) in case.graph.nodes.iter().enumerate() {
        let Layer::Dropout(Dropout {
            rate,
            forced: true,
            per_channel,
        }) = node.layer
        else {
            continue;
        };
        if rate <= 0.0 {
            continue;
        }
        let shape = &shapes[case.graph.output_of(i).0];
        let units = match per_channel {
            true => shape[..node.outer].iter().product::<usize>() * shape[shape.len() - 1],
            false => shape.iter().product(),
        };
        let mut row = vec![0.0; units];
        let mut mask = Vec::new();
        if let DropoutMode::Draws { n, seed } = case.mode {
            for _ in 0..case.batch {
                for draw in 0..n.get() {
                    draw_factors(seed, draw, number, rate, &mut row);
                    mask.extend(row.iter().map(|&f| u8::from(f != 0.0)));
                }
            }
        }
        masks.insert(node.name.clone(), mask);
        number += 1;
    }
    Masks(masks)
}
