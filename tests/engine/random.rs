//! The engine against the naive oracle, on random graphs of every layer and option.

use std::sync::Arc;

use crate::graphs::{
    self, Case, Kind, check_against_oracle, convolution, masks_of, network, repeat_rows, scaled,
    single, windowed,
};
use maeum::nn::{DropoutMode, Graph, Plan, Session, ValueId, oracle};
use maeum::simd::Isa;
use proptest::prelude::*;

fn session(plan: Plan) -> Session {
    Session::new(&Arc::new(plan))
}

fn run(session: &mut Session, inputs: &[Vec<f32>], batch: usize, mode: &DropoutMode) {
    let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    session.run(&inputs, batch, mode).unwrap();
}

fn outputs(session: &Session, graph: &Graph) -> Vec<Vec<f32>> {
    let all = 0..graph.outputs.len();
    all.map(|k| session.output(k).to_vec()).collect()
}

fn all_values(case: &Case) -> Vec<Vec<f32>> {
    let mut session = session(Plan::keeping_all(&case.graph, &case.shapes).unwrap());
    run(&mut session, &case.inputs, case.batch, &case.mode);
    let count = case.graph.inputs.len() + case.graph.nodes.len();
    (0..count)
        .map(|i| session.value(ValueId(i)).expect("all are kept").to_vec())
        .collect()
}

/// Returns the outputs of a fresh session that does not keep all values.
fn fresh(case: &Case) -> Vec<Vec<f32>> {
    let mut session = session(Plan::new(&case.graph, &case.shapes).unwrap());
    run(&mut session, &case.inputs, case.batch, &case.mode);
    outputs(&session, &case.graph)
}

/// Compares bits, including those of NaN and the sign of zero.
#[track_caller]
fn assert_same_bits(what: &str, a: &[Vec<f32>], b: &[Vec<f32>]) {
    let bits = |x: &[Vec<f32>]| -> Vec<Vec<u32>> {
        x.iter()
            .map(|x| x.iter().map(|v| v.to_bits()).collect())
            .collect()
    };
    assert!(bits(a) == bits(b), "{what}:\n{a:?}\n{b:?}");
}

/// Returns the draws per row: one for a graph without forced dropout.
fn draws(case: &Case) -> usize {
    match case.graph.is_stochastic() {
        true => case.mode.rows(),
        false => 1,
    }
}

/// Returns rows `from..to` of each tensor of `total` rows.
fn rows(x: &[Vec<f32>], total: usize, from: usize, to: usize) -> Vec<Vec<f32>> {
    x.iter()
        .map(|x| x[x.len() / total * from..x.len() / total * to].to_vec())
        .collect()
}

fn check(case: &Case) {
    check_against_oracle(case, all_values);
    let wanted = fresh(case);
    let kept = all_values(case);
    let draws = draws(case);
    for (k, output) in case.graph.outputs.iter().enumerate() {
        let kept = &kept[output.value.0];
        let times = wanted[k].len() / kept.len();
        let kept = repeat_rows(kept, kept.len() / case.batch, times);
        assert_same_bits("keeping all values changes", &wanted[k..=k], &[kept]);
    }
    let mut session = session(Plan::new(&case.graph, &case.shapes).unwrap());
    for row in (0..case.batch).rev() {
        let input = rows(&case.inputs, case.batch, row, row + 1);
        run(&mut session, &input, 1, &case.mode);
        let alone = outputs(&session, &case.graph);
        let together = rows(&wanted, case.batch * draws, row * draws, (row + 1) * draws);
        assert_same_bits(
            "a row alone differs from the row in the batch",
            &alone,
            &together,
        );
    }
    for _ in 0..2 {
        run(&mut session, &case.inputs, case.batch, &case.mode);
        assert_eq!(session.rows(), case.batch * draws);
        let again = outputs(&session, &case.graph);
        assert_same_bits("a session used before differs", &again, &wanted);
    }
    let masked = with_masks(case, draws);
    assert_same_bits("draws differ from their masks", &fresh(&masked), &wanted);
    for isa in Isa::available() {
        let plan = Plan::with_isa(&case.graph, &case.shapes, isa).unwrap();
        let mut session = self::session(plan);
        run(&mut session, &case.inputs, case.batch, &case.mode);
        let other = outputs(&session, &case.graph);
        assert_same_bits(&format!("{} differs", isa.name()), &other, &wanted);
    }
}

