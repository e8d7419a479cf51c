//! The naive oracle against Keras, on the small models in `tests/golden` and on the original
//! networks if they are available.
#![cfg(feature = "convert")]

use crate::captures::{check_keras_models, check_originals};
use crate::common::all_recordings;
use maeum::nn::{DropoutMode, Graph, ValueId, oracle};

fn run(
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[Vec<f32>],
    batch: usize,
    mode: &DropoutMode,
) -> Result<Vec<Vec<f64>>, String> {
    let inputs: Vec<Vec<f64>> = inputs
        .iter()
        .map(|x| x.iter().map(|&v| f64::from(v)).collect())
        .collect();
    let values = oracle::run(graph, shapes, &inputs, batch, mode).map_err(|e| e.to_string())?;
    let all = 0..graph.inputs.len() + graph.nodes.len();
    Ok(all
        .map(|i| values.get(ValueId(i)).expect("all are kept").data.clone())
        .collect())
}

#[test]
fn every_keras_model_is_reproduced() {
    println!("{:?}", check_keras_models(&run, |_| true));
}

#[test]
fn the_original_networks_are_reproduced() {
    check_originals("oracle", &run, all_recordings());
}
