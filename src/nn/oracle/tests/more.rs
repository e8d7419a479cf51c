//! Layers beyond those of the original system.

use super::*;

#[test]
fn depthwise_convolution_keeps_the_channels_apart() {
    let layer = |padding| {
        Layer::DepthwiseConv(DepthwiseConv {
            kernel: WeightId(0),
            bias: Some(WeightId(1)),
            strides: [1, 1],
            dilation: [1, 1],
            padding,
            activation: Activation::Linear,
        })
    };
    // Two taps, two channels, two filters each.
    let weights = || {
        vec![
            weight(&[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]),
            weight(&[4], &[0.0, 0.5, 0.0, 0.5]),
        ]
    };
    let x = [1.0, -1.0, 2.0, 1.0];
    check(
        layer(Padding::Valid),
        &[2, 2],
        weights(),
        &x,
        &[1, 4],
        &[21.0, 42.5, 27.0, 36.5],
    );
    check(
        layer(Padding::Causal),
        &[2, 2],
        weights(),
        &x,
        &[2, 4],
        &[10.0, 20.5, -30.0, -39.5, 21.0, 42.5, 27.0, 36.5],
    );
}

#[test]
fn transposed_convolution_spreads_every_sample() {
    let layer = |padding| {
        Layer::ConvTranspose(ConvTranspose {
            kernel: WeightId(0),
            bias: None,
            strides: [2, 1],
            dilation: [1, 1],
            padding,
            output_padding: None,
            activation: Activation::Linear,
        })
    };
    let weights = || vec![weight(&[3, 1, 1], &[1.0, 10.0, 100.0])];
    // Samples at 0 and 2, each with three outputs.
    check(
        layer(Padding::Valid),
        &[2, 1],
        weights(),
        &[1.0, 2.0],
        &[5, 1],
        &[1.0, 10.0, 102.0, 20.0, 200.0],
    );
    // Of 5 outputs 4 are kept; (3 - 2) / 2 = 0 are cut off at the start.
    check(
        layer(Padding::Same),
        &[2, 1],
        weights(),
        &[1.0, 2.0],
        &[4, 1],
        &[1.0, 10.0, 102.0, 20.0],
    );
}

#[test]
fn transposed_convolution_has_dilation_and_output_padding() {
    let layer = |padding, dilation| {
        Layer::ConvTranspose(ConvTranspose {
            kernel: WeightId(0),
            bias: None,
            strides: [2, 1],
            dilation: [dilation, 1],
            padding,
            output_padding: Some([1, 0]),
            activation: Activation::Linear,
        })
    };
    let weights = || vec![weight(&[3, 1, 1], &[1.0, 10.0, 100.0])];
    // Samples at 0 and 2, each with outputs at 0, 2 and 4 from there, and one output more.
    check(
        layer(Padding::Valid, 2),
        &[2, 1],
        weights(),
        &[1.0, 2.0],
        &[8, 1],
        &[1.0, 0.0, 12.0, 0.0, 120.0, 0.0, 200.0, 0.0],
    );
    // 2 + 1 outputs and one more; (5 - 4) / 2 = 0 are cut off at the start.
    check(
        layer(Padding::Same, 1),
        &[2, 1],
        weights(),
        &[1.0, 2.0],
        &[4, 1],
        &[1.0, 10.0, 102.0, 20.0],
    );
}

#[test]
fn group_normalisation_uses_the_statistics_of_its_channels() {
    let layer = Layer::GroupNorm(GroupNorm {
        groups: Some(2),
        gamma: Some(WeightId(0)),
        beta: Some(WeightId(1)),
        epsilon: 1.0,
    });
    let weights = vec![
        weight(&[4], &[2.0, 1.0, 1.0, 1.0]),
        weight(&[4], &[0.0, 5.0, 0.0, 3.0]),
    ];
    // Channels 0 and 1 have mean 1 + a and variance a^2; with a^2 + 1 = 4 the deviation is 2.
    let a = 3f64.sqrt();
    check(
        layer,
        &[2, 4],
        weights,
        &[1.0, 1.0 + 2.0 * a, 7.0, 7.0, 1.0 + 2.0 * a, 1.0, 7.0, 7.0],
        &[2, 4],
        &[-a, 5.0 + a / 2.0, 0.0, 3.0, a, 5.0 - a / 2.0, 0.0, 3.0],
    );
}

