"""Operations in the model's code as the Keras in TensorFlow 2.1 to 2.3 stored them: TensorFlowOpLayer.

Keras 2.15 can load such layers but no longer makes them, so they are made here from the graph of a function,
as `base_layer_utils.create_keras_history` did.
"""

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from keras import layers as L
from keras.src.engine.base_layer import TensorFlowOpLayer

from .core import case


def traced(function, *tensors):
    """Applies a function to Keras' tensors with a layer for each of its operations."""
    with tf.Graph().as_default() as graph:
        inputs = [tf.compat.v1.placeholder(tf.float32, t.shape) for t in tensors]
        outputs = tf.nest.flatten(function(*inputs))
        constants = {op.name: tf.get_static_value(op.outputs[0]) for op in graph.get_operations() if op.type == "Const"}
    found = {tensor.name: value for tensor, value in zip(inputs, tensors)}
    for operation in graph.get_operations():
        if operation.type in ("Placeholder", "Const"):
            continue
        names = [tensor.op.name for tensor in operation.inputs]
        stored = {i: constants[name] for i, name in enumerate(names) if name in constants}
        layer = TensorFlowOpLayer(json_format.MessageToDict(operation.node_def), operation.name, stored)
        given = [found[t.name] for t in operation.inputs if t.op.name not in constants]
        made = layer(given if len(given) > 1 else given[0])
        found |= {tensor.name: value for tensor, value in zip(operation.outputs, tf.nest.flatten(made))}
    return [found[tensor.name] for tensor in outputs]



def in_order(config):
    """Sorts the attributes of the operations, whose order in a protocol buffer is not defined."""
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "TensorFlowOpLayer":
            node = layer["config"]["node_def"]
            node["attr"] = dict(sorted(node["attr"].items()))


def graph_case(tag, covers, shapes, build, **options):
    case(f"graph_operations_{tag}", f"TensorFlowOpLayer: {covers}", shapes, build, patch=in_order, **options)


def operations(tag, covers, shapes, function, **options):
    graph_case(tag, covers, shapes, lambda *x: traced(function, *x), **options)


pair = [(4, 3), (4, 3)]
operations(
    "arithmetic",
    "arithmetic with constants and of two tensors",
    pair,
    lambda x, y: [
        x * 2.0,
        0.5 - x,
        x / 4.0,
        -x,
        x**2,
        x + y,
        x * y - x,
        y / (x * x + 2.0),
        tf.maximum(x, 0.1),
        tf.minimum(x, y),
        tf.math.squared_difference(x, y),
        tf.add_n([x, y, x]),
        x * tf.constant([[3.0]]),
    ],
)
operations(
    "functions",
    "functions of each element",
    (4, 3),
    lambda x: [
        tf.abs(x),
        tf.sqrt(tf.exp(x)),
        tf.math.rsqrt(tf.square(x) + 1.0),
        tf.math.log(tf.nn.softplus(x)),
        tf.nn.relu6(x * 8.0),
        tf.nn.leaky_relu(x),
        tf.nn.leaky_relu(x, 0.4),
        tf.nn.elu(x),
        tf.nn.selu(x),
        tf.tanh(tf.sigmoid(x)),
        tf.nn.softsign(tf.nn.relu(x)),
        tf.nn.softmax(x),
        tf.clip_by_value(x, -0.5, 0.5),
    ],
)
operations(
    "axes",
    "reductions, shapes and products",
    [(4, 3), (2, 3)],
    lambda x, y: [
        tf.reduce_mean(x, axis=1),
        tf.reduce_sum(x, axis=[1, 2], keepdims=True),
        tf.reduce_max(x, axis=1),
        tf.reduce_min(x, axis=-1, keepdims=True),
        tf.squeeze(tf.expand_dims(x, 2), [2]),
        tf.reshape(x, [-1, 6, 2]),
        tf.transpose(x, [0, 2, 1]),
        tf.concat([x, y], axis=1),
        tf.stack([x, tf.identity(x)], axis=2),
        tf.matmul(x, y, transpose_b=True),
        tf.math.l2_normalize(x, axis=-1),
    ],
)
operations(
    "slices",
    "slices and indices",
    (6, 4),
    lambda x: [x[:, 1:3], x[:, -1], x[..., 0], x[:, ::2, 1:], x[:, -3:], x[:, 0:2]],
)
operations(
    "constants",
    "arithmetic with constant tensors",
    (4, 3),
    lambda x: [
        x * np.float32([1.0, 2.0, -3.0]),
        np.float32([[1.0, 2.0, 3.0]]) - x,
        x / np.float32([[[1.0], [2.0], [4.0], [-0.5]]]),
        x + np.arange(12, dtype=np.float32).reshape(4, 3),
        tf.math.squared_difference(x, np.float32([0.5, 1.0, -1.0])),
    ],
)


def between_layers(x):
    y = L.Dense(4, activation="relu")(x)
    (y,) = traced(lambda y: (y - tf.reduce_mean(y, axis=-1, keepdims=True)) * 0.5, y)
    return L.Dense(2)(y)


graph_case("between_layers", "a difference between dense layers", (5,), between_layers)


def refused(tag, covers, shapes, function, says):
    operations(f"refused_{tag}", covers, shapes, function, refused=says)


refused("sine", "an unknown function", (4,), tf.sin, '"Sin" with T')
refused("maximum", "the maximum with a constant tensor", (3,), lambda x: tf.maximum(x, np.float32([1.0, 2.0, 3.0])), '"Maximum" with input 1 = [1.0,2.0,3.0]')
refused("new_axis", "a subscript that inserts an axis", (4,), lambda x: x[:, tf.newaxis], "new_axis_mask")
refused("batch", "a sum over the batch", (4,), lambda x: tf.reduce_sum(x, axis=0), "axis 0 is the batch")
