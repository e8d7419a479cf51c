//! The engine against the oracle, on random graphs.

use std::sync::Arc;

use maeum::nn::{Plan, Session, ValueId};
use maeum::simd::Isa;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[allow(unused_imports)] // each includer uses its own part
#[path = "../../tests/common/graphs.rs"]
mod graphs;

use graphs::{Case, KINDS};

/// Compares the engine with the oracle. The first byte selects a kind of graph, the remaining bytes its
/// options.
pub fn against_the_oracle(input: &[u8]) {
    let Some((&kind, choices)) = input.split_first() else {
        return;
    };
    let case = match usize::from(kind) {
        0..=63 => drawn(graphs::network(KINDS), choices),
        64..=95 => drawn(graphs::convolution(), choices),
        96..=127 => drawn(graphs::scaled(), choices),
        kind => drawn(graphs::single(KINDS[kind % KINDS.len()]), choices),
    };
    if let Some(case) = case {
        check(&case);
    }
}

/// Returns the value that a strategy draws from the bytes, which zeros extend.
fn drawn<S: Strategy>(strategy: S, bytes: &[u8]) -> Option<S::Value> {
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    Some(strategy.new_tree(&mut runner).ok()?.current())
}

fn check(case: &Case) {
    graphs::check_against_oracle(case, |case| {
        let plan = Plan::keeping_all(&case.graph, &case.shapes).unwrap();
        let session = run(plan, case);
        let count = case.graph.inputs.len() + case.graph.nodes.len();
        (0..count)
            .map(|i| session.value(ValueId(i)).expect("all are kept").to_vec())
            .collect()
    });
    let mut first = None;
    for isa in Isa::available() {
        let plan = Plan::with_isa(&case.graph, &case.shapes, isa).unwrap();
        let session = run(plan, case);
        let bits: Vec<Vec<u32>> = (0..case.graph.outputs.len())
            .map(|k| session.output(k).iter().map(|x| x.to_bits()).collect())
            .collect();
        let wanted = first.get_or_insert_with(|| bits.clone());
        assert!(*wanted == bits, "{} differs: {case:?}", isa.name());
    }
}

fn run(plan: Plan, case: &Case) -> Session {
    let mut session = Session::new(&Arc::new(plan));
    let inputs: Vec<&[f32]> = case.inputs.iter().map(|x| &**x).collect();
    session.run(&inputs, case.batch, &case.mode).unwrap();
    session
}
