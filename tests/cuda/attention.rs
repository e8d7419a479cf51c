//! Attention pooling and multiplication, which the device fuses.

use std::sync::Arc;

use maeum::nn::cuda::{CudaPlan, CudaSession, Driver};
use maeum::nn::layers::{Layer, Merge, MergeOp, Softmax, SumAxis};
use maeum::nn::{DropoutMode, Graph, Input, Node, Output, Plan, Session, ValueId};
use proptest::prelude::*;

use crate::drivers;
use crate::emulator::{Emulator, ORDERS};
use crate::graphs::{TOLERANCE, assert_close, multiplied, pooled, widen};
use crate::networks::{cases, check};

/// Returns the op names of a graph's steps.
fn steps(graph: &Graph, shapes: &[Vec<usize>]) -> Vec<&'static str> {
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    let plan = CudaPlan::new(&driver, graph, shapes).unwrap();
    plan.steps().collect()
}

proptest! {
    #![proptest_config(cases(160))]
    #[test]
    fn pools(case in pooled()) {
        let (case, at_once) = case;
        let steps = steps(&case.graph, &case.shapes);
        prop_assert_eq!(steps.contains(&"attention pool"), at_once, "{:?} of {:?}", steps, case);
        check(&case);
    }
}

proptest! {
    #![proptest_config(cases(80))]
    #[test]
    fn multiplications(case in multiplied()) {
        let (case, at_once) = case;
        let steps = steps(&case.graph, &case.shapes);
        prop_assert_eq!(
            steps.contains(&"upsample and multiply"), at_once, "{:?} of {:?}", steps, case
        );
        check(&case);
    }
}

/// Returns a graph that weights a sequence by the softmax of its scores over the rows.
fn given(shape: [usize; 2]) -> Graph {
    let input = |name: &str| Input {
        name: name.into(),
        shape: shape.iter().map(|&n| Some(n)).collect(),
    };
    let node = |name: &str, layer, inputs: &[usize]| Node {
        name: name.into(),
        layer,
        inputs: inputs.iter().map(|&v| ValueId(v)).collect(),
        outer: 0,
    };
    let multiply = Layer::Merge(Merge {
        op: MergeOp::Multiply,
    });
    Graph {
        name: "pool".into(),
        inputs: vec![input("sequence"), input("scores")],
        nodes: vec![
            node("softmax", Layer::Softmax(Softmax { axis: 0 }), &[1]),
            node("product", multiply, &[0, 2]),
            node("sum", Layer::SumAxis(SumAxis { axis: 0 }), &[3]),
        ],
        outputs: [("sum", 4), ("weights", 2)]
            .map(|(name, value)| Output {
                name: name.into(),
                value: ValueId(value),
            })
            .into(),
        weights: Vec::new(),
    }
}

#[test]
fn scores_far_apart() {
    const SHAPE: [usize; 2] = [70, 3];
    let graph = given(SHAPE);
    let shapes = vec![SHAPE.to_vec(); 2];
    assert_eq!(steps(&graph, &shapes), ["attention pool"]);
    // The maximum of a column is first, last or in the middle; rows before it have weight 0, some
    // by a score of minus infinity.
    let largest = [0, 69, 33];
    let score = |i: usize| match (i / 3).abs_diff(largest[i % 3]) {
        0 => 1e30,
        d if d.is_multiple_of(7) => f32::NEG_INFINITY,
        d => d as f32 * -1e28,
    };
    let scores: Vec<f32> = (0..210).map(score).collect();
    let x: Vec<f32> = (0..210).map(|i| i as f32 / 100.0 - 1.0).collect();
    let chosen: Vec<f32> = (0..3).map(|c| x[largest[c] * 3 + c]).collect();
    let mut cpu = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
    cpu.run(&[&x, &scores], 1, &DropoutMode::Off).unwrap();
    for driver in drivers() {
        let plan = Arc::new(CudaPlan::new(&driver, &graph, &shapes).unwrap());
        let mut session = CudaSession::new(&plan);
        session.run(&[&x, &scores], 1, &DropoutMode::Off).unwrap();
        assert_eq!(session.output(0), chosen);
        assert_eq!(session.output(1), cpu.output(1));
    }
}

