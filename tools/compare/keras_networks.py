"""The five networks of 2020, rebuilt in Keras 2.15 from the graphs and weights of their .h5 files.

Keras 2.15 cannot load the files directly: their Lambda layers are Python 3.5 bytecode, and its
bilinear upsampling has different coordinates from TensorFlow 1.
"""

import json

import h5py
import keras
import tensorflow as tf
from keras import layers as L
from keras.src.saving.legacy import hdf5_format


class SumOverTime(L.Layer):
    def call(self, inputs):
        return tf.reduce_sum(inputs, axis=1)


class SpatialMultiply(L.Layer):
    """Multiplies maps (h, w, c) by an attention map (h, w, 1)."""

    def call(self, inputs):
        maps, attention = inputs
        return maps * attention


class ChannelMultiply(L.Layer):
    """Multiplies maps (h, w, c) by one factor per channel (c)."""

    def call(self, inputs):
        maps, attention = inputs
        return maps * attention[:, None, None, :]


class BilinearUpsampling(L.Layer):
    """Upsamples with source = destination / factor and clamped edges, like TensorFlow 1."""

    def __init__(self, size, **options):
        super().__init__(**options)
        self.size = size

    def call(self, inputs):
        size = [n * factor for n, factor in zip(inputs.shape[1:3], self.size)]
        return tf.compat.v1.image.resize_bilinear(inputs, size, align_corners=False, half_pixel_centers=False)


CUSTOM = {c.__name__: c for c in (SumOverTime, SpatialMultiply, ChannelMultiply, BilinearUpsampling)}


def lambda_class(layer):
    """Returns the function of a Lambda layer, by its position: the only one with a single input is the sum
    over the LSTM's steps; the two others multiply by attention."""
    sources = [source[0] for source in layer["inbound_nodes"][0]]
    if len(sources) == 1:
        return SumOverTime
    return ChannelMultiply if sources[1].startswith("TD_attention") else SpatialMultiply


def readable(config):
    """Adapts the config of a model to Keras 2.15 in place, with dropout off."""
    for layer in config["layers"]:
        kind, options = layer["class_name"], layer["config"]
        if kind == "Model":
            layer["class_name"] = "Functional"
            readable(options)
        elif kind == "Lambda":
            layer["class_name"] = lambda_class(layer).__name__
            layer["config"] = {"name": layer["name"]}
        elif kind == "UpSampling2D" and options.get("interpolation") == "bilinear":
            layer["class_name"] = BilinearUpsampling.__name__
            layer["config"] = {"name": layer["name"], "size": options["size"]}
        for call in layer["inbound_nodes"]:
            for source in call:
                source[3].pop("training", None)
    return config


def load(path):
    """Returns the model of one file."""
    with h5py.File(path, "r") as file:
        config = readable(json.loads(file.attrs["model_config"])["config"])
        model = keras.Model.from_config(config, custom_objects=CUSTOM)
        hdf5_format.load_weights_from_hdf5_group(file["model_weights"], model)
    return model
