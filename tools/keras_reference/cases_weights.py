"""Files that `save_weights` wrote, with the architecture in another file, and `.keras` archives."""

import re

import h5py
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


def as_keras_2_13(separator):
    """Moves the weights to where Keras 2.12 to 2.14 stored them; on Windows with another separator.

    The group of the layers has another name, and each layer with weights was counted twice.
    """

    def edit(file):
        found = {}
        file.visititems(lambda path, item: found.update({path: item[()]} if isinstance(item, h5py.Dataset) else {}))
        del file["layers"]
        for path, value in found.items():
            *owner, last, number = path.split("/")
            for i in range(len(owner) - 1):
                if owner[i] == "layers":
                    owner[i] = "_layer_checkpoint_dependencies"
                    owner[i + 1] = re.sub(r"_(\d+)$", lambda n: f"_{2 * int(n[1])}", owner[i + 1])
            file[f"{separator.join(owner)}/{last}/{number}"] = value

    return edit


def as_theano(file):
    """Stores the kernels of convolutions as the backend Theano does, which Keras 2.2.4 mirrors when it loads them."""
    for group in (file, file["model_weights"]):
        group.attrs["backend"] = b"theano"

    def mirror(path, item):
        if isinstance(item, h5py.Dataset) and "kernel" in path and item.ndim > 2:
            item[...] = item[()][(slice(None, None, -1),) * (item.ndim - 2)]

    file["model_weights"].visititems(mirror)


def convolutions(x):
    x = L.Conv2D(3, (3, 2), activation="tanh")(x)
    return L.Conv1D(2, 3)(L.Reshape((-1, 3))(x)), L.Conv2DTranspose(2, (2, 3), strides=2)(x)


for system, separator in (("linux", "/"), ("windows", "\\")):
    case(
        f"weights_by_path_2_13_{system}",
        f"Weights stored by path as Keras 2.13 did on {system.capitalize()}",
        build=chain,
        layout="weights.h5",
        architecture="json",
        edit=as_keras_2_13(separator),
        reloads=False,
    )
case(
    "weights_by_path_2_13_nested",
    "Weights of nested and wrapped layers, stored by path as Keras 2.13 did",
    (5, 3),
    graph,
    layout="weights.h5",
    architecture="json",
    edit=as_keras_2_13("/"),
    reloads=False,
)
case("theano_convolutions", "A file of the backend Theano", (5, 6, 2), convolutions, legacy=True, edit=as_theano, reloads=False)
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