/// Converts draws to masks: every draw becomes a row with its decisions as masks.
fn with_masks(case: &Case, draws: usize) -> Case {
    let repeat = |x: &Vec<f32>| repeat_rows(x, x.len() / case.batch, draws);
    Case {
        inputs: case.inputs.iter().map(repeat).collect(),
        batch: case.batch * draws,
        mode: match case.mode {
            DropoutMode::Off => DropoutMode::Off,
            _ => DropoutMode::Masks(masks_of(case)),
        },
        ..case.clone()
    }
}

macro_rules! each_kind {
    ($($name:ident, $kind:ident, $cases:literal;)*) => {
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
    conv, Conv, 300;
    pool, Pool, 200;
    global_pool, GlobalPool, 60;
    upsample, Upsample, 100;
    zero_pad, ZeroPad, 60;
    batch_norm, BatchNorm, 60;
    dense, Dense, 150;
    lstm, Lstm, 150;
    gru, Gru, 200;
    reverse, Reverse, 60;
    flatten, Flatten, 60;
    reshape, Reshape, 60;
    permute, Permute, 60;
    repeat_vector, RepeatVector, 60;
    concat, Concat, 60;
    merge, Merge, 150;
    dropout, Dropout, 150;
    activation, Activation, 200;
    softmax, Softmax, 60;
    parametric_relu, PRelu, 60;
    sum_axis, SumAxis, 60;
    spatial_multiply, SpatialMultiply, 60;
    channel_multiply, ChannelMultiply, 60;
    insert_axis, InsertAxis, 60;
    remove_axis, RemoveAxis, 60;
    embedding, Embedding, 60;
    map, Map, 60;
    slice, Slice, 60;
    mean_axis, MeanAxis, 60;
    mat_mul, MatMul, 60;
    depthwise_conv, DepthwiseConv, 200;
    conv_transpose, ConvTranspose, 60;
    layer_norm, LayerNorm, 60;
    group_norm, GroupNorm, 60;
    simple_rnn, SimpleRnn, 60;
    stateful_rnn, StatefulRnn, 150;
    stft, Stft, 150;
    angle, Angle, 60;
    conv3d, Conv3d, 150;
    conv_lstm, ConvLstm, 100;
    resize, Resize, 100;
}

/// Scales the number of cases by `PROPTEST_CASES` (default 256). Failing seeds are not written to
/// files; a failure is added as a case of its own.
fn cases(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: (cases * asked.cases / 256).max(1),
        failure_persistence: None,
        ..asked
    }
}

#[test]
fn every_kind_of_layer_is_tested() {
    assert_eq!(TESTED, graphs::KINDS);
}

proptest! {
    #![proptest_config(cases(400))]
    #[test]
    fn convolutions_with_what_follows_them(case in convolution()) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(cases(400))]
    #[test]
    fn networks(case in network(graphs::KINDS)) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn scaled_convolutions(case in scaled()) {
        check(&case);
    }
}

proptest! {
    #![proptest_config(cases(600))]
    #[test]
    fn windows_that_share_are_windows_by_themselves(windowed in windowed()) {
        let case = &windowed.case;
        for isa in Isa::available() {
            let plan = || Plan::with_isa(&case.graph, &case.shapes, isa).unwrap();
            let mut apart = session(plan());
            run(&mut apart, &case.inputs, case.batch, &case.mode);
            let wanted = outputs(&apart, &case.graph);
            let mut together = session(plan());
            for _ in 0..2 {
                together
                    .run_windows(&windowed.sheet, &windowed.starts, &case.mode)
                    .unwrap();
                prop_assert_eq!(together.rows(), apart.rows());
                assert_same_bits(isa.name(), &outputs(&together, &case.graph), &wanted);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]
    #[test]
    fn the_reference_draws_what_its_masks_say(case in network(graphs::KINDS)) {
        let run = |case: &Case| {
            let inputs: Vec<Vec<f64>> = case.inputs.iter().map(|x| graphs::widen(x)).collect();
            let values = oracle::run(&case.graph, &case.shapes, &inputs, case.batch, &case.mode);
            let values = values.unwrap();
            let all = 0..case.graph.outputs.len();
            all.map(|k| values.output(k).unwrap().clone()).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(&case), run(&with_masks(&case, case.mode.rows())));
    }
}