/// A mean under equal scores, over more rows than a block has threads.
#[test]
fn a_long_sequence() {
    const SHAPE: [usize; 2] = [1500, 40];
    let graph = given(SHAPE);
    let shapes = vec![SHAPE.to_vec(); 2];
    let count = SHAPE[0] * SHAPE[1];
    let x: Vec<f32> = (0..count).map(|i| (i % 101) as f32 / 101.0).collect();
    let scores: Vec<f32> = (0..count).map(|i| (i % 7) as f32 / 7.0).collect();
    let mut cpu = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
    cpu.run(&[&x, &scores], 1, &DropoutMode::Off).unwrap();
    for driver in drivers() {
        let plan = Arc::new(CudaPlan::new(&driver, &graph, &shapes).unwrap());
        let mut session = CudaSession::new(&plan);
        session.run(&[&x, &scores], 1, &DropoutMode::Off).unwrap();
        for k in 0..2 {
            let (got, wanted) = (widen(session.output(k)), widen(cpu.output(k)));
            assert_close(&driver.name(), TOLERANCE, &got, &wanted);
        }
    }
}

/// The 2020 networks, layer for layer; that of emotions also outputs its attention weights, which
/// are part of a prediction.
#[cfg(feature = "convert")]
#[test]
fn the_networks_of_2020_pool_at_once() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (file, seen) in [
        ("arch_emotion_windows", true),
        ("arch_age", false),
        ("arch_gender", false),
    ] {
        let path = dir.join(file).with_extension("h5");
        let mut graph = maeum::keras::load(path).unwrap().graph;
        let is_product = |node: &&Node| matches!(node.layer, Layer::Merge(_));
        let product = graph.nodes.iter().find(is_product).unwrap();
        let weights = product.inputs.iter().find(|&&value| {
            let maker = graph.producer(value).unwrap();
            matches!(maker.layer, Layer::Permute(_))
        });
        let value = *weights.unwrap();
        if seen {
            let name = "weights".into();
            graph.outputs.push(Output { name, value });
        }
        let shapes = graph.fixed_input_shapes().unwrap();
        let steps = steps(&graph, &shapes);
        let wanted = ["recurrent", "permute", "dense", "attention pool", "dense"];
        assert!(steps.ends_with(&wanted), "{file}: {steps:?}");
    }
}

/// The feature network has four branches, each with attention from its input to its maps.
#[cfg(feature = "convert")]
#[test]
fn the_network_of_2020_multiplies_at_once() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/arch_emotion_features.h5"
    );
    let graph = maeum::keras::load(path).unwrap().graph;
    let steps = steps(&graph, &graph.fixed_input_shapes().unwrap());
    let both = steps
        .iter()
        .filter(|&&step| step == "upsample and multiply");
    assert_eq!(both.count(), 4, "{steps:?}");
    for within in ["upsample", "spatial multiply", "channel multiply"] {
        assert!(!steps.contains(&within), "{steps:?}");
    }
}

/// The window network of the built-in model weighs rows by one score for all columns and takes the mean.
#[cfg(feature = "default-model")]
#[test]
fn the_built_in_model_pools_at_once() {
    let model = maeum::default_model::load().unwrap();
    let network = model.network(maeum::model::Role::EmotionWindows).unwrap();
    let shapes = network.graph.fixed_input_shapes().unwrap();
    let steps = steps(&network.graph, &shapes);
    let pools = steps.iter().filter(|&&step| step == "attention pool");
    assert_eq!(pools.count(), 1, "{steps:?}");
    for within in ["softmax", "repeat", "permute"] {
        assert!(!steps.contains(&within), "{steps:?}");
    }
}
