"""Files that must be refused with an error that names the layer and option."""

import json

import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

from .core import case


def no(name, covers, shape, layer, says, may_run=False, **options):
    case(name, covers, shape, lambda x: layer()(x), refused=says, may_run=may_run, **options)


def classes():
    for name, shape, layer in (
        ("conv_lstm3d", (2, 3, 3, 3, 1), lambda: L.ConvLSTM3D(2, 3)),
        ("locally_connected1d", (5, 2), lambda: L.LocallyConnected1D(2, 3)),
    ):
        cls = layer().__class__.__name__
        no(f"refused_{name}", f"{cls} is not known", shape, layer, cls)
    no("refused_conv3d_strides", "Conv3D with windows that TensorFlow's kernels place differently", (6, 2, 2, 1), lambda: L.Conv3D(2, (1, 2, 2), strides=(3, 1, 1), padding="same"), "different samples")
    no("refused_conv_lstm2d_state", "ConvLSTM2D that returns its states", (2, 4, 4, 1), lambda: lambda x: L.ConvLSTM2D(2, 3, return_state=True)(x)[1], "return_state")
    case(
        "refused_dot_normalized",
        "Dot of normalised vectors",
        [(4,), (4,)],
        lambda x, y: L.Dot(axes=1, normalize=True)([x, y]),
        refused="normalize",
    )
    case(
        "refused_operator",
        "A function of TensorFlow in the model's code, stored as a TFOpLambda layer",
        (4,),
        lambda x: L.Dense(2)(tf.sin(x)),
        refused="TFOpLambda",
    )

    class Whitening(L.Layer):
        pass

    no("refused_own_class", "A layer class of the author's own", (4,), Whitening, "Whitening")


def options():
    def opt(name, covers, shape, layer, says, **kw):
        no(f"refused_{name}", covers, shape, layer, says, **kw)

    opt(
        "flatten_channels_first",
        "Flatten, channels_first",
        (2, 3, 4),
        lambda: L.Flatten(data_format="channels_first"),
        "channels_first",
        may_run=True,
    )
    opt(
        "up_sampling2d_bicubic",
        "UpSampling2D, bicubic",
        (3, 3, 1),
        lambda: L.UpSampling2D(2, interpolation="bicubic"),
        "bicubic",
    )
    opt(
        "batch_normalization_axis1",
        "BatchNormalization over axis 1 of rank 4",
        (3, 4, 2),
        lambda: L.BatchNormalization(axis=1),
        "axis",
        may_run=True,
    )
    opt("masked_softmax", "Softmax of a masked sequence", (4, 4), lambda: lambda x: L.Softmax()(L.Masking()(x)), "mask")
    opt("lstm_time_major", "LSTM, time_major", (4, 3), lambda: L.LSTM(2, time_major=True), "time_major")

    case(
        "refused_batch_normalization_training",
        "BatchNormalization called with training=True",
        (4,),
        lambda x: L.BatchNormalization()(x, training=True),
        refused="training",
    )
    case(
        "refused_gaussian_noise_training",
        "GaussianNoise called with training=True",
        (4,),
        lambda x: L.GaussianNoise(0.5)(x, training=True),
        refused="training",
    )
    opt("float64", "Dense computed in float64", (4,), lambda: L.Dense(2, dtype="float64"), "float64", may_run=True)

    def rename(config):
        config["config"]["layers"][-1]["config"]["activation"] = "my_activation"

    no(
        "refused_activation_name",
        "An activation of an unknown name",
        (4,),
        lambda: L.Dense(2, activation="relu"),
        "my_activation",
        patch=rename,
    )


def damaged():
    def broken(name, covers, says, **changes):
        case(
            f"broken_{name}",
            covers,
            (4,),
            lambda x: L.Dense(2, name="head")(L.Dense(3, name="body")(x)),
            refused=says,
            **changes,
        )

    def drop(file):
        del file["model_weights/body/body/kernel:0"]

    def reshape(file):
        del file["model_weights/body/body/kernel:0"]
        file["model_weights/body/body/kernel:0"] = np.zeros((5, 3), np.float32)

    def integers(file):
        del file["model_weights/body/body/kernel:0"]
        file["model_weights/body/body/kernel:0"] = np.ones((4, 3), np.int32)

    def not_finite(file):
        file["model_weights/body/body/kernel:0"][1, 1] = np.nan

    def unlisted(file):
        file["model_weights/body"].attrs["weight_names"] = np.array([b"body/kernel:0"])

    def set_config(text):
        def edit(file):
            file.attrs["model_config"] = text.encode()

        return edit

    def no_config(file):
        del file.attrs["model_config"]

    def dangling(config):
        config["config"]["layers"][-1]["inbound_nodes"][0][0][0] = "nobody"

    def circle(config):
        config["config"]["layers"][1]["inbound_nodes"][0][0][0] = "head"

    def absent_node(config):
        config["config"]["layers"][-1]["inbound_nodes"][0][0][1] = 5

    def huge(config):
        config["config"]["layers"][1]["config"]["units"] = 10**12

    broken("missing_weight", "A weight is listed but not there", "body", edit=drop)
    broken("weight_shape", "A weight has the wrong shape", "body", edit=reshape)
    broken("weight_type", "A weight is stored as integers", "body", edit=integers)
    broken("weight_not_finite", "A weight is NaN", "body", edit=not_finite)
    broken("missing_bias", "A bias that the config asks for is not listed", "body", edit=unlisted)
    broken("no_config", "A file of weights alone", "it holds only weights", edit=no_config)
    broken(
        "config_not_json", "model_config is not JSON", "model_config", edit=set_config('{"class_name": "Functional", ')
    )
    broken(
        "config_other_json",
        "model_config is JSON of something else",
        "model_config",
        edit=set_config(json.dumps([1, 2])),
    )
    broken("unknown_layer", "A node names a layer that is not there", "nobody", patch=dangling)
    broken("circle", "The graph goes round in a circle", "body", patch=circle)
    broken("absent_node", "A node asks for the sixth call of a layer that has one", "body", patch=absent_node)
    broken("units", "A layer said to have 10^12 units", "body", patch=huge)


classes()
options()
damaged()
