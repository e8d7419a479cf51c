use super::*;

/// Builds per-gate kernel, recurrent kernel and bias for one unit with one input.
fn recurrent(gates: usize, kernel: &[f32], bias: &[&[f32]]) -> Vec<Weight> {
    let bias_shape: &[usize] = match bias.len() {
        1 => &[gates],
        _ => &[2, gates],
    };
    let bias_data: Vec<f32> = bias.concat();
    vec![
        weight(&[1, gates], kernel),
        weight(&[1, gates], &vec![1.0; gates]),
        weight(bias_shape, &bias_data),
    ]
}

fn options(return_sequences: bool, go_backwards: bool) -> Recurrent {
    Recurrent {
        kernel: WeightId(0),
        recurrent_kernel: WeightId(1),
        bias: Some(WeightId(2)),
        activation: Activation::Linear,
        recurrent_activation: Activation::HardSigmoid,
        return_sequences,
        go_backwards,
        stateful: false,
    }
}

#[test]
fn lstm_gates_come_in_the_order_input_forget_cell_output() {
    let weights = || recurrent(4, &[1.0, 0.0, 2.0, 5.0], &[&[0.0, -2.5, 1.0, 2.5]]);
    // Step 1, x = 1, h = 0: i = 0.7, f = 0, g = 3, o = 1 (clipped from 2); c = 2.1, h = 2.1.
    // Step 2, x = 0, h = 2.1: i = 0.92, f = 0.42, g = 3.1, o = 1 (clipped from 1.42);
    // c = 0.42 * 2.1 + 0.92 * 3.1 = 3.734.
    check(
        Layer::Lstm(Lstm {
            recurrent: options(true, false),
        }),
        &[2, 1],
        weights(),
        &[1.0, 0.0],
        &[2, 1],
        &[2.1, 3.734],
    );
    check(
        Layer::Lstm(Lstm {
            recurrent: options(false, true),
        }),
        &[2, 1],
        weights(),
        &[0.0, 1.0],
        &[1],
        &[3.734],
    );
}

