//! Hand-computed cases, and a few from other implementations where stated.

mod activation;
mod more;
mod recurrent;
mod spatial;

use super::*;
use crate::nn::layers::*;
use crate::nn::{Input, Output, Weight, WeightId};

/// Tolerance of a few `f64` operations on values near 1.
const EXACT: f64 = 1e-12;
/// Tolerance of options such as slopes, stored as `f32`: 0.1 moves by 1.5e-9.
const OPTION: f64 = 1e-7;

fn weight(shape: &[usize], data: &[f32]) -> Weight {
    Weight {
        name: String::new(),
        shape: shape.to_vec(),
        data: data.to_vec(),
    }
}

fn graph(layer: Layer, shapes: &[&[usize]], weights: Vec<Weight>) -> Graph {
    let inputs: Vec<Input> = (0..)
        .zip(shapes)
        .map(|(i, shape)| Input {
            name: format!("in{i}"),
            shape: shape.iter().map(|&d| Some(d)).collect(),
        })
        .collect();
    Graph {
        name: "test".into(),
        nodes: vec![Node {
            name: "layer".into(),
            layer,
            inputs: (0..inputs.len()).map(ValueId).collect(),
            outer: 0,
        }],
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(inputs.len()),
        }],
        inputs,
        weights,
    }
}

fn run_all(graph: &Graph, inputs: &[Vec<f64>], mode: &DropoutMode) -> Result<Value, RunError> {
    let shapes = graph.fixed_input_shapes().unwrap();
    let batch = inputs[0].len() / shapes[0].iter().product::<usize>();
    let values = run(graph, &shapes, inputs, batch, mode)?;
    assert_eq!(values.output(0), values.named("layer"));
    assert_eq!(values.rows(), batch * mode.rows());
    Ok(values.output(0).unwrap().clone())
}

#[track_caller]
fn check_within(
    tolerance: f64,
    layer: Layer,
    shape: &[usize],
    weights: Vec<Weight>,
    x: &[f64],
    wanted_shape: &[usize],
    wanted: &[f64],
) {
    let graph = graph(layer, &[shape], weights);
    let y = run_all(&graph, &[x.to_vec()], &DropoutMode::Off).unwrap();
    assert_eq!(y.shape, wanted_shape);
    assert_eq!(y.data.len(), wanted.len(), "{:?}", y.data);
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
    assert!(
        y.data.iter().zip(wanted).all(near),
        "{:?}, wanted {wanted:?}",
        y.data
    );
}

#[track_caller]
fn check(
    layer: Layer,
    shape: &[usize],
    weights: Vec<Weight>,
    x: &[f64],
    wanted_shape: &[usize],
    wanted: &[f64],
) {
    check_within(EXACT, layer, shape, weights, x, wanted_shape, wanted);
}

#[test]
fn normalisation_works_with_and_without_scale_and_shift() {
    let moments = || vec![weight(&[2], &[1.0, 2.0]), weight(&[2], &[3.75, 0.0])];
    let layer = |gamma, beta| {
        Layer::BatchNorm(BatchNorm {
            gamma,
            beta,
            mean: WeightId(0),
            variance: WeightId(1),
            epsilon: 0.25,
        })
    };
    let x = [5.0, 3.0, 1.0, 1.0];
    check(
        layer(None, None),
        &[2, 2],
        moments(),
        &x,
        &[2, 2],
        &[2.0, 2.0, 0.0, -2.0],
    );
    let mut weights = moments();
    weights.push(weight(&[2], &[10.0, -1.0]));
    weights.push(weight(&[2], &[0.5, 0.0]));
    check(
        layer(Some(WeightId(2)), Some(WeightId(3))),
        &[2, 2],
        weights,
        &x,
        &[2, 2],
        &[20.5, -2.0, 0.5, 2.0],
    );
}

