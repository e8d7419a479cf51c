"""Models of the layers beyond those of the original system."""

import numpy as np
import tensorflow as tf
from keras import layers as L

from .core import case, rng


def one(name, covers, shape, layer, **options):
    case(name, covers, shape, lambda x: layer()(x), **options)


def convolutions():
    image, sound = (7, 6, 3), (9, 4)
    for tag, layer in (
        ("valid", lambda: L.DepthwiseConv2D(3, activation="relu")),
        ("same_strides", lambda: L.DepthwiseConv2D((3, 2), strides=2, padding="same")),
        ("multiplier", lambda: L.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False)),
        ("dilation", lambda: L.DepthwiseConv2D(2, dilation_rate=2, padding="same")),
    ):
        one(f"depthwise_conv2d_{tag}", f"DepthwiseConv2D, {tag}", image, layer)
    one("depthwise_conv2d_wide", "DepthwiseConv2D over 35 channels", (4, 5, 35), lambda: L.DepthwiseConv2D(3))
    one("depthwise_conv1d", "DepthwiseConv1D", sound, lambda: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"))
    one("separable_conv2d", "SeparableConv2D", image, lambda: L.SeparableConv2D(4, 3, activation="elu"))
    one(
        "separable_conv2d_options",
        "SeparableConv2D with strides, multiplier and same padding",
        image,
        lambda: L.SeparableConv2D(5, (3, 2), strides=2, depth_multiplier=2, padding="same", use_bias=False),
    )
    one("separable_conv1d", "SeparableConv1D", sound, lambda: L.SeparableConv1D(5, 3, strides=2, padding="same"))
    one("separable_conv1d_causal", "SeparableConv1D, causal", sound, lambda: L.SeparableConv1D(3, 3, padding="causal"))
    one("conv2d_groups", "Conv2D in two groups", (5, 5, 4), lambda: L.Conv2D(6, 3, groups=2))
    one("conv1d_groups", "Conv1D in three groups", (8, 6), lambda: L.Conv1D(3, 3, groups=3))
    for padding in ("valid", "same"):
        for strides in (1, 2, 3):
            one(
                f"conv2d_transpose_{padding}_{strides}",
                f"Conv2DTranspose, {padding}, strides {strides}",
                (4, 3, 2),
                lambda p=padding, s=strides: L.Conv2DTranspose(3, (3, 2), strides=s, padding=p, activation="tanh"),
            )
        one(
            f"conv1d_transpose_{padding}",
            f"Conv1DTranspose, {padding}",
            sound,
            lambda p=padding: L.Conv1DTranspose(3, 4, strides=2, padding=p),
        )


def padded_transposes():
    for padding in ("valid", "same"):
        one(
            f"conv2d_transpose_{padding}_output_padding",
            f"Conv2DTranspose, {padding}, with output padding",
            (4, 3, 2),
            lambda p=padding: L.Conv2DTranspose(3, (3, 4), strides=(3, 2), padding=p, output_padding=(2, 1)),
        )
        one(
            f"conv2d_transpose_{padding}_dilation",
            f"Conv2DTranspose, {padding}, dilated",
            (5, 4, 2),
            lambda p=padding: L.Conv2DTranspose(3, (3, 2), dilation_rate=2, padding=p),
        )
    one(
        "conv1d_transpose_output_padding",
        "Conv1DTranspose with output padding",
        (5, 4),
        lambda: L.Conv1DTranspose(3, 4, strides=3, padding="same", output_padding=1),
    )


def shapes():
    one("zero_padding1d", "ZeroPadding1D", (4, 3), lambda: L.ZeroPadding1D((1, 2)))
    one("cropping1d", "Cropping1D", (6, 3), lambda: L.Cropping1D((1, 2)))
    one("cropping2d", "Cropping2D", (6, 5, 2), lambda: L.Cropping2D(((1, 2), (0, 3))))
    one("up_sampling1d", "UpSampling1D", (4, 3), lambda: L.UpSampling1D(3))
    one("flatten_channels_first", "Flatten, channels_first", (2, 3, 4), lambda: L.Flatten("channels_first"))
    one(
        "global_average_pooling2d_channels_first",
        "GlobalAveragePooling2D, channels_first",
        (3, 4, 5),
        lambda: L.GlobalAveragePooling2D("channels_first"),
    )
    one("zero_padding2d_channels_first", "ZeroPadding2D, channels_first", (2, 3, 4), lambda: L.ZeroPadding2D(1, "channels_first"))
    one("up_sampling2d_channels_first", "UpSampling2D, channels_first", (2, 3, 4), lambda: L.UpSampling2D(2, "channels_first"))


def volumes():
    volume = (4, 5, 3, 2)
    for tag, options in (
        ("valid", {"activation": "relu"}),
        ("same_strides", {"strides": (2, 1, 2), "padding": "same"}),
        ("same_even", {"padding": "same", "use_bias": False}),
        ("dilation", {"dilation_rate": (1, 2, 1), "padding": "same"}),
        ("groups", {"groups": 2, "activation": "softmax"}),
    ):
        kernel = 2 if tag == "same_even" else (3, 2, 3)
        one(f"conv3d_{tag}", f"Conv3D, {tag}", volume, lambda k=kernel, o=options: L.Conv3D(4, k, **o))
    one("conv3d_one_channel", "Conv3D of one channel, over the input", (2, 3, 4, 1), lambda: L.Conv3D(3, 5, padding="same"))
    for padding in ("valid", "same"):
        one(f"max_pooling3d_{padding}", f"MaxPooling3D, {padding}", volume, lambda p=padding: L.MaxPooling3D(2, padding=p))
        one(
            f"average_pooling3d_{padding}",
            f"AveragePooling3D, {padding}, with strides",
            volume,
            lambda p=padding: L.AveragePooling3D((2, 3, 2), strides=(1, 2, 3), padding=p),
        )
    one("global_max_pooling3d", "GlobalMaxPooling3D", volume, L.GlobalMaxPooling3D)
    one("global_average_pooling3d", "GlobalAveragePooling3D that keeps the dimensions", volume, lambda: L.GlobalAveragePooling3D(keepdims=True))
    one("global_average_pooling3d_channels_first", "GlobalAveragePooling3D, channels_first", volume, lambda: L.GlobalAveragePooling3D("channels_first"))
    one("up_sampling3d", "UpSampling3D", (2, 3, 2, 2), lambda: L.UpSampling3D((3, 1, 2)))
    one("zero_padding3d", "ZeroPadding3D", (2, 3, 2, 2), lambda: L.ZeroPadding3D(((1, 2), (0, 1), (2, 0))))
    one("zero_padding3d_channels_first", "ZeroPadding3D, channels_first", (2, 3, 2, 2), lambda: L.ZeroPadding3D(1, "channels_first"))
    one("cropping3d", "Cropping3D", volume, lambda: L.Cropping3D(((1, 0), (2, 1), (0, 1))))
    one("spatial_dropout3d", "SpatialDropout3D at inference", (2, 3, 2, 2), lambda: L.SpatialDropout3D(0.3))
    one("conv3d_time_distributed", "Conv3D in TimeDistributed", (3, *volume), lambda: L.TimeDistributed(L.Conv3D(2, 2)))


def convolutional_lstms():
    frames = (4, 5, 4, 2)
    for tag, options in (
        ("last", {}),
        ("sequences", {"return_sequences": True, "padding": "same", "recurrent_activation": "sigmoid"}),
        ("backwards", {"return_sequences": True, "go_backwards": True, "strides": 2}),
        ("dilation", {"dilation_rate": 2, "use_bias": False, "activation": "relu"}),
    ):
        kernel = 2 if tag == "dilation" else (3, 2)
        one(f"conv_lstm2d_{tag}", f"ConvLSTM2D, {tag}", frames, lambda k=kernel, o=options: L.ConvLSTM2D(3, k, **o))
    one("conv_lstm1d", "ConvLSTM1D, sequences", (4, 6, 2), lambda: L.ConvLSTM1D(3, 3, padding="same", return_sequences=True))
    one("conv_lstm1d_last", "ConvLSTM1D", (4, 6, 2), lambda: L.ConvLSTM1D(2, 2, strides=2))


def resizing():
    for name, size in (("smaller", (4, 3)), ("larger", (11, 5)), ("mixed", (3, 13)), ("same", (7, 6)), ("rounded", (41, 47))):
        for interpolation in ("bilinear", "nearest"):
            one(
                f"resizing_{interpolation}_{name}",
                f"Resizing to {size}, {interpolation}",
                (4, 4, 1) if name == "rounded" else (7, 6, 2),
                lambda s=size, i=interpolation: L.Resizing(*s, interpolation=i),
            )
    one(
        "augmentations",
        "Layers that change images in training alone",
        (4, 3, 2),
        lambda: lambda x: L.Identity()(L.RandomContrast(0.2)(L.RandomZoom(0.1)(L.RandomTranslation(0.1, 0.2)(L.RandomRotation(0.1)(L.RandomFlip()(x)))))),
    )


def normalizations():
    one("layer_normalization", "LayerNormalization", (4, 6), L.LayerNormalization)
    one("layer_normalization_axes", "LayerNormalization over two axes", (4, 6), lambda: L.LayerNormalization((1, 2)))
    one("layer_normalization_plain", "LayerNormalization without weights", (4, 6), lambda: L.LayerNormalization(center=False, scale=False, epsilon=0.1))
    one("batch_normalization_axis1", "BatchNormalization over axis 1", (3, 4, 5), lambda: L.BatchNormalization(axis=1))
    one("group_normalization", "GroupNormalization of an image", (3, 4, 6), lambda: L.GroupNormalization(3))
    one("group_normalization_plain", "GroupNormalization without weights", (5, 4), lambda: L.GroupNormalization(2, center=False, scale=False, epsilon=0.1))
    one("group_normalization_instance", "GroupNormalization with a group per channel", (4, 3, 5), lambda: L.GroupNormalization(-1))
    one("layer_normalization_axis2", "LayerNormalization over axis 2 of rank 4", (3, 5, 2), lambda: L.LayerNormalization(2))
    one("layer_normalization_first_axes", "LayerNormalization over the first axes", (3, 5, 2), lambda: L.LayerNormalization((1, 2)))
    one("group_normalization_axis1", "GroupNormalization over axis 1", (4, 3, 5), lambda: L.GroupNormalization(2, axis=1))
    one("unit_normalization", "UnitNormalization", (4, 6), L.UnitNormalization)
    one("unit_normalization_axis1", "UnitNormalization over axis 1", (4, 6), lambda: L.UnitNormalization(axis=1))
    one("rescaling", "Rescaling", (4, 3), lambda: L.Rescaling(0.25, 1.5))
    one("normalization", "Normalization by stored mean and variance", (4, 3), L.Normalization)


def others():
    one("simple_rnn", "SimpleRNN", (5, 3), lambda: L.SimpleRNN(4))
    one("simple_rnn_sequences", "SimpleRNN backwards, sequences", (5, 3), lambda: L.SimpleRNN(4, activation="relu", return_sequences=True, go_backwards=True))
    one("bidirectional_simple_rnn", "Bidirectional SimpleRNN", (5, 3), lambda: L.Bidirectional(L.SimpleRNN(2)))
    case(
        "embedding",
        "Embedding of whole numbers",
        (6,),
        lambda x: L.Embedding(5, 3)(x),
        inputs=lambda item, model: [rng(item.name, "input").integers(0, 5, (3, 6)).astype(np.float32)],
    )
    pair = [(4, 3), (4, 5)]
    case("dot_matrices", "Dot over the first axes of matrices", pair, lambda x, y: L.Dot(axes=1)([x, y]))
    case("dot_matrices_axes", "Dot over different axes", [(4, 3), (5, 4)], lambda x, y: L.Dot(axes=(1, 2))([x, y]))
    case("dot_vectors", "Dot of vectors", [(4,), (4,)], lambda x, y: L.Dot(axes=-1)([x, y]))
    queries = [(4, 3), (5, 3)]
    case("attention", "Attention", queries, lambda q, v: L.Attention()([q, v]))
    case("attention_key", "Attention with a key", [*queries, (5, 3)], lambda q, v, k: L.Attention()([q, v, k]))
    case("attention_scale", "Attention with a scale", queries, lambda q, v: L.Attention(use_scale=True)([q, v]))
    case("attention_concat", "Attention by concatenation", queries, lambda q, v: L.Attention(score_mode="concat")([q, v]))
    case(
        "attention_concat_scale",
        "Attention by concatenation with a scale and a key",
        [*queries, (5, 3)],
        lambda q, v, k: L.Attention(use_scale=True, score_mode="concat")([q, v, k]),
    )
    case("attention_additive", "AdditiveAttention", queries, lambda q, v: L.AdditiveAttention()([q, v]))
    case(
        "attention_additive_plain",
        "AdditiveAttention without a scale, with masks",
        queries,
        lambda q, v: L.AdditiveAttention(use_scale=False)([L.Masking()(q), L.Masking()(v)]),
    )
    case("multi_head_attention", "MultiHeadAttention", queries, lambda q, v: L.MultiHeadAttention(2, 3)(q, v))
    case(
        "multi_head_attention_self",
        "MultiHeadAttention of one value without biases",
        (4, 3),
        lambda x: L.MultiHeadAttention(2, 3, value_dim=2, use_bias=False)(x, x, x),
    )


def operators():
    pair = [(4, 3), (4, 3)]
    case(
        "operators_arithmetic",
        "Arithmetic in the model's code, stored as TFOpLambda layers",
        pair,
        lambda x, y: [x * 2.0, 0.5 - x, x / 4.0, -x, 1.0 / (y * y + 1.0), x**2, x + y, x * y - x, y / (x * x + 2.0)],
    )
    case(
        "operators_functions",
        "Functions of TensorFlow in the model's code",
        pair,
        lambda x, y: [
            tf.reduce_mean(x, axis=1),
            tf.reduce_sum(x * y, axis=-1, keepdims=True),
            tf.nn.relu(x),
            tf.maximum(x, 0.1),
            tf.minimum(x, y),
            tf.squeeze(tf.expand_dims(x, -1), -1),
            tf.transpose(x, [0, 2, 1]),
            tf.sqrt(tf.exp(abs(x))),
            tf.nn.softmax(x, axis=1),
        ],
    )
    case(
        "operators_lists",
        "Functions of lists and shapes in the model's code",
        pair,
        lambda x, y: [
            tf.concat([x, y], axis=1),
            tf.stack([x, y], axis=-1),
            tf.reshape(x, [-1, 6, 2]),
            tf.matmul(x, y, transpose_b=True),
            tf.reduce_max(x, axis=1),
            tf.cast(tf.not_equal(tf.nn.relu(x), 0.0), tf.float32),
            tf.clip_by_value(x, -0.5, 0.5),
            tf.nn.leaky_relu(x, alpha=0.3),
        ],
    )
    case(
        "operators_slices",
        "Slices in the model's code, stored as SlicingOpLambda layers",
        (6, 4),
        lambda x: [x[:, 1:3], x[:, -1], x[..., 0], x[:, ::2, 1:], x[:, -3:]],
    )
    # One dimension of each row: mean and deviation of features, a weight for each step.
    vector, steps = np.float32([0.5, -1.5, 2.0]), np.float32([[1.0], [2.0], [-0.5], [4.0]])
    case(
        "operators_constants",
        "Arithmetic with constant tensors in the model's code",
        (4, 3),
        lambda x: [
            (x - vector) / [1.0, 2.0, 4.0],
            x * steps + vector,
            tf.constant([[[1.0, 2.0, 3.0]]]) - x,
            x + rng("operators_constants").standard_normal((4, 3)).astype(np.float32),
            tf.math.squared_difference(x, vector),
            tf.math.divide(2.0 * vector, x * x + 1.0),
            L.Dense(2)(tf.multiply(tf.reduce_mean(x, axis=1), vector)),
        ],
    )


for register in (convolutions, padded_transposes, volumes, convolutional_lstms, resizing, shapes, normalizations, others, operators):
    register()
