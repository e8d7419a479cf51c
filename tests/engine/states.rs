//! States of stateful layers as inputs and outputs: against Keras, and a sequence in two parts against the whole.

use crate::graphs::{Case, Kind, single};
use maeum::nn::graph::{Graph, Input, Node, Output, ValueId};
use maeum::nn::layers::{Layer, Recurrent, RnnCell, SimpleRnn};
use maeum::nn::npz::Array;
use maeum::nn::run::{self, ArraysError, NamedArrays};
use maeum::nn::{DropoutMode, GraphError};
use proptest::strategy::{Strategy, ValueTree};

fn run_with_states(
    graph: &Graph,
    inputs: &[(String, Array)],
    states: Option<NamedArrays>,
) -> Result<(NamedArrays, NamedArrays), ArraysError> {
    let names: Vec<&str> = inputs.iter().map(|(name, _)| &**name).collect();
    let read = |wanted: &str| {
        let found = inputs.iter().find(|(name, _)| name == wanted);
        Ok(found.unwrap().1.clone())
    };
    run::run_with_states(graph, &names, read, states)
}

/// Options of the recurrent layer of a node.
enum Options<'g> {
    Gated(&'g mut Recurrent),
    Simple(&'g mut SimpleRnn),
}

fn options(layer: &mut Layer) -> Options<'_> {
    match layer {
        Layer::Lstm(lstm) => Options::Gated(&mut lstm.recurrent),
        Layer::Gru(gru) => Options::Gated(&mut gru.recurrent),
        Layer::SimpleRnn(rnn) => Options::Simple(rnn),
        Layer::StatefulRnn(rnn) => match &mut rnn.cell {
            RnnCell::Lstm(lstm) => Options::Gated(&mut lstm.recurrent),
            RnnCell::Gru(gru) => Options::Gated(&mut gru.recurrent),
            RnnCell::SimpleRnn(rnn) => Options::Simple(rnn),
        },
        _ => panic!("the layer is not recurrent"),
    }
}

/// Steps `from..to` of arrays `[batch, time, ...]`.
fn steps(arrays: &[(String, Array)], from: usize, to: usize) -> NamedArrays {
    let part = |(name, array): &(String, Array)| {
        let step: usize = array.shape[2..].iter().product();
        let rows = array.data.chunks_exact(array.shape[1] * step);
        let data = rows.flat_map(|row| row[from * step..to * step].to_vec());
        let mut shape = array.shape.clone();
        shape[1] = to - from;
        let data = data.collect();
        (name.clone(), Array { shape, data })
    };
    arrays.iter().map(part).collect()
}

fn bits(arrays: &[(String, Array)]) -> Vec<(&str, &[usize], Vec<u32>)> {
    let bits = |array: &Array| array.data.iter().map(|x| x.to_bits()).collect();
    arrays
        .iter()
        .map(|(name, array)| (&**name, &*array.shape, bits(array)))
        .collect()
}

