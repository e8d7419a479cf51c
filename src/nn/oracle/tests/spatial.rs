use super::*;

fn conv(padding: Padding, stride: usize, dilation: usize) -> Layer {
    Layer::Conv(Conv {
        kernel: WeightId(0),
        bias: None,
        strides: [stride, 1],
        dilation: [dilation, 1],
        padding,
        activation: Activation::Linear,
    })
}

fn pool(kind: PoolKind, size: [usize; 2], strides: [usize; 2], padding: Padding) -> Layer {
    Layer::Pool(Pool {
        kind,
        size,
        strides,
        padding,
    })
}

#[test]
fn convolution_places_its_padding_like_keras() {
    let kernel = |data: &[f32]| vec![weight(&[data.len(), 1, 1], data)];
    let x = [1.0, 2.0, 3.0, 4.0];
    // The odd zero of an even kernel comes last.
    check(
        conv(Padding::Same, 1, 1),
        &[4, 1],
        kernel(&[1.0, 10.0]),
        &x,
        &[4, 1],
        &[21.0, 32.0, 43.0, 4.0],
    );
    // ceil(4 / 3) = 2 outputs need 3 + 2 samples: the one missing comes last.
    check(
        conv(Padding::Same, 3, 1),
        &[4, 1],
        kernel(&[1.0, 10.0]),
        &x,
        &[2, 1],
        &[21.0, 4.0],
    );
    // Dilated to an extent of 3: one zero on either side.
    check(
        conv(Padding::Same, 1, 2),
        &[4, 1],
        kernel(&[1.0, 10.0]),
        &x,
        &[4, 1],
        &[20.0, 31.0, 42.0, 3.0],
    );
    check(
        conv(Padding::Causal, 2, 2),
        &[4, 1],
        kernel(&[1.0, 10.0]),
        &x,
        &[2, 1],
        &[10.0, 31.0],
    );
    check(
        conv(Padding::Valid, 2, 1),
        &[4, 1],
        kernel(&[1.0, 10.0, 100.0]),
        &x,
        &[1, 1],
        &[321.0],
    );
}

#[test]
fn convolution_sums_over_both_dimensions_and_all_channels() {
    // 2x2 kernel, two channels in, two out: output channel 1 sums input channel 1, tenfold.
    #[rustfmt::skip]
    let kernel = weight(&[2, 2, 2, 2], &[
        1.0, 0.0, 0.0, 10.0,   2.0, 0.0, 0.0, 20.0,
        3.0, 0.0, 0.0, 30.0,   4.0, 0.0, 0.0, 40.0,
    ]);
    let layer = Layer::Conv(Conv {
        kernel: WeightId(0),
        bias: Some(WeightId(1)),
        strides: [1, 2],
        dilation: [1, 1],
        padding: Padding::Valid,
        activation: Activation::Relu,
    });
    // [2, 4, 2]: channel 0 counts 1..8, channel 1 is minus one.
    let x: Vec<f64> = (1..=8).flat_map(|v| [f64::from(v), -1.0]).collect();
    check(
        layer,
        &[2, 4, 2],
        vec![kernel, weight(&[2], &[0.5, 99.0])],
        &x,
        &[1, 2, 2],
        // 1 + 2*2 + 3*5 + 4*6 + 0.5; 3 + 2*4 + 3*7 + 4*8 + 0.5; relu(99 - 100).
        &[44.5, 0.0, 64.5, 0.0],
    );
}

#[test]
fn convolution_of_volumes_sums_over_three_dimensions() {
    let layer = |padding, strides| {
        Layer::Conv3d(Conv3d {
            kernel: WeightId(0),
            bias: Some(WeightId(1)),
            strides,
            dilation: [1, 1, 1],
            padding,
            activation: Activation::Linear,
        })
    };
    // Depth, height and width of 2 with the weights 1, 2, ..., 8; two volumes of 2x2x2.
    let kernel: Vec<f32> = (1..=8_u8).map(f32::from).collect();
    let weights = || vec![weight(&[2, 2, 2, 1, 1], &kernel), weight(&[1], &[0.5])];
    let x: Vec<f64> = (1..=8).map(f64::from).collect();
    check(
        layer(Padding::Valid, [1, 1, 1]),
        &[2, 2, 2, 1],
        weights(),
        &x,
        &[1, 1, 1, 1],
        // 1 + 4 + 9 + ... + 64.
        &[204.5],
    );
    // The zeros of an even kernel are behind; the second output along the depth reads 5 to 8 with the
    // weights 1 to 4.
    check(
        layer(Padding::Same, [1, 2, 2]),
        &[2, 2, 2, 1],
        weights(),
        &x,
        &[2, 1, 1, 1],
        &[204.5, 70.5],
    );
}