#[test]
fn layer_normalisation_uses_the_statistics_of_its_row() {
    let layer = Layer::LayerNorm(LayerNorm {
        gamma: Some(WeightId(0)),
        beta: Some(WeightId(1)),
        epsilon: 1.0,
        dims: 1,
    });
    let weights = vec![weight(&[2], &[2.0, 1.0]), weight(&[2], &[0.0, 5.0])];
    // Row (1, 1 + 2a) has mean 1 + a and variance a^2; with a^2 + 1 = 4 the deviation is 2.
    let a = 3f64.sqrt();
    check(
        layer,
        &[2, 2],
        weights,
        &[1.0, 1.0 + 2.0 * a, 7.0, 7.0],
        &[2, 2],
        &[-a, 5.0 + a / 2.0, 0.0, 5.0],
    );
}

#[test]
fn an_embedding_looks_up_rows() {
    let layer = Layer::Embedding(Embedding { table: WeightId(0) });
    let table = vec![weight(&[2, 2], &[1.0, 2.0, 3.0, 4.0])];
    check(
        layer,
        &[5],
        table,
        &[1.0, 0.0, 1.9, 2.0, -1.0],
        &[5, 2],
        &[3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0],
    );
}

#[test]
fn functions_of_elements_have_their_known_values() {
    let e = std::f64::consts::E;
    for (function, x, y) in [
        (MapFunction::Abs, -2.5, 2.5),
        (MapFunction::Negate, -2.5, 2.5),
        (MapFunction::Square, -3.0, 9.0),
        (MapFunction::Sqrt, 6.25, 2.5),
        (MapFunction::Sqrt, -1.0, 0.0),
        (MapFunction::NotEqual(2.5), 2.5, 0.0),
        (MapFunction::NotEqual(2.5), -2.5, 1.0),
        (MapFunction::Log, e, 1.0),
        (MapFunction::Exp, 1.0, e),
        (MapFunction::Add(0.5), 1.0, 1.5),
        (MapFunction::SubtractFrom(0.5), 1.0, -0.5),
        (MapFunction::Multiply(0.5), 3.0, 1.5),
        (MapFunction::Divide(0.5), 3.0, 6.0),
        (MapFunction::DivideInto(0.5), 2.0, 0.25),
        (MapFunction::Maximum(0.5), -1.0, 0.5),
        (MapFunction::Minimum(0.5), -1.0, -1.0),
    ] {
        check(Layer::Map(Map { function }), &[1], vec![], &[x], &[1], &[y]);
    }
}

#[test]
fn slices_count_as_python_does() {
    // The rows of a matrix [5, 1]: list(range(5))[start:stop:step].
    for (start, stop, step, wanted) in [
        (1, Some(3), 1, vec![1.0, 2.0]),
        (-2, None, 1, vec![3.0, 4.0]),
        (0, Some(-1), 2, vec![0.0, 2.0]),
        (-9, Some(9), 3, vec![0.0, 3.0]),
    ] {
        let layer = Layer::Slice(Slice {
            axis: 0,
            start,
            stop,
            step,
        });
        let x = [0.0, 1.0, 2.0, 3.0, 4.0];
        check(layer, &[5, 1], vec![], &x, &[wanted.len(), 1], &wanted);
    }
}

#[test]
fn means_and_axes_of_length_1() {
    let x = [1.0, 2.0, 3.0, 6.0];
    let mean = |axis| Layer::MeanAxis(MeanAxis { axis });
    check(mean(0), &[2, 2], vec![], &x, &[2], &[2.0, 4.0]);
    check(mean(1), &[2, 2], vec![], &x, &[2], &[1.5, 4.5]);
    let insert = Layer::InsertAxis(InsertAxis { axis: 1 });
    check(insert, &[2, 2], vec![], &x, &[2, 1, 2], &x);
    let remove = Layer::RemoveAxis(RemoveAxis { axis: 0 });
    check(remove, &[1, 4], vec![], &x, &[4], &x);
}