/// Runs a sequence at once and in two parts. Returns false if the layer does not fit the comparison, or the second part
/// leaves the states as they are.
fn check_parts(case: Case) -> bool {
    let Case {
        mut graph,
        shapes,
        inputs,
        batch,
        ..
    } = case;
    let time = shapes[0][0];
    let node = &mut graph.nodes[0];
    let (masked, returns_state) = match &node.layer {
        Layer::StatefulRnn(rnn) if rnn.initial_state => return false,
        Layer::StatefulRnn(rnn) => (rnn.masked, rnn.return_state),
        _ => (false, false),
    };
    if node.outer > 0 || time < 2 {
        return false;
    }
    let sequences = match options(&mut node.layer) {
        Options::Gated(r) => {
            (r.stateful, r.go_backwards) = (true, false);
            r.return_sequences
        }
        Options::Simple(r) => {
            (r.stateful, r.go_backwards) = (true, false);
            r.return_sequences
        }
    };
    for input in &mut graph.inputs {
        input.shape[0] = None;
    }
    let named = graph.inputs.iter().zip(&shapes).zip(inputs);
    let inputs: NamedArrays = named
        .map(|((input, shape), data)| {
            let shape = [&[batch], &**shape].concat();
            (input.name.clone(), Array { shape, data })
        })
        .collect();
    let (outputs, states) = run_with_states(&graph, &inputs, None).unwrap();
    // A run from zeros agrees with the graph itself.
    let named: Vec<(&str, Array)> = inputs.iter().map(|(n, a)| (&**n, a.clone())).collect();
    let plain = run::run_arrays(&graph, &named, &DropoutMode::Off).unwrap();
    assert_eq!(bits(&plain), bits(&outputs));
    let middle = time / 2;
    let (first, between) = run_with_states(&graph, &steps(&inputs, 0, middle), None).unwrap();
    let (second, last) =
        run_with_states(&graph, &steps(&inputs, middle, time), Some(between.clone())).unwrap();
    assert_eq!(bits(&last), bits(&states));
    // The output of a skipped first step is zeros and not the output before it.
    if !masked && !returns_state {
        match sequences {
            true => {
                assert_eq!(bits(&first), bits(&steps(&outputs, 0, middle)));
                assert_eq!(bits(&second), bits(&steps(&outputs, middle, time)));
            }
            false => assert_eq!(bits(&second), bits(&outputs)),
        }
    }
    bits(&between) != bits(&states)
}

#[test]
fn a_sequence_in_two_parts_is_the_whole() {
    let kinds = [Kind::Lstm, Kind::Gru, Kind::SimpleRnn, Kind::StatefulRnn];
    for kind in kinds {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let mut compared = 0;
        for _ in 0..80 {
            let case = single(kind).new_tree(&mut runner).unwrap().current();
            compared += usize::from(check_parts(case));
        }
        assert!(compared > 15, "{kind:?}: {compared}");
    }
}

/// Returns a graph of one stateful GRU.
fn one_layer(change: impl Fn(&mut Graph)) -> Graph {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let case = single(Kind::Gru).new_tree(&mut runner).unwrap().current();
        let mut graph = case.graph;
        if graph.nodes[0].outer > 0 {
            continue;
        }
        if let Options::Gated(r) = options(&mut graph.nodes[0].layer) {
            r.stateful = true;
        }
        graph.nodes[0].name = "gru".into();
        graph.inputs[0].name = "x".into();
        graph.inputs[0].shape[0] = None;
        change(&mut graph);
        return graph;
    }
}

#[test]
fn states_that_do_not_fit_are_named() {
    let graph = one_layer(|_| ());
    let Layer::Gru(gru) = &graph.nodes[0].layer else {
        panic!("it is a GRU")
    };
    let units = graph.weights[gru.recurrent.recurrent_kernel.0].shape[0];
    let zeros = |shape: &[usize]| Array {
        shape: shape.to_vec(),
        data: vec![0.0; shape.iter().product()],
    };
    let channels = graph.weights[gru.recurrent.kernel.0].shape[0];
    let inputs = [("x".to_owned(), zeros(&[2, 3, channels]))];
    let state = |name: &str, shape: &[usize]| Some(vec![(name.to_owned(), zeros(shape))]);
    assert!(run_with_states(&graph, &inputs, state("gru.state0", &[2, units])).is_ok());
    for (states, parts) in [
        (
            Some(Vec::new()),
            &["\"gru.state0\" is missing", "given are none"][..],
        ),
        (
            state("gru.state1", &[2, units]),
            &["\"gru.state0\" is missing", "\"gru.state1\""],
        ),
        (
            state("gru.state0", &[2, units + 1]),
            &["\"gru.state0\"", "[batch, "],
        ),
        (
            state("gru.state0", &[units]),
            &["\"gru.state0\"", "[batch, "],
        ),
        (
            state("gru.state0", &[3, units]),
            &["\"gru.state0\" has 3 rows, \"x\" has 2"],
        ),
        (
            Some(vec![
                ("gru.state0".into(), zeros(&[2, units])),
                ("x".into(), zeros(&[2, units])),
            ]),
            &["\"x\" is no input", "\"gru.state0\""],
        ),
    ] {
        let error = run_with_states(&graph, &inputs, states).unwrap_err();
        assert!(matches!(error, ArraysError::States(_)), "{error:?}");
        for part in parts {
            assert!(
                error.to_string().contains(part),
                "{part:?} is not in {error}"
            );
        }
    }
    // Faults of the inputs are no faults of the states.
    let wrong = [("x".to_owned(), zeros(&[2, 3]))];
    let error = run_with_states(&graph, &wrong, None).unwrap_err();
    assert!(matches!(error, ArraysError::Shape { .. }), "{error:?}");

    let stateless = one_layer(|graph| {
        if let Options::Gated(r) = options(&mut graph.nodes[0].layer) {
            r.stateful = false;
        }
    });
    let error = run_with_states(&stateless, &inputs, None).unwrap_err();
    assert!(matches!(error, ArraysError::NoStates { .. }), "{error:?}");
    assert_eq!(stateless.with_states().unwrap(), stateless);
}

