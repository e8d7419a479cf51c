//! Guarantees of a session: the CPU's draws, bounded memory, reused buffers, and errors with
//! advice.

use std::sync::Arc;

use maeum::nn::cuda::{CudaPlan, CudaRunError, CudaSession, Driver};
use maeum::nn::dropout::Masks;
use maeum::nn::layers::{
    Activation, Conv, Dense, Dropout, Gru, Layer, Lstm, Padding, Pool, PoolKind,
};
use maeum::nn::{
    DropoutMode, Graph, Input, Node, Output, Plan, RunError, Session, ValueId, Weight, WeightId,
};

use crate::emulator::{Emulator, MEMORY, ORDERS};
use crate::graphs::{TOLERANCE, assert_close, numbers, widen};
use crate::{drivers, gpu};

/// Returns a convolution with ReLU and pooling like those of the models, dropout, and a dense
/// layer.
pub fn graph() -> Graph {
    let weight = |seed, shape: &[usize], scale: f32| Weight {
        name: format!("weight{seed}"),
        shape: shape.to_vec(),
        data: numbers(seed, shape.iter().product(), false)
            .iter()
            .map(|v| v * scale)
            .collect(),
    };
    let layers = [
        Layer::Conv(Conv {
            kernel: WeightId(0),
            bias: Some(WeightId(1)),
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Linear,
        }),
        Layer::Activation(Activation::Relu),
        Layer::Pool(Pool {
            kind: PoolKind::Max,
            size: [2, 2],
            strides: [2, 2],
            padding: Padding::Valid,
        }),
        Layer::Dropout(Dropout {
            rate: 0.5,
            forced: true,
            per_channel: false,
        }),
        Layer::Flatten,
        Layer::Dense(Dense {
            kernel: WeightId(2),
            bias: None,
            activation: Activation::Softmax,
        }),
    ];
    let node = |(i, layer): (usize, Layer)| Node {
        name: format!("node{i}"),
        layer,
        inputs: vec![ValueId(i)],
        outer: 0,
    };
    Graph {
        name: "small".into(),
        inputs: vec![Input {
            name: "in".into(),
            shape: vec![Some(14), Some(9), Some(4)],
        }],
        nodes: layers.into_iter().enumerate().map(node).collect(),
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(6),
        }],
        weights: vec![
            weight(1, &[5, 5, 4, 11], 0.2),
            weight(2, &[11], 1.0),
            weight(3, &[7 * 4 * 11, 7], 0.1),
        ],
    }
}

pub const ITEM: usize = 14 * 9 * 4;

pub fn shapes() -> Vec<Vec<usize>> {
    vec![vec![14, 9, 4]]
}

fn session(driver: &Arc<dyn Driver>) -> CudaSession {
    CudaSession::new(&Arc::new(
        CudaPlan::new(driver, &graph(), &shapes()).unwrap(),
    ))
}

#[test]
fn what_follows_a_convolution_is_done_with_it() {
    for driver in drivers() {
        let session = session(&driver);
        let steps: Vec<&str> = session.plan().steps().collect();
        assert_eq!(steps, ["tiled convolution", "dropout", "dense"]);
    }
}

#[test]
fn draws_are_those_of_the_cpu() {
    let batch = 3;
    let x = numbers(9, batch * ITEM, false);
    let mut cpu = Session::new(&Arc::new(Plan::new(&graph(), &shapes()).unwrap()));
    let mut kept = Session::new(&Arc::new(Plan::keeping_all(&graph(), &shapes()).unwrap()));
    let draws = |n| DropoutMode::draws(n, 0x1234_5678_9abc_def0);
    cpu.run(&[&x], batch, &draws(5)).unwrap();
    kept.run(&[&x], batch, &draws(5)).unwrap();
    let dropped = |value: Option<&[f32]>| -> Vec<bool> {
        value.expect("kept").iter().map(|&v| v == 0.0).collect()
    };
    for driver in drivers() {
        let mut session = session(&driver);
        session.run(&[&x], batch, &draws(5)).unwrap();
        assert_eq!(session.rows(), 15);
        let (got, wanted) = (widen(session.output(0)), widen(cpu.output(0)));
        assert_close(&driver.name(), TOLERANCE, &got, &wanted);
        let whole = session.output(0).to_vec();
        session
            .run_from_draw(2, &[&x[..ITEM]], 1, &draws(3))
            .unwrap();
        assert_eq!(session.output(0), &whole[2 * 7..5 * 7]);
        let mut all = crate::networks::keeping_all(&driver, &graph(), &shapes());
        all.run(&[&x], batch, &draws(5)).unwrap();
        // Dropped elements are 0 on both, and so are those cut off by ReLU.
        let node = ValueId(4);
        assert_eq!(dropped(all.value(node)), dropped(kept.value(node)));
    }
}

