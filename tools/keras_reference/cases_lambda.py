"""Lambda layers: the three supported functions, and functions that resemble them."""

import base64
import marshal
import os  # noqa: F401  (named by a Lambda that must never run)

import tensorflow as tf
from keras import backend as K
from keras import layers as L
from keras.src.utils.generic_utils import func_dump

from .core import Channel_multiply, Spatial_multiply, case, portable

MAPS = [(3, 4, 2), (3, 4, 1)]
CHANNELS = [(3, 4, 5), (5,)]


def known():
    total = portable(lambda x: K.sum(x, axis=1))
    spatial = portable(lambda x: Spatial_multiply(x))
    channel = portable(lambda x: Channel_multiply(x))
    for tail, options in (("", {}), ("_legacy", {"legacy": True})):
        case(
            f"lambda_sum_axis1{tail}",
            "Lambda: sum over axis 1",
            (4, 3),
            lambda x: L.Lambda(total, name="lambda_1")(x),
            **options,
        )
        case(
            f"lambda_spatial_multiply{tail}",
            "Lambda: maps (h, w, c) times attention (h, w, 1)",
            MAPS,
            lambda *xs: L.Lambda(spatial, name="lambda_1")(list(xs)),
            **options,
        )
        case(
            f"lambda_channel_multiply{tail}",
            "Lambda: maps (h, w, c) times attention (c)",
            CHANNELS,
            lambda *xs: L.Lambda(channel, name="lambda_1")(list(xs)),
            **options,
        )
    case(
        "lambda_sum_axis1_rank4",
        "Lambda: sum over axis 1 of rank 4",
        (3, 4, 2),
        lambda x: L.Lambda(total, name="lambda_1")(x),
    )
    case(
        "lambda_shared",
        "One Lambda at two nodes",
        [(4, 3), (2, 3)],
        lambda x, y: (lambda l: [l(x), l(y)])(L.Lambda(total, name="lambda_1")),
    )

    # Equivalent forms of the sum: an importer that accepts one must compute these outputs.
    variants = {
        "sum_axis2": (lambda x: K.sum(x, axis=2), "sum over axis 2"),
        "sum_axis_minus2": (lambda x: K.sum(x, axis=-2), "sum over axis -2"),
        "sum_positional": (lambda x: K.sum(x, 1), "sum over axis 1 without the keyword"),
        "sum_keepdims": (lambda x: K.sum(x, axis=1, keepdims=True), "sum over axis 1 that keeps the axis"),
        "sum_tf": (lambda x: tf.reduce_sum(x, axis=1), "sum over axis 1 by TensorFlow's own name"),
    }
    for tag, (function, covers) in variants.items():
        case(
            f"lambda_{tag}",
            f"Lambda: {covers}",
            (4, 3),
            lambda x, f=portable(function): L.Lambda(f, name="lambda_1")(x),
            refused="lambda_1",
            layer="lambda_1",
            may_run=True,
            reloads=tag != "sum_tf",
        )


def simple():
    """Expressions of known functions."""
    functions = {
        "arithmetic": lambda x: x * 2 + 1,
        "divided": lambda x: 1 - x / 4.0,
        "abs": lambda x: K.abs(x),
        "squared_sum": lambda x: K.sum(x * x, axis=1),
        "negative_sum": lambda x: -K.sum(x, axis=1),
        "sum_plus_one": lambda x: K.sum(x, axis=1) + 1,
        "mean": lambda x: K.mean(x, axis=1),
        "mean_keepdims": lambda x: x - K.mean(x, axis=-1, keepdims=True),
        "expand_and_squeeze": lambda x: K.squeeze(K.expand_dims(x, axis=2), 2) ** 2,
        "slice": lambda x: x[:, 1:3],
        "slice_step": lambda x: x[:, ::2, :-1],
        "last": lambda x: x[:, -1],
        "last_channel": lambda x: x[..., -1],
        "permuted": lambda x: K.permute_dimensions(x, (0, 2, 1)),
        "softmax": lambda x: K.softmax(x, axis=1),
        "own_softmax": lambda x: K.exp(x) / K.sum(K.exp(x), axis=1, keepdims=True),
    }
    for tag, function in functions.items():
        case(
            f"lambda_{tag}",
            f"Lambda: {tag}",
            (4, 3),
            lambda x, f=portable(function): L.Lambda(f, name="lambda_1")(x),
        )
    distance = portable(lambda x: K.abs(x[0] - x[1]))
    case(
        "lambda_distance",
        "Lambda: distance of two inputs",
        [(4,), (4,)],
        lambda x, y: L.Lambda(distance, name="lambda_1")([x, y]),
    )
    total = portable(lambda x, axis: K.sum(x, axis=axis))
    case(
        "lambda_arguments",
        "Lambda with a stored argument",
        (4, 3),
        lambda x: L.Lambda(total, arguments={"axis": 2}, name="lambda_1")(x),
    )
    scaled = portable(lambda x, by=3: x * by)
    case("lambda_default", "Lambda with a default", (4, 3), lambda x: L.Lambda(scaled, name="lambda_1")(x))

    def squeeze(x, axis):
        """Removes a 1-dimension from the tensor at index "axis"."""
        return tf.squeeze(x, [axis])

    def raw(config):
        """Stores the code as Keras 2.0 did, one character for each byte."""
        (layer,) = [n for n in config["config"]["layers"] if n["class_name"] == "Lambda"]
        layer["config"]["function"] = [marshal.dumps(squeeze.__code__).decode("raw_unicode_escape"), None, None]

    portable(squeeze)
    case(
        "lambda_raw_squeeze",
        "Lambda of Keras 2.0: raw code of the backend's squeeze, with its argument",
        (4, 1, 3),
        lambda x: L.Lambda(squeeze, arguments={"axis": 2}, name="lambda_1")(x),
        patch=raw,
        reloads=False,
    )