#[test]
fn convolutional_lstm_feeds_neighbours_back() {
    // One filter, kernel of two samples, gates input, forget, cell, output. The input opens all gates to
    // 0.5, and the cell input is the sample itself. The state of the sample behind is added to the cell input.
    let layer = |return_sequences, go_backwards| {
        Layer::ConvLstm(ConvLstm {
            kernel: WeightId(0),
            recurrent_kernel: WeightId(1),
            bias: None,
            strides: [1, 1],
            dilation: [1, 1],
            padding: Padding::Same,
            activation: Activation::Linear,
            recurrent_activation: Activation::HardSigmoid,
            return_sequences,
            go_backwards,
        })
    };
    let weights = || {
        vec![
            weight(&[2, 1, 4], &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            weight(&[2, 1, 4], &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        ]
    };
    // Step 1: c = (1, 2), h = (0.5, 1). Step 2: c = 0.5 c + 0.5 (x + the state behind)
    // = (0.5 + 0.5 (4 + 1), 1 + 0.5 * 6) = (3, 4), h = (1.5, 2).
    check(
        layer(true, false),
        &[2, 2, 1],
        weights(),
        &[2.0, 4.0, 4.0, 6.0],
        &[2, 2, 1],
        &[0.5, 1.0, 1.5, 2.0],
    );
    check(
        layer(false, true),
        &[2, 2, 1],
        weights(),
        &[4.0, 6.0, 2.0, 4.0],
        &[2, 1],
        &[1.5, 2.0],
    );
}

#[test]
fn gru_resets_before_or_after_the_recurrent_product() {
    let gru = |reset_after| {
        Layer::Gru(Gru {
            recurrent: options(true, false),
            reset_after,
        })
    };
    // Gates update, reset, candidate. Step 1, x = 1, h = 0: z = 0.5, g = 2, h = 1.
    // Step 2, x = 1, h = 1: z = 0.7, r = 0.7 - 0.5 = 0.2 (bias -2.5); g = 2 + 0.2 = 2.2;
    // h = 0.7 + 0.3 * 2.2 = 1.36.
    check(
        gru(false),
        &[2, 1],
        recurrent(3, &[0.0, 0.0, 2.0], &[&[0.0, -2.5, 0.0]]),
        &[1.0, 1.0],
        &[2, 1],
        &[1.0, 1.36],
    );
    // The recurrent bias of the candidate is inside the reset. Step 1: z = 0.5,
    // r = 0.5 - 0.5 + 0.1 = 0.1, g = 2 + 0.1 * (0 + 10) = 3, h = 1.5.
    // Step 2: z = 0.8, r = 0.4, g = 2 + 0.4 * (1.5 + 10) = 6.6, h = 1.2 + 0.2 * 6.6 = 2.52.
    check_within(
        OPTION,
        gru(true),
        &[2, 1],
        recurrent(3, &[0.0, 0.0, 2.0], &[&[0.0, -2.5, 0.0], &[0.0, 0.5, 10.0]]),
        &[1.0, 1.0],
        &[2, 1],
        &[1.5, 2.52],
    );
}

#[test]
fn steps_are_skipped_and_states_go_in_and_out() {
    // h' = x + h, so that the state counts.
    let cell = |go_backwards| SimpleRnn {
        kernel: WeightId(0),
        recurrent_kernel: WeightId(1),
        bias: None,
        activation: Activation::Linear,
        return_sequences: true,
        go_backwards,
        stateful: false,
    };
    let one = || weight(&[1, 1], &[1.0]);
    let run = |layer: StatefulRnn, inputs: &[&[f64]], wanted: &[f64]| {
        let shapes: Vec<Vec<usize>> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| {
                if i == 0 {
                    vec![x.len(), 1]
                } else {
                    vec![x.len()]
                }
            })
            .collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(|s| &**s).collect();
        let graph = graph(Layer::StatefulRnn(layer), &shapes, vec![one(), one()]);
        let inputs: Vec<Vec<f64>> = inputs.iter().map(|x| x.to_vec()).collect();
        let y = run_all(&graph, &inputs, &DropoutMode::Off).unwrap();
        assert_eq!(y.data, wanted);
    };
    let plain = StatefulRnn {
        cell: RnnCell::SimpleRnn(cell(false)),
        masked: true,
        zero_skipped_output: false,
        initial_state: false,
        return_state: false,
    };
    let x: &[f64] = &[1.0, 2.0, 4.0, 8.0];
    let mask: &[f64] = &[0.0, 1.0, 0.0, 1.0];
    run(plain.clone(), &[x, mask], &[0.0, 2.0, 2.0, 10.0]);
    let zeros = StatefulRnn {
        zero_skipped_output: true,
        ..plain.clone()
    };
    run(zeros, &[x, mask], &[0.0, 2.0, 0.0, 10.0]);
    // The output of a first skipped step is 0, not the initial state; the last state is behind.
    let all = StatefulRnn {
        initial_state: true,
        return_state: true,
        ..plain
    };
    run(
        all.clone(),
        &[x, mask, &[100.0]],
        &[0.0, 102.0, 102.0, 110.0, 110.0],
    );
    run(
        all.clone(),
        &[x, &[1.0, 1.0, 1.0, 0.0], &[100.0]],
        &[101.0, 103.0, 107.0, 107.0, 107.0],
    );
    // The mask is reversed with the sequence.
    let backwards = StatefulRnn {
        cell: RnnCell::SimpleRnn(cell(true)),
        ..all
    };
    run(
        backwards,
        &[x, mask, &[100.0]],
        &[108.0, 108.0, 110.0, 110.0, 110.0],
    );
}

#[test]
fn gates_of_several_units_lie_side_by_side() {
    // Two units; unit 1 has ten times the candidate of unit 0. Update gate shut, reset open.
    let weights = vec![
        weight(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 1.0, 10.0]),
        weight(
            &[2, 6],
            // The candidate of unit 0 depends on unit 1 and vice versa.
            &[
                0.0, 0.0, 0.0, 0.0, 0.0, 2.0, //
                0.0, 0.0, 0.0, 0.0, 3.0, 0.0,
            ],
        ),
        weight(&[6], &[-9.0, -9.0, 9.0, 9.0, 0.0, 0.0]),
    ];
    check(
        Layer::Gru(Gru {
            recurrent: options(true, false),
            reset_after: false,
        }),
        &[2, 1],
        weights,
        &[1.0, 0.0],
        &[2, 2],
        &[1.0, 10.0, 30.0, 2.0],
    );
}
