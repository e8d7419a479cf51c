"""The five networks of the original system, layer for layer, at chosen sizes.

Three share one body (emotion, age and gender from windows), one reads four kinds of features in
two passes, one merges. Names, order and options are those of the original files.
"""

import dataclasses
import typing

import keras
import numpy as np
from keras import backend as K
from keras import layers as L

from .core import Channel_multiply, LegacyUpSampling2D, Spatial_multiply, portable, rng

EMOTIONS = 7
BRANCHES = ("dct", "dst", "hist", "moments")
# Columns of each branch's input: 40 bands by 40 coefficients, bins or 8 moments.
COLUMNS = {"dct": 40, "dst": 40, "hist": 40, "moments": 8}


@dataclasses.dataclass
class Sizes:
    """Numbers of filters and units; the defaults are the original's."""

    window_filters: typing.Sequence[int] = (8, 16, 32)
    lstm: int = 64
    trunk: int = 16
    body_filters: typing.Sequence[int] = (32, 64)
    body_units: int = 16
    merge: int = 128


def window_model(outputs, activation, sizes):
    x = i = L.Input((200, 40, 1), name="input_1")
    for k, filters in enumerate(sizes.window_filters, 1):
        x = L.Conv2D(filters, 5, padding="same", activation="relu", name=f"conv2d_{k}")(x)
        x = L.MaxPooling2D(2, name=f"max_pooling2d_{k}")(x)
        x = L.Dropout(0.5, name=f"dropout_{k}")(x)
    x = L.TimeDistributed(L.Flatten(name="flatten_1"), name="time_distributed_1")(x)
    sequence = L.LSTM(
        sizes.lstm, recurrent_activation="hard_sigmoid", return_sequences=True, dropout=0.5, name="lstm_1"
    )(x)  # fmt: skip
    x = L.Permute((2, 1), name="permute_1")(sequence)
    x = L.Reshape((sizes.lstm, 25), name="reshape_1")(x)
    x = L.Dense(25, activation="softmax", name="dense_1")(x)
    x = L.Permute((2, 1), name="permute_2")(x)
    x = L.Multiply(name="multiply_1")([sequence, x])
    x = L.Lambda(portable(lambda x: K.sum(x, axis=1)), name="lambda_1")(x)
    x = L.Dense(outputs, activation=activation, name="output_layer")(x)
    return keras.Model(i, x, name="model_1")


def body(branch, shape, sizes):
    """Builds model_5 to model_8: maps to 16 values, with two forced Dropouts."""
    x = i = L.Input(shape, name=f"input_{5 + branch}")
    for k, filters in enumerate(sizes.body_filters, 5 + 2 * branch):
        x = L.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv2d_{k}")(x)
        x = L.BatchNormalization(name=f"batch_normalization_{k}")(x)
        x = L.MaxPooling2D(2, name=f"max_pooling2d_{k}")(x)
    x = L.Flatten(name=f"flatten_{5 + branch}")(x)
    for k in (0, 1):
        x = L.Dense(sizes.body_units, activation="relu", name=f"dense_{5 + 2 * branch + k}")(x)
        x = L.Dropout(0.5, name=f"dropout_{1 + 2 * branch + k}")(x, training=True)
    return keras.Model(i, x, name=f"model_{5 + branch}")


def head(sizes):
    """Builds model_9: logits of every branch and of all together."""
    inputs = [L.Input((sizes.body_units,), name=f"input_{9 + b}") for b in range(4)]
    logits = [L.Dense(EMOTIONS, name=f"dense_{13 + b}")(x) for b, x in enumerate(inputs)]
    total = L.Dense(EMOTIONS, name="dense_17")(L.Concatenate(name="concatenate_1")(logits))
    return keras.Model(inputs, [*logits, total], name="model_9")