def refused():
    def no(name, covers, function, shapes=((4, 4),)):
        """Stores `function` without running it: the model is built around another function."""

        def store(config):
            (layer,) = [n for n in config["config"]["layers"] if n["class_name"] == "Lambda"]
            layer["config"]["function"] = list(func_dump(portable(function)))
            return config

        def build(*xs):
            return L.Lambda(lambda x: x[0] if isinstance(x, list) else x, name="lambda_1")(
                list(xs) if len(xs) > 1 else xs[0]
            )

        case(
            f"refused_lambda_{name}",
            f"Lambda that must be refused: {covers}",
            list(shapes),
            build,
            patch=store,
            refused="lambda_1",
            layer="lambda_1",
        )

    no(
        "os_system",
        "names os.system; opening the file must not run it",
        lambda x: os.system("echo this must never run"),
    )
    # Names and constants of the supported functions, in code with another meaning.
    no("sum_of_first", "K.sum(x[1], axis=1)", lambda x: K.sum(x[1], axis=1))
    no("sum_twice", "K.sum(K.sum(x, axis=1), axis=1)", lambda x: K.sum(K.sum(x, axis=1), axis=1))
    no("sum_over_batch", "K.sum(x, axis=0)", lambda x: K.sum(x, axis=0))
    no("sum_over_all", "K.sum(x, axis=None)", lambda x: K.sum(x, axis=None))
    no(
        "spatial_squared",
        "Spatial_multiply(x) * Spatial_multiply(x)",
        lambda x: Spatial_multiply(x) * Spatial_multiply(x),
        MAPS,
    )
    no("spatial_negative", "-Spatial_multiply(x)", lambda x: -Spatial_multiply(x), MAPS)
    no("spatial_reversed", "Spatial_multiply(x[::-1])", lambda x: Spatial_multiply(x[::-1]), MAPS)
    no(
        "spatial_of_channel",
        "Spatial_multiply(Channel_multiply(x))",
        lambda x: Spatial_multiply(Channel_multiply(x)),
        MAPS,
    )
    no("unknown_function", "calls a function by an unknown name", lambda x: Temporal_multiply(x), MAPS)  # noqa: F821

    def damage(name, covers, change):
        def store(config):
            (layer,) = [n for n in config["config"]["layers"] if n["class_name"] == "Lambda"]
            code = base64.b64decode(layer["config"]["function"][0])
            layer["config"]["function"][0] = change(code)
            return config

        case(
            f"refused_lambda_{name}",
            f"Lambda that must be refused: {covers}",
            (4, 3),
            lambda x: L.Lambda(portable(lambda x: K.sum(x, axis=1)), name="lambda_1")(x),
            patch=store,
            refused="lambda_1",
            layer="lambda_1",
        )

    def text(code):
        return base64.encodebytes(code).decode()

    damage("truncated", "its code ends early", lambda code: text(code[: len(code) // 2]))
    damage("not_base64", "its code is not base64", lambda code: "@@ not base64 @@")
    damage("not_code", "a marshalled number in place of code", lambda code: text(marshal.dumps(7)))
    damage(
        "huge_count",
        "a string said to be 2 GB long",
        lambda code: text(b"\xe3" + bytes(28) + b"s\xff\xff\xff\x7f" + code[33:]),
    )

    def named(config):
        (layer,) = [n for n in config["config"]["layers"] if n["class_name"] == "Lambda"]
        layer["config"] |= {"function": "my_function", "function_type": "function"}
        return config

    case(
        "refused_lambda_function_name",
        "Lambda that must be refused: a function stored by name alone",
        (4, 3),
        lambda x: L.Lambda(portable(lambda x: x), name="lambda_1")(x),
        patch=named,
        refused="lambda_1",
        layer="lambda_1",
    )


# New functions go to another file: the model files contain line numbers and which constants the functions of a file share.
def more():
    """Further expressions of known functions."""
    functions = {
        "largest": lambda x: K.max(x, axis=1),
        "clip": lambda x: K.clip(x, -0.5, 0.5),
        "reshape": lambda x: K.reshape(x, (-1, 2, 6)),
    }
    for tag, function in functions.items():
        case(
            f"lambda_{tag}",
            f"Lambda: {tag}",
            (4, 3),
            lambda x, f=portable(function): L.Lambda(f, name="lambda_1")(x),
        )
    joined = portable(lambda x: K.concatenate([x[0], x[1] * 2, x[0]], axis=1))
    case(
        "lambda_concatenate",
        "Lambda: concatenation of two inputs",
        [(4, 3), (2, 3)],
        lambda x, y: L.Lambda(joined, name="lambda_1")([x, y]),
    )


known()
simple()
more()
refused()