#[test]
fn a_batch_is_done_in_parts_that_fit_the_memory() {
    let batch = 40;
    let x = numbers(4, batch * ITEM, false);
    let mode = DropoutMode::draws(2, 3);
    let run = |memory| {
        let emulator = Arc::new(Emulator::new(ORDERS[0]).with_memory(memory));
        let driver: Arc<dyn Driver> = emulator.clone();
        let mut session = session(&driver);
        session
            .run(&[&x], batch, &mode)
            .map(|()| (session.output(0).to_vec(), emulator.launches()))
    };
    let (wanted, few) = run(MEMORY).unwrap();
    let (got, many) = run(100_000).unwrap();
    assert_eq!(got, wanted);
    assert!(many > 4 * few, "{many} launches, {few} in one part");
    let one = run(20_000).unwrap_err();
    assert_eq!(one, CudaRunError::Run(RunError::TooLarge { rows: 2 }));
}

#[test]
fn running_again_allocates_nothing() {
    let emulator = Arc::new(Emulator::new(ORDERS[0]));
    let driver: Arc<dyn Driver> = emulator.clone();
    let mut session = session(&driver);
    let x = numbers(4, 6 * ITEM, false);
    let draws = DropoutMode::draws(2, 3);
    session.run(&[&x], 6, &draws).unwrap();
    let (before, held) = (emulator.allocated(), session.held_bytes());
    assert!(held > 0);
    session.run(&[&x[..ITEM]], 1, &draws).unwrap();
    session.run(&[&x], 6, &DropoutMode::Off).unwrap();
    session.run(&[&x], 6, &draws).unwrap();
    assert_eq!((emulator.allocated(), session.held_bytes()), (before, held));
}

#[test]
fn what_does_not_fit_is_named() {
    for driver in drivers() {
        let mut session = session(&driver);
        let x = numbers(4, ITEM, false);
        let error = session.run(&[&x], 2, &DropoutMode::Off).unwrap_err();
        let wanted = "input in holds 504 numbers; 2 rows of 504 are needed";
        assert_eq!(error.to_string(), wanted);
        let error = session.run(&[], 1, &DropoutMode::Off).unwrap_err();
        assert!(
            error.to_string().contains("1 inputs, 0 were given"),
            "{error}"
        );
        let masks =
            |masks: Vec<(String, Vec<u8>)>| DropoutMode::Masks(Masks(masks.into_iter().collect()));
        let error = session.run(&[&x], 1, &masks(vec![])).unwrap_err();
        assert_eq!(error.to_string(), "no dropout mask is given for node3");
        let short = masks(vec![("node3".into(), vec![1; 5])]);
        let error = session.run(&[&x], 1, &short).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("holds 5 decisions, 308 are needed"),
            "{error}"
        );
        session.run(&[], 0, &DropoutMode::Off).unwrap_err();
        session.run(&[&[]], 0, &DropoutMode::Off).unwrap();
        assert_eq!(session.output(0), [0.0f32; 0]);
    }
}

#[test]
fn a_missing_device_is_said_with_what_to_do() {
    use maeum::nn::cuda::Gpu;
    let error = match Gpu::new(1000) {
        Ok(_) => panic!("a thousand GPUs"),
        Err(e) => e.to_string(),
    };
    let wanted = match gpu() {
        Some(_) => "there is no GPU number 1000",
        None => "compute on the CPU",
    };
    assert!(error.contains(wanted), "{error}");
}