#[test]
fn states_that_are_not_defined_are_refused() {
    let taken = one_layer(|graph| {
        graph.inputs.push(Input {
            name: "gru.state0".into(),
            shape: vec![Some(1)],
        });
        graph.nodes[0].inputs = vec![ValueId(0)];
        graph.outputs[0].value = ValueId(2);
    });
    let error = taken.with_states().unwrap_err().to_string();
    assert!(error.contains("\"gru.state0\" is used twice"), "{error}");

    let mut inside = one_layer(|_| ());
    inside.nodes[0].outer = 1;
    inside.inputs[0].shape.insert(0, None);
    let error = inside.with_states().unwrap_err();
    assert!(matches!(&error, GraphError::Node { node, .. } if node == "gru"));
    assert!(error.to_string().contains("run the model without states"));

    let mut given = one_layer(|_| ());
    let whole = given.with_states().unwrap();
    given.inputs = whole.inputs;
    given.nodes = whole.nodes;
    given.outputs = whole.outputs;
    let error = given.with_states().unwrap_err().to_string();
    assert!(
        error.contains("reads initial states from the model"),
        "{error}"
    );
}

#[test]
fn names_inside_of_a_layer_give_way_to_those_of_the_model() {
    let graph = one_layer(|graph| {
        let gru = ValueId(1);
        for name in ["gru/StatefulGRU", "gru/state0", "gru/state0_1"] {
            graph.nodes.push(Node {
                name: name.into(),
                layer: Layer::Flatten,
                inputs: vec![gru],
                outer: 0,
            });
        }
        graph.outputs.push(Output {
            name: "flat".into(),
            value: ValueId(4),
        });
    });
    let whole = graph.with_states().unwrap();
    let names: Vec<&str> = whole.nodes.iter().map(|n| &*n.name).collect();
    for name in ["gru", "gru/StatefulGRU_1", "gru/state0_2", "gru/state0_1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let outputs: Vec<&str> = whole.outputs.iter().map(|o| &*o.name).collect();
    assert_eq!(outputs, ["out0", "flat", "gru.state0"]);
}

#[cfg(feature = "convert")]
mod keras {
    use std::sync::Arc;

    use super::{NamedArrays, run_with_states};
    use crate::captures::{arrays, keras_index, load_keras};
    use maeum::nn::npz::Array;
    use maeum::nn::{DropoutMode, Plan, Session, oracle};

    /// Largest difference from Keras, which sums in another order, relative to 1.
    const TOLERANCE: f64 = 1e-5;

    fn assert_close(what: &str, got: &[f64], wanted: &[f64]) {
        assert_eq!(got.len(), wanted.len(), "{what}");
        for (g, w) in got.iter().zip(wanted) {
            assert!((g - w).abs() <= TOLERANCE, "{what}: {g} is not {w}");
        }
    }

    #[test]
    fn the_second_call_of_a_stateful_model_is_that_of_keras() {
        let mut models = 0;
        for (dir, entry) in keras_index() {
            let Some(file) = entry["arrays"].as_str() else {
                continue;
            };
            let numbers = arrays(&dir.join(file));
            if !numbers.keys().any(|name| name.starts_with("second.")) {
                continue;
            }
            let what = entry["name"].as_str().unwrap();
            let graph = load_keras(&dir, &entry).unwrap().graph;
            let inputs = |prefix: &str| -> NamedArrays {
                let of = |name: &str| {
                    let array = &numbers[&format!("{prefix}in.{name}")];
                    let shape = array.shape.clone();
                    let data = array.data.iter().map(|&x| x as f32).collect();
                    (name.to_owned(), Array { shape, data })
                };
                graph.inputs.iter().map(|i| of(&i.name)).collect()
            };
            let compare = |prefix: &str, outputs: &[Vec<f64>]| {
                for (k, output) in outputs.iter().enumerate() {
                    let wanted = &numbers[&format!("{prefix}out.{k}")];
                    assert_close(&format!("{what} {prefix}out.{k}"), output, &wanted.data);
                }
            };
            let whole = graph.with_states().unwrap();
            let mut states = None;
            let mut exact_states: Vec<Vec<f64>> = whole.inputs[graph.inputs.len()..]
                .iter()
                .map(|i| vec![0.0; inputs("")[0].1.shape[0] * i.shape[0].unwrap()])
                .collect();
            for prefix in ["", "second."] {
                let (outputs, last) =
                    run_with_states(&graph, &inputs(prefix), states.take()).unwrap();
                let as_f64 = |a: &[f32]| a.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
                let outputs: Vec<Vec<f64>> = outputs.iter().map(|(_, a)| as_f64(&a.data)).collect();
                compare(prefix, &outputs);

                // The definitions in `f64`.
                let given = inputs(prefix);
                let batch = given[0].1.shape[0];
                let mut shapes: Vec<Vec<usize>> =
                    given.iter().map(|(_, a)| a.shape[1..].to_vec()).collect();
                let further = &whole.inputs[graph.inputs.len()..];
                shapes.extend(further.iter().map(|i| vec![i.shape[0].unwrap()]));
                let mut all: Vec<Vec<f64>> = given.iter().map(|(_, a)| as_f64(&a.data)).collect();
                all.extend(exact_states);
                let values = oracle::run(&whole, &shapes, &all, batch, &DropoutMode::Off).unwrap();
                let mut exact: Vec<Vec<f64>> = (0..whole.outputs.len())
                    .map(|k| values.output(k).unwrap().data.clone())
                    .collect();
                exact_states = exact.split_off(graph.outputs.len());
                compare(prefix, &exact);
                for ((name, state), exact) in last.iter().zip(&exact_states) {
                    assert_close(&format!("{what} {name}"), &as_f64(&state.data), exact);
                }
                states = Some(last);
            }
            // Without states, the second input gives another output.
            let second = inputs("second.");
            let shapes: Vec<Vec<usize>> =
                second.iter().map(|(_, a)| a.shape[1..].to_vec()).collect();
            let mut session = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
            let data: Vec<&[f32]> = second.iter().map(|(_, a)| &*a.data).collect();
            let batch = second[0].1.shape[0];
            session.run(&data, batch, &DropoutMode::Off).unwrap();
            for k in 0..graph.outputs.len() {
                let wanted = &numbers[&format!("second.out.{k}")].data;
                let got = session.output(k).iter().zip(wanted);
                let far = got
                    .map(|(&g, w)| (f64::from(g) - w).abs())
                    .fold(0.0, f64::max);
                assert!(
                    far > 10.0 * TOLERANCE,
                    "{what}, output {k} does not depend on the states"
                );
            }
            models += 1;
        }
        assert!(models > 0, "there is no model with a second call");
    }
}
