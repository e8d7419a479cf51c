"""Converts a file of Keras 2.15 to the layout of Keras 2.2.4 on Python 3.5."""

import json

import h5py
import numpy as np

from . import core

VERSION = b"2.2.4"

# Keys of a layer's config that are newer than 2.2.4.
NEWER = {
    "registered_name", "module", "build_config", "ragged", "groups", "time_major", "keepdims",
    "output_shape_module", "synchronized", "zero_output_for_mask", "use_legacy_config",
}  # fmt: skip

# Keras 2.2.4 stored `dtype` only together with an input shape.
INITIALIZERS = {
    "GlorotUniform": (
        "VarianceScaling",
        {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
    ),
}


def layer_config(layer):
    """Converts one entry of `layers`, including nested models."""
    layer = dict(layer)
    name = layer["class_name"]
    if name in ("Functional", "Sequential"):
        layer["class_name"] = "Model" if name == "Functional" else name
        layer["config"] = graph_config(layer["config"])
        return layer
    config = {k: v for k, v in layer["config"].items() if k not in NEWER}
    if "batch_input_shape" not in config:
        config.pop("dtype", None)
    if name == "InputLayer":
        config.pop("trainable", None)
    if name == "BatchNormalization":
        axis = config["axis"]
        config["axis"] = -1 if isinstance(axis, (list, tuple)) else axis
    if name in ("LSTM", "GRU"):
        config["implementation"] = 1
    for key, value in config.items():
        if key.endswith("_initializer") and value:
            kind, args = INITIALIZERS.get(value["class_name"], (value["class_name"], None))
            config[key] = {"class_name": kind, "config": args or value["config"]}
        elif key in ("layer", "forward_layer", "backward_layer") and isinstance(value, dict):
            config[key] = layer_config(value)
    layer["config"] = config
    return {k: v for k, v in layer.items() if k not in NEWER}


def graph_config(config):
    layers = [layer_config(layer) for layer in config["layers"]]
    if "input_layers" not in config:
        # Keras 2.2 wrote no InputLayer for a Sequential whose first layer has an input shape.
        if layers[0]["class_name"] == "InputLayer" and "batch_input_shape" in layers[1]["config"]:
            layers = layers[1:]
        return {"name": config["name"], "layers": layers}
    keys = ("name", "input_layers", "output_layers")
    return {**{k: config[k] for k in keys}, "layers": layers}


def weight_name(name):
    """Returns the old name of recurrent weights, which were directly under their layer."""
    return name.replace("/lstm_cell/", "/").replace("/gru_cell/", "/")


def rewrite(path, model):
    """Replaces the file of Keras 2.15 at `path`."""
    config = core.read_config(path)
    kind = "Model" if config["class_name"] == "Functional" else config["class_name"]
    config = {"class_name": kind, "config": graph_config(config["config"])}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = VERSION
        file.attrs["backend"] = b"tensorflow"
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([n.name.encode() for n in model.layers])
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = VERSION
        for layer in model.layers:
            inner = group.create_group(layer.name)
            weights = layer.trainable_weights + layer.non_trainable_weights
            names = [weight_name(w.name).encode() for w in weights]
            # An empty list became float64 of shape (0,).
            inner.attrs["weight_names"] = np.array(names) if names else np.array([])
            for name, weight in zip(names, weights):
                inner.create_dataset(name.decode(), data=weight.numpy())