def features_model(sizes):
    inputs, spatial = [], []
    for b, name in enumerate(BRANCHES):
        i = L.Input((40, COLUMNS[name], 1), name=f"input_{b + 1}")
        pool = 4 if name == "moments" else 5
        cells, shape = (5, (5, 1, 1)) if name == "moments" else (16, (4, 4, 1))
        x = L.Conv2D(sizes.trunk, 3, padding="same", activation="relu", name=f"conv2d_{b + 1}")(i)
        x = L.BatchNormalization(name=f"batch_normalization_{b + 1}")(x)
        x = L.MaxPooling2D(2, name=f"max_pooling2d_{b + 1}")(x)
        a = L.AveragePooling2D(pool, name=f"average_pooling2d_{b + 1}")(i)
        a = L.Flatten(name=f"flatten_{b + 1}")(a)
        a = L.Dense(cells, activation="relu", name=f"dense_{b + 1}")(a)
        a = L.Reshape(shape, input_shape=(cells,), name=f"reshape_{b + 1}")(a)
        a = LegacyUpSampling2D(pool, interpolation="bilinear", name=f"up_sampling2d_{b + 1}")(a)
        scale = L.Lambda(portable(lambda x: Spatial_multiply(x)), name=f"lambda_{1 + 5 * b}")
        inputs.append(i)
        spatial.append(scale([x, a]))
    bodies = [body(b, tuple(x.shape[1:]), sizes) for b, x in enumerate(spatial)]
    top = head(sizes)
    total = top([m(x) for m, x in zip(bodies, spatial)])[4]
    channel = []
    for b, (name, x) in enumerate(zip(BRANCHES, spatial)):
        a = L.Dense(sizes.trunk, activation="relu", name=f"TD_attention_{name}_1")(total)
        a = L.Dense(sizes.trunk, activation="relu", name=f"TD_attention_{name}_2")(a)
        scale = L.Lambda(portable(lambda x: Channel_multiply(x)), name=f"lambda_{21 + 7 * b}")
        channel.append(scale([x, a]))
    logits = top([m(x) for m, x in zip(bodies, channel)])
    outputs = [L.Activation("softmax", name=f"output_{name}")(x) for name, x in zip([*BRANCHES, "total"], logits)]
    return keras.Model(inputs, outputs, name="model_10")


def merge_model(sizes):
    inputs = [L.Input((EMOTIONS,), name=f"input_{k}") for k in range(1, 7)]
    x = L.Concatenate(name="concatenate_1")(inputs)
    for k in (1, 2):
        x = L.Dense(sizes.merge, activation="relu", name=f"dense_{k}")(x)
        x = L.Dropout(0.5, name=f"dropout_{k}")(x)
    x = L.Dense(EMOTIONS, activation="softmax", name="output_layer")(x)
    return keras.Model(inputs, x, name="model_1")


def window_inputs(item, model):
    """Returns rows like a standardised power spectrogram: mostly just below 0, rarely far above."""
    draw = rng(item.name, "input")
    x = draw.standard_normal((item.batch, 200, 40, 1))
    loud = draw.uniform(0.2, 2.0, (item.batch, 200, 1, 1)) * draw.uniform(0.2, 2.0, (item.batch, 1, 40, 1))
    x = (x * loud) ** 2
    x = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    # Multiples of 1/8 are precise enough for a test and compress well.
    return [(x * 8).round().astype("float32") / 8]


def feature_inputs(item, model):
    """Returns rows in a realistic range: DCT and DST decay, histograms are densities."""
    draw = rng(item.name, "input")
    order = np.arange(40).reshape(1, 1, 40, 1)
    fall = 1 / (1 + draw.uniform(0.1, 1, (item.batch, 1, 1, 1)) * order)
    # Scales differ between rows, or a network of random weights would give equal outputs.
    size = np.geomspace(0.3, 4.0, item.batch).reshape(-1, 1, 1, 1)
    dct = draw.standard_normal((item.batch, 40, 40, 1)) * 4 * fall * size
    dst = draw.standard_normal((item.batch, 40, 40, 1)) * 4 * fall * size[::-1]
    seldom = draw.random((item.batch, 40, 40, 1)) < 0.1 * (1 + size)
    hist = draw.exponential(0.5, (item.batch, 40, 40, 1)) * seldom
    moments = draw.standard_normal((item.batch, 40, 8, 1)) * size + 1
    return [(x * 32).round().astype("float32") / 32 for x in (dct, dst, hist, moments)]


def merge_inputs(item, model):
    """Returns rows that sum to 1, like the outputs of the preceding models."""
    x = rng(item.name, "input").exponential(1.0, (6, item.batch, EMOTIONS))
    return list((x / x.sum(-1, keepdims=True)).astype("float32"))


def rename_merge_weights(file):
    """Renames two layers' weights like the original's merging file, where names do not match."""
    group = file["model_weights"]
    for layer in ("dense_1", "dense_2"):
        group[layer].move(layer, f"{layer}_1")
        names = [f"{layer}_1/{weight}".encode() for weight in ("kernel:0", "bias:0")]
        group[layer].attrs["weight_names"] = np.array(names)


# Scales for a random network's logits, which lie too close or, after two passes, too far apart.
WINDOW_SCALE = {"output_layer": 4.0}
FEATURE_SCALE = {
    "conv2d_1": 2.0,
    "conv2d_3": 4.0,
    "dense_5": 4.0,
    "dense_7": 2.0,
    "dense_9": 8.0,
    "dense_11": 0.5,
    **{f"dense_{k}": 0.3 for k in range(13, 18)},
}