#[test]
fn a_dense_layer_maps_the_last_dimension() {
    let weights = vec![
        weight(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        weight(&[3], &[100.0, 0.0, 0.0]),
    ];
    check(
        Layer::Dense(Dense {
            kernel: WeightId(0),
            bias: Some(WeightId(1)),
            activation: Activation::Linear,
        }),
        &[2, 2],
        weights,
        &[1.0, 0.0, 1.0, -1.0],
        &[2, 3],
        &[101.0, 2.0, 3.0, 97.0, -3.0, -3.0],
    );
}

#[test]
fn layers_that_only_move_numbers() {
    let x: Vec<f64> = (0..6).map(f64::from).collect();
    let check = |layer, wanted_shape: &[usize], wanted: [i32; 6]| {
        let wanted = wanted.map(f64::from);
        check(layer, &[2, 3], vec![], &x, wanted_shape, &wanted);
    };
    check(Layer::Reverse, &[2, 3], [3, 4, 5, 0, 1, 2]);
    check(Layer::Flatten, &[6], [0, 1, 2, 3, 4, 5]);
    let shape = vec![Some(3), None, Some(1)];
    check(
        Layer::Reshape(Reshape { shape }),
        &[3, 2, 1],
        [0, 1, 2, 3, 4, 5],
    );
    let order = vec![1, 0];
    check(
        Layer::Permute(Permute { order }),
        &[3, 2],
        [0, 3, 1, 4, 2, 5],
    );
}

#[test]
fn a_cyclic_permutation_is_not_its_inverse() {
    // [2, 3, 1] with order [1, 2, 0]: output [a, b, c] = input [c, a, b].
    check(
        Layer::Permute(Permute {
            order: vec![1, 2, 0],
        }),
        &[2, 3, 1],
        vec![],
        &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        &[3, 1, 2],
        &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0],
    );
}

#[test]
fn sums_repeats_and_softmax_run_along_their_dimension() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let sum = |axis| Layer::SumAxis(SumAxis { axis });
    check(sum(0), &[2, 3], vec![], &x, &[3], &[5.0, 7.0, 9.0]);
    check(sum(1), &[2, 3], vec![], &x, &[2], &[6.0, 15.0]);
    let repeat = Layer::RepeatVector(RepeatVector { count: 2 });
    check(
        repeat,
        &[2],
        vec![],
        &x[..2],
        &[2, 2],
        &[1.0, 2.0, 1.0, 2.0],
    );
    let thirds = [3f64.ln(), 0.0, 0.0, 0.0];
    let along = |axis, wanted: &[f64]| {
        check(
            Layer::Softmax(Softmax { axis }),
            &[2, 2],
            vec![],
            &thirds,
            &[2, 2],
            wanted,
        );
    };
    along(0, &[0.75, 0.5, 0.25, 0.5]);
    along(1, &[0.75, 0.25, 0.5, 0.5]);
}

fn join(layer: Layer, shapes: &[&[usize]], inputs: &[&[f64]], shape: &[usize], wanted: &[f64]) {
    let graph = graph(layer, shapes, vec![]);
    let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.to_vec()).collect();
    let y = run_all(&graph, &inputs, &DropoutMode::Off).unwrap();
    assert_eq!((&y.shape[..], &y.data[..]), (shape, wanted));
}

#[test]
fn values_are_joined_and_broadcast() {
    let ones: &[f64] = &[1.0, 2.0, 3.0, 4.0];
    let tens: &[f64] = &[10.0, 20.0];
    join(
        Layer::Concat(Concat { axis: 0 }),
        &[&[2, 2], &[1, 2]],
        &[ones, tens],
        &[3, 2],
        &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0],
    );
    join(
        Layer::Concat(Concat { axis: 1 }),
        &[&[2, 2], &[2, 1]],
        &[ones, tens],
        &[2, 3],
        &[1.0, 2.0, 10.0, 3.0, 4.0, 20.0],
    );
    let merge = |op| Layer::Merge(Merge { op });
    let row: (&[&[usize]], &[&[f64]]) = (&[&[2, 2], &[2]], &[ones, tens]);
    join(
        merge(MergeOp::Subtract),
        row.0,
        row.1,
        &[2, 2],
        &[-9.0, -18.0, -7.0, -16.0],
    );
    join(
        merge(MergeOp::Average),
        row.0,
        row.1,
        &[2, 2],
        &[5.5, 11.0, 6.5, 12.0],
    );
    // Broadcasts a column along columns and a row along rows.
    join(
        merge(MergeOp::Multiply),
        &[&[2, 1], &[1, 2]],
        &[&ones[..2], tens],
        &[2, 2],
        &[10.0, 20.0, 20.0, 40.0],
    );
    let three: (&[&[usize]], &[&[f64]]) =
        (&[&[2], &[2], &[1]], &[&[1.0, 5.0], &[2.0, 4.0], &[3.0]]);
    let ops = [
        (MergeOp::Add, [6.0, 12.0]),
        (MergeOp::Maximum, [3.0, 5.0]),
        (MergeOp::Minimum, [1.0, 3.0]),
    ];
    for (op, wanted) in ops {
        join(merge(op), three.0, three.1, &[2], &wanted);
    }
}