#[test]
fn resizing_interpolates_between_the_centres_of_pixels() {
    let layer = |size, bilinear| Layer::Resize(Resize { size, bilinear });
    // The centres of two rows lie between those of four; those of four columns partly outside of those of two.
    let x = [1.0, 3.0, 7.0, 9.0];
    check(
        layer([2, 1], true),
        &[4, 1, 1],
        vec![],
        &x,
        &[2, 1, 1],
        &[2.0, 8.0],
    );
    check(
        layer([1, 4], true),
        &[1, 2, 1],
        vec![],
        &[1.0, 5.0],
        &[1, 4, 1],
        &[1.0, 2.0, 4.0, 5.0],
    );
    // 0.5 * 4 / 3, 1.5 * 4 / 3, 2.5 * 4 / 3, rounded down.
    check(
        layer([3, 1], false),
        &[4, 1, 1],
        vec![],
        &x,
        &[3, 1, 1],
        &[1.0, 7.0, 9.0],
    );
}

#[test]
fn pooling_leaves_padding_out() {
    use PoolKind::{Average, Max};
    let x = [-1.0, -2.0, -3.0, -4.0, -5.0];
    // Windows of 3 every 2: (pad, -1, -2), (-2, -3, -4), (-4, -5, pad).
    check(
        pool(Average, [3, 1], [2, 1], Padding::Same),
        &[5, 1],
        vec![],
        &x,
        &[3, 1],
        &[-1.5, -3.0, -4.5],
    );
    check(
        pool(Max, [3, 1], [2, 1], Padding::Same),
        &[5, 1],
        vec![],
        &x,
        &[3, 1],
        &[-1.0, -2.0, -4.0],
    );
    // Corner, edge and centre windows hold 4, 6 and 9 samples.
    let square: Vec<f64> = (1..=9).map(f64::from).collect();
    check(
        pool(Average, [3, 3], [1, 1], Padding::Same),
        &[3, 3, 1],
        vec![],
        &square,
        &[3, 3, 1],
        &[3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0],
    );
    check(
        pool(Max, [2, 2], [2, 2], Padding::Valid),
        &[3, 3, 1],
        vec![],
        &square,
        &[1, 1, 1],
        &[5.0],
    );
}

#[test]
fn global_pooling_is_per_channel() {
    let layer = |kind, keep_dims| Layer::GlobalPool(GlobalPool { kind, keep_dims });
    let x = [1.0, -10.0, 2.0, -20.0, 6.0, -60.0];
    check(
        layer(PoolKind::Average, false),
        &[3, 2],
        vec![],
        &x,
        &[2],
        &[3.0, -30.0],
    );
    check(
        layer(PoolKind::Max, true),
        &[3, 1, 2],
        vec![],
        &x,
        &[1, 1, 2],
        &[6.0, -10.0],
    );
}

#[test]
fn upsampling_follows_each_convention() {
    let layer = |interpolation| {
        Layer::Upsample(Upsample {
            factor: [5, 1],
            interpolation,
        })
    };
    let x = [0.0, 10.0, 20.0, 10.0];
    // 4 to 20 rows: row 5k is source row k, fifths lie between, the last row repeats.
    #[rustfmt::skip]
    let legacy = [
        0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0,
        20.0, 18.0, 16.0, 14.0, 12.0, 10.0, 10.0, 10.0, 10.0, 10.0,
    ];
    check(
        layer(Interpolation::BilinearLegacy),
        &[4, 1, 1],
        vec![],
        &x,
        &[20, 1, 1],
        &legacy,
    );
    // Source rows are at the centre of each five.
    #[rustfmt::skip]
    let half_pixel = [
        0.0, 0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0,
        16.0, 18.0, 20.0, 18.0, 16.0, 14.0, 12.0, 10.0, 10.0, 10.0,
    ];
    check(
        layer(Interpolation::BilinearHalfPixel),
        &[4, 1, 1],
        vec![],
        &x,
        &[20, 1, 1],
        &half_pixel,
    );
    let nearest: Vec<f64> = x.iter().flat_map(|&v| [v; 5]).collect();
    check(
        layer(Interpolation::Nearest),
        &[4, 1, 1],
        vec![],
        &x,
        &[20, 1, 1],
        &nearest,
    );
    // Two dimensions: bilinear is the product of both axes.
    check(
        Layer::Upsample(Upsample {
            factor: [2, 2],
            interpolation: Interpolation::BilinearLegacy,
        }),
        &[2, 2, 1],
        vec![],
        &[0.0, 2.0, 4.0, 8.0],
        &[4, 4, 1],
        &[
            0.0, 1.0, 2.0, 2.0, 2.0, 3.5, 5.0, 5.0, 4.0, 6.0, 8.0, 8.0, 4.0, 6.0, 8.0, 8.0,
        ],
    );
}

#[test]
fn half_pixel_upsampling_matches_tensorflow() {
    // `tf.image.resize([0, 1, 4], method="bilinear")` of TensorFlow 2.15 to 6 rows.
    check(
        Layer::Upsample(Upsample {
            factor: [2, 1],
            interpolation: Interpolation::BilinearHalfPixel,
        }),
        &[3, 1, 1],
        vec![],
        &[0.0, 1.0, 4.0],
        &[6, 1, 1],
        &[0.0, 0.25, 0.75, 1.75, 3.25, 4.0],
    );
}

#[test]
fn padding_surrounds_the_image() {
    check(
        Layer::ZeroPad(ZeroPad {
            top: 1,
            bottom: 0,
            left: 0,
            right: 2,
        }),
        &[1, 2, 1],
        vec![],
        &[1.0, 2.0],
        &[2, 4, 1],
        &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0],
    );
}
