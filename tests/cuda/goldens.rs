//! Outputs of Keras: the small models in `tests/golden`, and the 2020 networks if available.

use std::cell::Cell;
use std::sync::Arc;

use maeum::Recognizer;
use maeum::audio::decode::decode_path;
use maeum::model::ModelInfo;
use maeum::model::{Model, Network, Role};
use maeum::nn::cuda::Driver;
use maeum::nn::network::Provenance;
use maeum::nn::{DropoutMode, Graph};

use crate::captures::{check_keras_models, check_originals, every_value};
use crate::emulator::{Emulator, ORDERS};
use crate::graphs::{CPU_ONLY, kind_of};
use crate::networks::keeping_all;
use crate::recognizer::compare;
use crate::{common, gpu, on_gpu_alone};

/// Returns every value of the graph on a driver.
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
    Ok(every_value(graph, |value| session.value(value)))
}

/// Runs each model on the emulator with alternating thread orders. All kernels meet all three
/// orders, in a third of the time.
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

/// Returns whether all layers have a CUDA kernel. Those without one are refused by name, which
/// `networks` tests.
fn has_kernels(graph: &Graph) -> bool {
    let mut kinds = graph.nodes.iter().map(|node| kind_of(&node.layer));
    kinds.all(|kind| !CPU_ONLY.contains(&kind))
}

#[test]
fn every_keras_model_is_reproduced() {
    if !on_gpu_alone() {
        println!("emulator: {:?}", check_keras_models(&emulated, has_kernels));
    }
    if let Some(gpu) = gpu() {
        let run = |g: &Graph, s: &[Vec<usize>], i: &[Vec<f32>], b, m: &DropoutMode| {
            run(&gpu, g, s, i, b, m)
        };
        println!(
            "{}: {:?}",
            gpu.name(),
            check_keras_models(&run, has_kernels)
        );
    }
}

/// Recordings for the emulator, which is slow.
const EMULATED: [&str; 1] = ["en_short"];

#[test]
fn the_original_networks_are_reproduced() {
    if !on_gpu_alone() {
        check_originals("emulator", &emulated, EMULATED);
    }
    if let Some(gpu) = gpu() {
        let run = |g: &Graph, s: &[Vec<usize>], i: &[Vec<f32>], b, m: &DropoutMode| {
            run(&gpu, g, s, i, b, m)
        };
        check_originals(&gpu.name(), &run, common::all_recordings());
    }
}

/// From files to predictions, with the recordings in one batch.
#[test]
fn the_original_answers_are_those_of_the_processor() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let files = [
        (Role::EmotionWindows, "Model_Emotion_crop.h5"),
        (Role::Age, "Model_Age_crop.h5"),
        (Role::Gender, "Model_Gender_crop.h5"),
        (Role::EmotionFeatures, "Model_Emotion_Features.h5"),
        (Role::Merge, "Model_Emotion_Merge.h5"),
    ];
    let network = |(role, file)| Network {
        role,
        graph: maeum::keras::load(dir.join("models").join(file))
            .unwrap()
            .graph,
        provenance: Provenance::default(),
        self_test: None,
    };
    let networks = files.into_iter().map(network).collect();
    let model = Model::new(networks, ModelInfo::legacy2020()).unwrap();
    let recognizer = Recognizer::new(model).unwrap();
    let dropout = DropoutMode::draws(4, 9);
    let check = |driver: &Arc<dyn Driver>, names: &[&str]| {
        let recording = |name: &&str| decode_path(common::recording(&dir, name)).unwrap();
        let given = names.iter().map(|name| (recording(name), *name)).collect();
        let device = recognizer.on_device(driver).unwrap();
        let got = device.recognize(given, &dropout);
        let mut worker = recognizer.worker();
        for (name, got) in names.iter().zip(got) {
            let wanted = worker.recognize(&recording(name), name, &dropout);
            compare(&got.unwrap(), &wanted.unwrap());
        }
    };
    if !on_gpu_alone() {
        let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[2]));
        check(&emulated, &EMULATED);
    }
    if let Some(gpu) = gpu() {
        check(&gpu, &common::all_recordings().collect::<Vec<_>>());
    }
}