#[test]
fn attention_scales_places_or_channels() {
    let maps: &[f64] = &[1.0, 2.0, 3.0, 4.0];
    let weights: &[f64] = &[10.0, 100.0];
    join(
        Layer::SpatialMultiply,
        &[&[2, 1, 2], &[2, 1, 1]],
        &[maps, weights],
        &[2, 1, 2],
        &[10.0, 20.0, 300.0, 400.0],
    );
    join(
        Layer::ChannelMultiply,
        &[&[2, 1, 2], &[2]],
        &[maps, weights],
        &[2, 1, 2],
        &[10.0, 200.0, 30.0, 400.0],
    );
}

#[test]
fn leading_dimensions_count_as_batch() {
    let mut graph = graph(Layer::Flatten, &[&[2, 2, 2]], vec![]);
    graph.nodes[0].outer = 1;
    let x: Vec<f64> = (0..8).map(f64::from).collect();
    let y = run_all(&graph, std::slice::from_ref(&x), &DropoutMode::Off).unwrap();
    assert_eq!((&y.shape[..], &y.data), (&[2, 4][..], &x));
    graph.nodes[0].layer = Layer::Reverse;
    let y = run_all(&graph, &[x], &DropoutMode::Off).unwrap();
    assert_eq!(y.data, [2.0, 3.0, 0.0, 1.0, 6.0, 7.0, 4.0, 5.0]);
}

fn dropout(forced: bool, per_channel: bool) -> Layer {
    Layer::Dropout(Dropout {
        rate: 0.5,
        forced,
        per_channel,
    })
}

fn masks(name: &str, mask: &[u8]) -> DropoutMode {
    DropoutMode::Masks(Masks([(name.to_string(), mask.to_vec())].into()))
}

#[test]
fn masks_drop_units_or_channels() {
    let x = vec![vec![1.0, 2.0, 3.0, 4.0]];
    let elements = graph(dropout(true, false), &[&[2, 2]], vec![]);
    let y = run_all(&elements, &x, &masks("layer", &[1, 0, 0, 1])).unwrap();
    assert_eq!(y.data, [2.0, 0.0, 0.0, 8.0]);
    let mut channels = graph(dropout(true, true), &[&[2, 2]], vec![]);
    let y = run_all(&channels, &x, &masks("layer", &[0, 1])).unwrap();
    assert_eq!(y.data, [0.0, 4.0, 0.0, 8.0]);
    // Two rows by `outer`, each with its own decision per channel.
    channels.nodes[0].outer = 1;
    let y = run_all(&channels, &x, &masks("layer", &[0, 1, 1, 0])).unwrap();
    assert_eq!(y.data, [0.0, 4.0, 6.0, 0.0]);
    let off = run_all(&elements, &x, &DropoutMode::Off).unwrap();
    assert_eq!(off.data, x[0]);
    let trained = graph(dropout(false, false), &[&[2, 2]], vec![]);
    let y = run_all(&trained, &x, &DropoutMode::draws(1, 3)).unwrap();
    assert_eq!(y.data, x[0]);
}

#[test]
fn draws_multiply_the_rows_in_order() {
    let units = 50;
    let graph = graph(dropout(true, false), &[&[units]], vec![]);
    let x: Vec<f64> = (1..=2 * units as i32).map(f64::from).collect();
    let y = run_all(&graph, std::slice::from_ref(&x), &DropoutMode::draws(3, 11)).unwrap();
    for (row, got) in y.data.chunks(units).enumerate() {
        let mut factors = vec![0.0; units];
        draw_factors(11, (row % 3) as u32, 0, 0.5, &mut factors);
        let source = &x[row / 3 * units..][..units];
        let wanted: Vec<f64> = source
            .iter()
            .zip(factors)
            .map(|(v, f)| v * f64::from(f))
            .collect();
        assert_eq!(got, wanted, "row {row}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let graph = graph(dropout(true, false), &[&[2]], vec![]);
    let fail = |inputs: &[Vec<f64>], mode: &DropoutMode| {
        run(&graph, &[vec![2]], inputs, 1, mode)
            .unwrap_err()
            .to_string()
    };
    let x = [vec![1.0, 2.0]];
    assert!(fail(&x, &masks("other", &[1, 1])).contains("layer"));
    assert!(fail(&x, &masks("layer", &[1])).contains("2 decisions"));
    assert!(fail(&[], &DropoutMode::Off).contains("1 inputs"));
    assert!(fail(&[vec![1.0]], &DropoutMode::Off).contains("in0"));
    assert!(fail(&x, &DropoutMode::draws(u32::MAX, 0)).contains("rows"));
    let shapes = run(&graph, &[vec![3]], &x, 1, &DropoutMode::Off);
    assert!(matches!(shapes, Err(RunError::Graph(_))));
}
