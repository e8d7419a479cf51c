//! Keras' numbers: the small models in `tests/golden`, and the networks of 2020 where they are at
//! hand.

use std::cell::Cell;
use std::sync::Arc;

use maeum::nn::cuda::Driver;
use maeum::nn::{DropoutMode, Graph, ValueId};

use crate::captures::{check_keras_models, check_original};
use crate::emulator::{Emulator, ORDERS};
use crate::networks::keeping_all;
use crate::{common, gpu, on_gpu_alone};

/// Every value of the graph on a driver.
fn run(
    driver: &Arc<dyn Driver>,
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[Vec<f32>],
    batch: usize,
    mode: &DropoutMode,
) -> Result<Vec<Vec<f64>>, String> {
    let mut session = keeping_all(driver, graph, shapes);
    let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    session
        .run(&inputs, batch, mode)
        .map_err(|e| e.to_string())?;
    let values = 0..graph.inputs.len() + graph.nodes.len();
    Ok(values
        .map(|v| session.value(ValueId(v)).expect("all are kept"))
        .map(|value| value.iter().map(|&x| f64::from(x)).collect())
        .collect())
}

/// Each model on the emulator in one order of the threads after the other: all three orders for every
/// kernel, in a third of the time.
fn emulated(
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[Vec<f32>],
    batch: usize,
    mode: &DropoutMode,
) -> Result<Vec<Vec<f64>>, String> {
    thread_local! {
        static RUNS: Cell<usize> = const { Cell::new(0) };
    }
    let number = RUNS.replace(RUNS.get() + 1);
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[number % ORDERS.len()]));
    run(&driver, graph, shapes, inputs, batch, mode)
}

#[test]
fn every_keras_model_is_reproduced() {
    if !on_gpu_alone() {
        println!("emulator: {:?}", check_keras_models(&emulated));
    }
    if let Some(gpu) = gpu() {
        let run = |g: &Graph, s: &[Vec<usize>], i: &[Vec<f32>], b, m: &DropoutMode| {
            run(&gpu, g, s, i, b, m)
        };
        println!("{}: {:?}", gpu.name(), check_keras_models(&run));
    }
}

/// The recordings that the emulator, which is slow, is given.
const EMULATED: [&str; 1] = ["en_short"];

#[test]
fn the_original_networks_are_reproduced() {
    let Some(dir) = common::reference_dir() else {
        return;
    };
    let on_emulator = if on_gpu_alone() { &[] } else { &EMULATED[..] };
    for recording in on_emulator {
        let agreement = check_original(&emulated, &dir, recording)
            .unwrap_or_else(|e| panic!("{recording}: {e}"));
        println!("emulator, {recording}: {agreement:?}");
    }
    if let Some(gpu) = gpu() {
        let run = |g: &Graph, s: &[Vec<usize>], i: &[Vec<f32>], b, m: &DropoutMode| {
            run(&gpu, g, s, i, b, m)
        };
        for recording in common::all_recordings() {
            let agreement = check_original(&run, &dir, recording)
                .unwrap_or_else(|e| panic!("{recording}: {e}"));
            println!("{}, {recording}: {agreement:?}", gpu.name());
        }
    }
}
