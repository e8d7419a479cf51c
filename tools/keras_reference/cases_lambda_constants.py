"""Lambda layers with constant tensors."""

import numpy as np
import tensorflow as tf
from keras import layers as L

from .core import case, portable


def constants():
    """Arithmetic with constant tensors."""
    functions = {
        "list": (lambda x: x * [1.0, -2.0, 0.5] + 1, (4, 3)),
        "tuple": (lambda x: x - (0.5, 1.5, -1), (4, 3)),
        "two_numbers": (lambda x: [0.5, -1.0] - x, (4, 2)),
        "left": (lambda x: tf.constant([1.0, 2.0, -3.0]) / (x * x + 1.0), (4, 3)),
        "steps": (lambda x: x / [[1.0], [2.0], [-4.0], [0.5]], (4, 3)),
        "matrix": (lambda x: x + ((1.0, 2.0, 3.0), (-4.0, 5.0, 6.0)), (2, 3)),
        "channels": (lambda x: tf.multiply(x, [[[[1.0, -2.0, 3.0]]]]), (2, 4, 3)),
        "vector": (lambda x: x * [1.0, -2.0, 3.0], (3,)),
        "one_number": (lambda x: x * [[2.5]], (4, 3)),
    }
    for tag, (function, shape) in functions.items():
        case(
            f"lambda_constants_{tag}",
            f"Lambda: arithmetic with a constant tensor, {tag}",
            shape,
            lambda x, f=portable(function): L.Lambda(f, name="lambda_1")(x),
        )
    standard = portable(lambda x, mean, deviation: (x - mean) / deviation)
    case(
        "lambda_constants_arguments",
        "Lambda: constant tensors as arguments, one of them in two layers",
        (4, 3),
        lambda x: L.Lambda(standard, arguments={"mean": [0.1, -2.0, 0.7], "deviation": [1.5, 0.5, 3.0]}, name="lambda_1")(
            L.Lambda(standard, arguments={"mean": [0.1, -2.0, 0.7], "deviation": 2.0}, name="lambda_2")(x)
        ),
    )
    case(
        "lambda_constants_numpy",
        "Lambda: constant tensors as arrays of NumPy",
        (4, 3),
        lambda x, f=portable(lambda x: (x - np.array([0.5, -1.0, 2.0])) / np.float32([2.0, 4.0, -0.5])): L.Lambda(
            f, name="lambda_1"
        )(x),
    )
    for tag, function, shape in (
        ("batch", lambda x: x * [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], (3,)),
        ("between", lambda x: x * [[[1.0, 2.0]], [[3.0, 4.0]], [[5.0, 6.0]]], (3, 4, 2)),
        ("power", lambda x: (x * x) ** [1.0, 2.0, 3.0], (4, 3)),
        ("more_dimensions", lambda x: x * [[[2.5]]], (4,)),
    ):
        case(
            f"refused_lambda_constants_{tag}",
            f"Lambda that must be refused: a constant tensor, {tag}",
            shape,
            lambda x, f=portable(function): L.Lambda(f, name="lambda_1")(x),
            refused="lambda_1",
            layer="lambda_1",
        )


constants()