/// A recurrent layer whose state exceeds a block's shared memory.
#[test]
fn a_wide_recurrent_layer_keeps_its_state_in_memory() {
    use maeum::nn::layers::Recurrent;
    let units = 1900;
    let weight = |seed, shape: &[usize]| Weight {
        name: format!("weight{seed}"),
        shape: shape.to_vec(),
        data: numbers(seed, shape.iter().product(), false)
            .iter()
            .map(|v| v * 0.02)
            .collect(),
    };
    let graph = Graph {
        name: "wide".into(),
        inputs: vec![Input {
            name: "in".into(),
            shape: vec![Some(2), Some(3)],
        }],
        nodes: vec![Node {
            name: "lstm".into(),
            layer: Layer::Lstm(Lstm {
                recurrent: Recurrent {
                    kernel: WeightId(0),
                    recurrent_kernel: WeightId(1),
                    bias: None,
                    activation: Activation::Tanh,
                    recurrent_activation: Activation::Sigmoid,
                    return_sequences: false,
                    go_backwards: false,
                    stateful: false,
                },
            }),
            inputs: vec![ValueId(0)],
            outer: 0,
        }],
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(1),
        }],
        weights: vec![weight(1, &[3, 4 * units]), weight(2, &[units, 4 * units])],
    };
    let shapes = vec![vec![2, 3]];
    let x = numbers(5, 2 * 6, false);
    let mut cpu = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
    cpu.run(&[&x], 2, &DropoutMode::Off).unwrap();
    // One thread order suffices: other tests run the general kernel in all orders.
    let emulated: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[2]));
    for driver in [emulated].into_iter().chain(gpu()) {
        let plan = Arc::new(CudaPlan::new(&driver, &graph, &shapes).unwrap());
        let mut session = CudaSession::new(&plan);
        session.run(&[&x], 2, &DropoutMode::Off).unwrap();
        let (got, wanted) = (widen(session.output(0)), widen(cpu.output(0)));
        assert_close(&driver.name(), TOLERANCE, &got, &wanted);
    }
}

/// LSTMs and GRUs whose weights are kept in registers.
#[test]
fn recurrent_layers_of_the_models_sizes() {
    use maeum::nn::layers::Recurrent;
    let (hard, soft) = (Activation::HardSigmoid, Activation::Sigmoid);
    for (gates, units, bias, activation, sequences, backwards) in [
        (4, 64, true, hard, true, false),
        (4, 64, true, soft, false, true),
        (4, 32, true, soft, true, true),
        (4, 32, false, hard, false, false),
        (3, 48, true, soft, true, false),
        (3, 48, true, hard, false, true),
        (3, 48, false, soft, true, true),
    ] {
        let weight = |seed, shape: &[usize]| Weight {
            name: format!("weight{seed}"),
            shape: shape.to_vec(),
            data: numbers(seed, shape.iter().product(), false)
                .iter()
                .map(|v| v * 0.2)
                .collect(),
        };
        let recurrent = Recurrent {
            kernel: WeightId(0),
            recurrent_kernel: WeightId(1),
            bias: bias.then_some(WeightId(2)),
            activation: Activation::Tanh,
            recurrent_activation: activation,
            return_sequences: sequences,
            go_backwards: backwards,
            stateful: false,
        };
        let (layer, biases) = match gates {
            4 => (Layer::Lstm(Lstm { recurrent }), vec![4 * units]),
            _ => {
                let reset_after = true;
                let layer = Layer::Gru(Gru {
                    recurrent,
                    reset_after,
                });
                (layer, vec![2, 3 * units])
            }
        };
        let graph = Graph {
            name: "recurrent".into(),
            inputs: vec![Input {
                name: "in".into(),
                shape: vec![Some(7), Some(10)],
            }],
            nodes: vec![Node {
                name: "recurrent".into(),
                layer,
                inputs: vec![ValueId(0)],
                outer: 0,
            }],
            outputs: vec![Output {
                name: "out".into(),
                value: ValueId(1),
            }],
            weights: vec![
                weight(1, &[10, gates * units]),
                weight(2, &[units, gates * units]),
                weight(3, &biases),
            ],
        };
        let shapes = vec![vec![7, 10]];
        // Not a multiple of the sequences per block.
        let batch = 11;
        let x = numbers(5, batch * 70, false);
        let mut cpu = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
        cpu.run(&[&x], batch, &DropoutMode::Off).unwrap();
        for driver in drivers() {
            let plan = Arc::new(CudaPlan::new(&driver, &graph, &shapes).unwrap());
            let mut session = CudaSession::new(&plan);
            session.run(&[&x], batch, &DropoutMode::Off).unwrap();
            let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let (got, wanted) = (bits(session.output(0)), bits(cpu.output(0)));
            assert_eq!(got, wanted, "{}, {units} units", driver.name());
        }
    }
}