#[test]
fn products_of_matrices_in_every_layout() {
    // [[1, 2], [3, 4], [5, 6]] times [[1, 0, 2], [0, 1, 3]].
    let (a, a_t) = (
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [1.0, 3.0, 5.0, 2.0, 4.0, 6.0],
    );
    let (b, b_t) = (
        [1.0, 0.0, 2.0, 0.0, 1.0, 3.0],
        [1.0, 0.0, 0.0, 1.0, 2.0, 3.0],
    );
    let wanted = [1.0, 2.0, 8.0, 3.0, 4.0, 18.0, 5.0, 6.0, 28.0];
    for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
        let layer = Layer::MatMul(MatMul {
            transpose_a,
            transpose_b,
        });
        let first: &[usize] = if transpose_a { &[2, 3] } else { &[3, 2] };
        let second: &[usize] = if transpose_b { &[3, 2] } else { &[2, 3] };
        let graph = graph(layer, &[first, second], vec![]);
        let x = if transpose_a { a_t } else { a }.to_vec();
        let y = if transpose_b { b_t } else { b }.to_vec();
        let product = run_all(&graph, &[x, y], &DropoutMode::Off).unwrap();
        assert_eq!(
            (&*product.shape, &*product.data),
            (&[3, 3][..], &wanted[..])
        );
    }
}

#[test]
fn a_simple_recurrent_layer_feeds_its_output_back() {
    let layer = |return_sequences, go_backwards| {
        Layer::SimpleRnn(SimpleRnn {
            kernel: WeightId(0),
            recurrent_kernel: WeightId(1),
            bias: Some(WeightId(2)),
            activation: Activation::Linear,
            return_sequences,
            go_backwards,
            stateful: false,
        })
    };
    let weights = || {
        vec![
            weight(&[1, 1], &[2.0]),
            weight(&[1, 1], &[10.0]),
            weight(&[1], &[1.0]),
        ]
    };
    let x = [1.0, 2.0];
    check(
        layer(true, false),
        &[2, 1],
        weights(),
        &x,
        &[2, 1],
        &[3.0, 35.0],
    );
    check(layer(false, true), &[2, 1], weights(), &x, &[1], &[53.0]);
}

#[test]
fn short_time_fourier_transform_of_padded_frames() {
    let layer = |pad_end| {
        Layer::Stft(Stft {
            window: WeightId(0),
            hop: 2,
            fft_length: 4,
            pad_begin: 1,
            pad_end,
        })
    };
    let window = || vec![weight(&[3], &[1.0, 2.0, 1.0])];
    // 0 1 2 3, so the windowed frames are (0, 2, 2, 0) and with the end padded (2, 6, 0, 0). The factors
    // of bin 1 are 1, -j, -1, j and those of bin 2 1, -1, 1, -1.
    let first = [4.0, 0.0, -2.0, -2.0, 0.0, 0.0];
    let second = [8.0, 0.0, 2.0, -6.0, -4.0, 0.0];
    let x = [1.0, 2.0, 3.0];
    check(layer(false), &[3, 1], window(), &x, &[1, 3, 1, 2], &first);
    let both = [first, second].concat();
    check(layer(true), &[3, 1], window(), &x, &[2, 3, 1, 2], &both);
}

#[test]
fn angles_of_complex_numbers() {
    let (turn, eighth) = (std::f64::consts::PI, std::f64::consts::FRAC_PI_4);
    let x = [2.0, 2.0, -3.0, 0.0, 1.0, -1.0, 0.0, -5.0];
    let angles = [eighth, turn, -eighth, -2.0 * eighth];
    check(Layer::Angle, &[2, 2, 2], vec![], &x, &[2, 2], &angles);
}
