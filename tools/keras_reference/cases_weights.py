"""Files that `save_weights` wrote, with the architecture in another file, and `.keras` archives."""

import keras
from keras import layers as L

from .core import case


def chain(units=4, more=()):
    """A network whose layers have automatic names."""
    return keras.Sequential(
        [
            L.InputLayer((6, 5, 1), name="input_1"),
            L.Conv2D(3, 3, activation="relu"),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dense(units, activation="relu"),
            L.Dense(2),
            *more,
        ]
    )


def wider():
    """The same network with another number of units in one layer."""
    return chain(5)


def longer():
    """The same network with one more layer."""
    return chain(more=[L.Dense(2)])


def graph(x):
    inner = keras.Sequential([L.Dense(4), L.BatchNormalization()], name="inner")
    inner.build((None, None, 4))
    x = L.Bidirectional(L.LSTM(2, return_sequences=True))(x)
    x = inner(L.TimeDistributed(L.Dense(4))(x))
    frozen = L.BatchNormalization(trainable=False)
    return L.GRU(3)(frozen(inner(x)))


case("weights_named", "Weights of the same layer names", build=chain, layout="weights", architecture="json")
case(
    "weights_in_order",
    "Weights of a network with other automatic names, in order",
    build=chain,
    layout="weights",
    architecture="yaml",
    rename=True,
)
case(
    "weights_of_a_graph",
    "Weights of nested, shared, wrapped and frozen layers",
    (5, 3),
    graph,
    layout="weights",
    architecture="yaml",
)
case(
    "weights_by_path",
    "Weights stored by path (.weights.h5)",
    (5, 3),
    graph,
    layout="weights.h5",
    architecture="json",
)
case(
    "weights_by_path_in_order",
    "Weights stored by path, of a network with other automatic names",
    build=chain,
    layout="weights.h5",
    architecture="json",
    rename=True,
)
case("archive_of_keras_2", "A .keras archive of Keras 2.15", (5, 3), graph, layout="keras")
case("archive_of_keras_2_chain", "A .keras archive of Keras 2.15, sequential", build=chain, layout="keras")
case(
    "refused_weights_alone",
    "Weights without an architecture",
    build=chain,
    layout="weights",
    refused="kernel [3, 3, 1, 3], bias [3]",
)
case(
    "refused_weights_by_path_alone",
    "Weights by path without an architecture",
    build=chain,
    layout="weights.h5",
    refused="layers/conv2d: 0 [3, 3, 1, 3], 1 [3]",
)
case(
    "refused_weights_of_other_shapes",
    "An architecture with another number of units",
    build=chain,
    layout="weights",
    architecture="json",
    architecture_of=wider,
    refused="its kernel should have shape [?, 5]",
)
case(
    "refused_weights_of_fewer_layers",
    "An architecture with more layers than the file",
    build=chain,
    layout="weights",
    architecture="json",
    architecture_of=longer,
    refused="only in the architecture: dense_2",
)
