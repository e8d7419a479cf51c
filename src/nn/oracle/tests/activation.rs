use super::*;

#[track_caller]
fn activate(activation: Activation, tolerance: f64, pairs: &[(f64, f64)]) {
    for &(x, wanted) in pairs {
        check_within(
            tolerance,
            Layer::Activation(activation),
            &[1],
            vec![],
            &[x],
            &[1],
            &[wanted],
        );
    }
}

#[test]
fn activations_bend_where_keras_bends_them() {
    let relu = |max, slope, threshold| Activation::ReluWith {
        max,
        slope,
        threshold,
    };
    activate(Activation::Relu, EXACT, &[(-1.0, 0.0), (2.0, 2.0)]);
    activate(
        relu(Some(6.0), 0.0, 0.0),
        EXACT,
        &[(-1.0, 0.0), (5.0, 5.0), (7.0, 6.0)],
    );
    activate(
        relu(Some(3.0), 0.5, 1.0),
        EXACT,
        &[
            (-1.0, -1.0),
            (0.5, -0.25),
            (1.0, 1.0),
            (2.0, 2.0),
            (9.0, 3.0),
        ],
    );
    activate(relu(None, 0.0, 1.0), EXACT, &[(0.9, 0.0), (1.1, 1.1)]);
    let theta = 1.0;
    activate(
        Activation::ThresholdedRelu { theta },
        EXACT,
        &[(0.9, 0.0), (1.0, 0.0), (1.1, 1.1)],
    );
    activate(
        Activation::LeakyRelu { alpha: 0.1 },
        OPTION,
        &[(-2.0, -0.2), (2.0, 2.0)],
    );
    activate(
        Activation::HardSigmoid6,
        EXACT,
        &[
            (-3.1, 0.0),
            (-3.0, 0.0),
            (-1.5, 0.25),
            (0.0, 0.5),
            (3.1, 1.0),
        ],
    );
    activate(
        Activation::HardSigmoid,
        EXACT,
        &[
            (-2.6, 0.0),
            (-2.5, 0.0),
            (-1.0, 0.3),
            (1.0, 0.7),
            (2.6, 1.0),
        ],
    );
}

#[test]
fn smooth_activations_have_their_known_values() {
    let third = -(3f64.ln());
    activate(Activation::Linear, EXACT, &[(third, third)]);
    activate(
        Activation::Elu { alpha: 0.5 },
        EXACT,
        &[(third, -1.0 / 3.0), (2.0, 2.0)],
    );
    activate(
        Activation::Selu,
        EXACT,
        &[
            (1.0, 1.050_700_987_355_480_5),
            (third, -1.758_099_340_847_376_6 * 2.0 / 3.0),
        ],
    );
    activate(
        Activation::Sigmoid,
        EXACT,
        &[(third, 0.25), (-third, 0.75), (-800.0, 0.0)],
    );
    activate(Activation::Tanh, EXACT, &[(third, -0.8)]);
    activate(Activation::Softmax, EXACT, &[(third, 1.0)]);
    activate(
        Activation::Softplus,
        EXACT,
        &[
            (third, (4.0f64 / 3.0).ln()),
            (1000.0, 1000.0),
            (-1000.0, 0.0),
        ],
    );
    activate(Activation::Softsign, EXACT, &[(-3.0, -0.75)]);
    activate(Activation::Exponential, EXACT, &[(third, 1.0 / 3.0)]);
    activate(Activation::Swish, EXACT, &[(third, third / 4.0)]);
    // Phi(1) = 0.8413447460685429, Phi(-1) = 0.15865525393145705.
    activate(
        Activation::Gelu,
        EXACT,
        &[
            (1.0, 0.841_344_746_068_542_9),
            (-1.0, -0.158_655_253_931_457_05),
        ],
    );
    // tanh(ln(4/3)) = (16/9 - 1) / (16/9 + 1).
    activate(Activation::Mish, EXACT, &[(third, third * 7.0 / 25.0)]);
}

#[test]
fn parametric_slopes_are_broadcast() {
    check(
        Layer::PRelu(PRelu { alpha: WeightId(0) }),
        &[2, 2],
        vec![weight(&[1, 2], &[0.5, 2.0])],
        &[-1.0, -1.0, 3.0, -2.0],
        &[2, 2],
        &[-0.5, -2.0, 3.0, -4.0],
    );
}

/// Values of Python's `math.erfc`.
#[test]
fn the_error_function_is_accurate_everywhere() {
    let known = [
        (-2.5, 1.999_593_047_982_555),
        (-0.3, 1.328_626_759_459_127_4),
        (0.0, 1.0),
        (0.1, 0.887_537_083_981_715_2),
        (1.0, 0.157_299_207_050_285_13),
        (1.9, 0.007_209_570_764_742_532_5),
        (2.1, 0.002_979_466_656_332_984),
        (3.0, 2.209_049_699_858_543_8e-5),
        (5.0, 1.537_459_794_428_035_1e-12),
        (10.0, 2.088_487_583_762_545e-45),
    ];
    for (x, wanted) in known {
        let got = crate::nn::layers::erfc(x);
        assert!(
            (got - wanted).abs() <= 1e-13 * wanted,
            "erfc({x}) = {got}, not {wanted}"
        );
    }
}
