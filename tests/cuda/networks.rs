//! Whole graphs: random ones against the oracle, Keras' goldens, and the session's guarantees.

use std::cell::RefCell;
use std::sync::Arc;

use maeum::nn::cuda::{CudaPlan, CudaSession, Driver};
use maeum::nn::layers::{Activation, Conv, Dense, Gru, Lstm};
use maeum::nn::{Graph, Layer, Plan, Session, ValueId};
use proptest::prelude::*;

use crate::drivers;
use crate::graphs::{self, Case, Kind, check_against_oracle, convolution, network, scaled, single};

pub fn keeping_all(driver: &Arc<dyn Driver>, graph: &Graph, shapes: &[Vec<usize>]) -> CudaSession {
    CudaSession::new(&Arc::new(
        CudaPlan::keeping_all(driver, graph, shapes).unwrap(),
    ))
}

fn plain(driver: &Arc<dyn Driver>, case: &Case) -> CudaSession {
    CudaSession::new(&Arc::new(
        CudaPlan::new(driver, &case.graph, &case.shapes).unwrap(),
    ))
}

fn run(session: &mut CudaSession, case: &Case) {
    let inputs: Vec<&[f32]> = case.inputs.iter().map(|x| &**x).collect();
    session.run(&inputs, case.batch, &case.mode).unwrap();
}

fn outputs(session: &CudaSession, graph: &Graph) -> Vec<Vec<f32>> {
    let all = 0..graph.outputs.len();
    all.map(|k| session.output(k).to_vec()).collect()
}

/// Checks every value against the oracle. Then checks that fusion, splitting of the batch and reuse
/// of buffers do not change the results.
pub fn check(case: &Case) {
    for driver in drivers() {
        let session = RefCell::new(keeping_all(&driver, &case.graph, &case.shapes));
        check_against_oracle(case, |case| {
            let session = &mut *session.borrow_mut();
            run(session, case);
            let count = case.graph.inputs.len() + case.graph.nodes.len();
            (0..count)
                .map(|i| session.value(ValueId(i)).expect("all are kept").to_vec())
                .collect()
        });
        let session = session.into_inner();
        let wanted = outputs(&session, &case.graph);
        let mut fused = plain(&driver, case);
        let mut parts = plain(&driver, case).with_part(1);
        run(&mut fused, case);
        for _ in 0..2 {
            run(&mut parts, case);
        }
        assert_eq!(fused.rows(), session.rows());
        let fused = outputs(&fused, &case.graph);
        for (fused, wanted) in fused.iter().zip(&wanted) {
            graphs::assert_close(
                "layers done together",
                graphs::TOLERANCE,
                &graphs::widen(fused),
                &graphs::widen(wanted),
            );
        }
        assert_eq!(
            bits(&outputs(&parts, &case.graph)),
            bits(&fused),
            "in parts"
        );
    }
}

/// Compares bits, including those of NaN and the sign of zero.
fn bits(x: &[Vec<f32>]) -> Vec<Vec<u32>> {
    x.iter()
        .map(|x| x.iter().map(|v| v.to_bits()).collect())
        .collect()
}

/// Scales the number of cases by `PROPTEST_CASES` (default 256).
pub fn cases(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: (cases * asked.cases / 256).max(1),
        failure_persistence: None,
        ..asked
    }
}

macro_rules! each_kind {
    ($($name:ident, $kind:ident, $cases:expr;)*) => {
        $(
            proptest! {
                #![proptest_config(cases($cases))]
                #[test]
                fn $name(case in single(Kind::$kind)) {
                    check(&case);
                }
            }
        )*

        const TESTED: &[Kind] = &[$(Kind::$kind),*];
    };
}

each_kind! {
    conv, Conv, 60;
    pool, Pool, 60;
    global_pool, GlobalPool, 30;
    upsample, Upsample, 40;
    zero_pad, ZeroPad, 30;
    batch_norm, BatchNorm, 30;
    dense, Dense, 50;
    lstm, Lstm, 50;
    gru, Gru, 60;
    reverse, Reverse, 30;
    flatten, Flatten, 20;
    reshape, Reshape, 20;
    permute, Permute, 40;
    repeat_vector, RepeatVector, 30;
    concat, Concat, 40;
    merge, Merge, 60;
    dropout, Dropout, 60;
    activation, Activation, 100;
    softmax, Softmax, 40;
    parametric_relu, PRelu, 40;
    sum_axis, SumAxis, 40;
    spatial_multiply, SpatialMultiply, 30;
    channel_multiply, ChannelMultiply, 30;
    insert_axis, InsertAxis, 20;
    remove_axis, RemoveAxis, 20;
    embedding, Embedding, 30;
    map, Map, 40;
    slice, Slice, 30;
    mean_axis, MeanAxis, 30;
    mat_mul, MatMul, 40;
}

#[test]
fn every_kind_of_layer_is_tested() {
    assert_eq!(TESTED, graphs::ON_DEVICE);
}

proptest! {
    #![proptest_config(cases(40))]
    #[test]
    fn layers_without_a_kernel_are_refused_by_name(
        case in prop::sample::select(graphs::CPU_ONLY).prop_flat_map(single),
    ) {
        for driver in drivers() {
            let error = CudaPlan::new(&driver, &case.graph, &case.shapes).unwrap_err();
            let class = case.graph.nodes[0].layer.class();
            let expected = format!("node node0 ({class}): this layer has no CUDA kernel; run the network on the CPU");
            prop_assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn convolutions_with_what_follows_them(case in convolution()) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(cases(120))]
    #[test]
    fn networks(case in network(graphs::ON_DEVICE)) {
        check(&case);
    }
}

/// Returns the outputs computed by the CPU.
fn on_the_processor(case: &Case) -> Vec<Vec<f32>> {
    let plan = Plan::new(&case.graph, &case.shapes).unwrap();
    let mut session = Session::new(&Arc::new(plan));
    let inputs: Vec<&[f32]> = case.inputs.iter().map(|x| &**x).collect();
    session.run(&inputs, case.batch, &case.mode).unwrap();
    let all = 0..case.graph.outputs.len();
    all.map(|k| session.output(k).to_vec()).collect()
}

/// Replaces activations by those that consist of multiply-adds and bit operations, which have the
/// same bits everywhere.
fn with_own_functions(mut case: Case) -> Case {
    for node in &mut case.graph.nodes {
        match &mut node.layer {
            Layer::Conv(Conv { activation, .. }) | Layer::Dense(Dense { activation, .. })
                if *activation != Activation::Relu =>
            {
                *activation = Activation::Linear;
            }
            Layer::Lstm(Lstm { recurrent: r }) | Layer::Gru(Gru { recurrent: r, .. }) => {
                r.activation = Activation::Tanh;
                if r.recurrent_activation != Activation::HardSigmoid {
                    r.recurrent_activation = Activation::Sigmoid;
                }
            }
            _ => {}
        }
    }
    case
}

proptest! {
    #![proptest_config(cases(120))]
    #[test]
    fn sums_are_the_processors_to_the_bit(
        case in prop_oneof![
            single(Kind::Conv), single(Kind::Dense), single(Kind::Lstm), single(Kind::Gru), convolution()
        ]
    ) {
        let case = with_own_functions(case);
        let wanted = on_the_processor(&case);
        for driver in drivers() {
            let mut session = plain(&driver, &case);
            run(&mut session, &case);
            let got = outputs(&session, &case.graph);
            assert_eq!(bits(&got), bits(&wanted), "{}", driver.name());
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]
    #[test]
    fn scaled_convolutions(case in scaled()) {
        check(&case);
    }
}
