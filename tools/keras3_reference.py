"""Writes tests/golden/keras3: small Keras 3 models and Keras 3's outputs of them (.npz).

    python tools/keras3_reference.py tests/golden/keras3           # write everything
    python tools/keras3_reference.py --check tests/golden/keras3   # write elsewhere and compare

The packages are in tools/requirements-keras3.txt; Keras computes with NumPy. The files of the first version
of Keras 3, whose names end in `_3_0`, are written by Keras 3.0.5 on JAX; both programs keep each other's:

    KERAS_BACKEND=jax python tools/keras3_reference.py tests/golden/keras3

The models of masks are written by both versions on JAX:

    KERAS_BACKEND=jax python tools/keras3_reference.py --only mask tests/golden/keras3

tests/golden/README.md describes the array names of a .npz file and the fields of index.json.
"""

import argparse
import io
import json
import os
import pathlib
import sys
import tempfile
import zipfile
import zlib

os.environ.setdefault("KERAS_BACKEND", "numpy")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
from keras import layers as L

# Maximum difference on another processor, relative to an array's largest magnitude.
OTHER_MACHINE = 1e-5
FIRST = keras.__version__.startswith("3.0.")
JAX = keras.backend.backend() == "jax"


def rng(*key):
    return np.random.default_rng(zlib.crc32("/".join(map(str, key)).encode()))


CASES = []


def case(name, covers, build, shapes=(), layouts=("keras",), first=False, **options):
    """Registers a model. `layouts`: `keras` and `h5` for whole models, `weights` for weights by path and
    an architecture. `first`: Keras 3.0.5 writes it too. `jax`: only JAX computes it, because NumPy has no masks.
    `padded`: some steps of the inputs are zeros. `rows`: size of the batch, 3 unless it is given. `second`: the model
    is called again without a reset of its states. `patch` changes the files of an archive."""
    shapes = [shapes] if shapes and not isinstance(shapes[0], (tuple, list)) else shapes
    CASES.append({"name": name, "covers": covers, "build": build, "shapes": shapes, "layouts": layouts,
                  "first": first, **options})  # fmt: skip


def make_model(item):
    keras.backend.clear_session()
    tensors = [L.Input(s, name=f"input_{k + 1}") for k, s in enumerate(item["shapes"])]
    built = item["build"](*tensors)
    return built if isinstance(built, keras.Model) else keras.Model(tensors, built, name="model")


def set_weights(model, key):
    """Sets seeded weights of both signs without constants, scaled to the fan-in."""
    for k, weight in enumerate(model.weights):
        shape, kind = tuple(weight.shape), weight.path.split("/")[-1]
        draw = rng(key, "weight", k)
        if kind in ("count", "seed_generator_state"):
            continue
        if "kernel" in kind or kind == "embeddings":
            value = draw.standard_normal(shape) / np.sqrt(max(1, int(np.prod(shape[:-1])))) * 1.2
        elif kind == "gamma":
            value = draw.uniform(0.5, 1.5, shape)
        elif kind in ("moving_variance", "variance"):
            value = draw.uniform(0.3, 2.0, shape)
        else:
            value = draw.uniform(-0.5, 0.5, shape)
        weight.assign(value.astype(np.float32))
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def make_inputs(item, model):
    if "whole" in item:
        shapes = [(3, *t.shape[1:]) for t in model.inputs]
        draws = rng(item["name"], "input")
        return [draws.integers(0, item["whole"], shape).astype(np.float32) for shape in shapes]
    inputs = [
        rng(item["name"], "input", k).standard_normal((item.get("rows", 3), *t.shape[1:])).astype(np.float32)
        for k, t in enumerate(model.inputs)
    ]
    for x in inputs if "padded" in item else []:
        x[1, 4:] = 0.0
        x[2, [0, 3, -1]] = 0.0
    return inputs


def evaluate(model, inputs):
    """Returns the outputs in order; dictionaries are in the order of their sorted keys."""
    if FIRST:
        result = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        result = result if isinstance(result, (list, tuple)) else [result]
    else:
        given = inputs if isinstance(model, keras.Sequential) else model._inputs_struct
        given = inputs[0] if given is inputs else keras.tree.pack_sequence_as(given, inputs)
        result = keras.tree.flatten(model(given, training=False))
    return [np.asarray(r, np.float32) for r in result]


def write_npz(path, arrays):
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())


def without_addresses(config):
    """Removes the addresses of objects, which differ in every run."""
    if isinstance(config, dict):
        return {k: without_addresses(v) for k, v in config.items() if k != "shared_object_id"}
    return [without_addresses(v) for v in config] if isinstance(config, list) else config


def fix_archive(path, patch):
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(files["metadata.json"]) | {"date_saved": "2000-01-01@00:00:00"}
    files["metadata.json"] = json.dumps(metadata).encode()
    files["config.json"] = json.dumps(without_addresses(json.loads(files["config.json"]))).encode()
    if patch:
        patch(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def write_case(item, folder):
    """Writes the files of one model in each layout and returns their entries of the index."""
    model = make_model(item)
    set_weights(model, item["name"])
    entries = []
    suffix = "_3_0" if FIRST else ""
    arrays = {}
    if "refused" not in item:
        inputs = make_inputs(item, model)
        names = [t.name.split(":")[0] for t in model.inputs]
        arrays = {f"in.{n}": x for n, x in zip(names, inputs)}
        arrays |= {f"out.{k}": y for k, y in enumerate(evaluate(model, inputs))}
        if "second" in item:
            again = [-x for x in inputs]
            arrays |= {f"second.in.{n}": x for n, x in zip(names, again)}
            arrays |= {f"second.out.{k}": y for k, y in enumerate(evaluate(model, again))}
        npz = folder / f"{item['name']}{suffix}.npz"
        write_npz(npz, arrays)
    for layout in item["layouts"]:
        if FIRST and layout == "h5":
            # Keras 3.0 fails to save two weights of the same name there.
            continue
        name = f"{item['name']}{suffix}" + ("" if layout == "keras" else f"_{layout}")
        file = folder / (name + {"keras": ".keras", "h5": ".h5", "weights": ".weights.h5"}[layout])
        entry = {"name": name, "file": file.name, "covers": item["covers"], "keras_version": keras.__version__}
        if layout == "weights":
            model.save_weights(file)
            architecture = folder / f"{name}.json"
            architecture.write_text(json.dumps(without_addresses(json.loads(model.to_json()))) + "\n")
            entry["architecture"] = architecture.name
            # Neither file states the version.
            entry["keras_version"] = None
        else:
            model.save(file)
        if layout == "keras":
            fix_archive(file, item.get("patch"))
        if "refused" in item:
            entry["refused"] = item["refused"]
        else:
            entry["arrays"] = npz.name
            # Keras 3.0 fails to load some of the models that it stores; later versions load them.
            if layout != "weights" and not FIRST:
                loaded = keras.models.load_model(file, compile=False)
                for k, y in enumerate(evaluate(loaded, inputs)):
                    np.testing.assert_allclose(y, arrays[f"out.{k}"], 1e-6, 1e-6, err_msg=name)
        entries.append(entry)
    return entries


ALL = ("keras", "h5", "weights")


def sequential():
    return keras.Sequential(
        [
            L.Input((6, 5, 1), name="image"),
            L.Conv2D(3, 3, activation="relu", padding="same"),
            L.MaxPooling2D(),
            L.BatchNormalization(),
            L.Flatten(),
            L.Dropout(0.5),
            L.Dense(4, activation="gelu"),
            L.Dense(2, activation="softmax"),
        ]
    )


def recurrent(x):
    x = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    x = L.TimeDistributed(L.Dense(4, activation="elu"))(x)
    x = L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode="sum")(x)
    return L.GRU(3)(x)


def nested(x):
    """Models in models; layers of the same class, to be counted per model; a shared model."""
    i = L.Input((4,), name="inner_input")
    shared = keras.Model(i, L.Dense(4, activation="tanh")(L.Dense(5)(i)), name="shared")
    chain = keras.Sequential([L.Dense(6), L.LeakyReLU(), L.Dense(4), L.PReLU()], name="chain")
    y = L.Dense(4)(x)
    y = shared(y)
    y = chain(y)
    return L.Concatenate()([L.Dense(3)(y), shared(y), L.Dense(2, name="out")(y)])


def last_is_nested(x):
    """The output of the model is that of a model inside it."""
    i = L.Input((4,), name="inner_input")
    shared = keras.Model(i, [L.Dense(4)(i), L.Dense(2)(i)], name="shared")
    return shared(L.Dense(4)(shared(x)[0]))


def shared_layers(a, b):
    dense, norm = L.Dense(3), L.BatchNormalization()
    p, q = norm(dense(a)), norm(dense(b))
    frozen = L.Dense(3, trainable=False)
    return L.Add()([frozen(p), q]), L.Multiply()([p, q]), L.Average()([p, q])


def operations(a, b):
    return keras.ops.maximum(a * b + a, a - b)


def activations(x):
    parts = [
        L.LeakyReLU(0.1)(x),
        L.ReLU(2.0, 0.1, 0.2)(x),
        L.ELU(0.7)(x),
        L.Softmax()(x),
        L.Activation("mish")(x),
        L.Activation("silu")(x),
        L.Activation("softsign")(x),
        L.Activation("leaky_relu")(x),
        L.Dense(2, activation=L.LeakyReLU(0.3))(x),
    ]
    return L.Concatenate()(parts)


def images(x):
    x = L.ZeroPadding2D(((1, 0), (0, 2)))(x)
    x = L.UpSampling2D(2, interpolation="bilinear")(x)
    x = L.AveragePooling2D(3, 2, padding="same")(x)
    x = L.SpatialDropout2D(0.3)(x)
    x = L.Conv2D(2, (3, 2), strides=2, activation="selu")(x)
    return L.GlobalMaxPooling2D()(x), L.GlobalAveragePooling2D(keepdims=True)(x)


def sound(x):
    x = L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = L.MaxPooling1D(2)(L.GaussianNoise(0.1)(x))
    x = L.Permute((2, 1))(x)
    x = L.Reshape((-1, 2))(x)
    x = L.RepeatVector(3)(L.GlobalAveragePooling1D()(x))
    return L.Flatten()(x)


def named_outputs(a, b):
    tensors = {"z": a, "y": b}
    return keras.Model(tensors, {"second": L.Dense(2)(a), "first": L.Dense(3)(b)}, name="model")


def hard_sigmoid(x):
    y = L.Activation("hard_sigmoid")(L.Rescaling(4.0)(x))
    return L.Dense(3, activation="hard_sigmoid")(L.GRU(3, recurrent_activation="hard_sigmoid")(y))


def without_weights(files):
    del files["model.weights.h5"]


def with_other_shape(files):
    """Replaces the kernel of the first dense layer."""
    data = io.BytesIO(files["model.weights.h5"])
    with h5py.File(data, "r+") as file:
        group = file["layers/dense/vars"]
        del group["0"]
        group["0"] = np.zeros((3, 3), np.float32)
    files["model.weights.h5"] = data.getvalue()


def without_a_layer(files):
    data = io.BytesIO(files["model.weights.h5"])
    with h5py.File(data, "r+") as file:
        del file["layers/dense_1"]
    files["model.weights.h5"] = data.getvalue()


def with_another_layer(files):
    data = io.BytesIO(files["model.weights.h5"])
    with h5py.File(data, "r+") as file:
        file["layers/dense_7/vars/0"] = np.zeros((3, 3), np.float32)
    files["model.weights.h5"] = data.getvalue()


def two_of_a_name(files):
    config = json.loads(files["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Dense":
            layer["name"] = layer["config"]["name"] = "same"
    files["config.json"] = json.dumps(config).encode()


def two_dense(x):
    return L.Dense(2)(L.Dense(3)(x))


case("sequential", "Sequential with convolution, dropout and dense layers", sequential, layouts=ALL, first=True)
case("recurrent", "LSTM, GRU, Bidirectional, TimeDistributed", recurrent, (5, 3), ALL, first=True)
case("nested", "Models in models, shared; names counted per model", nested, (4,), ALL, first=True)
case("last_is_nested", "Outputs of a functional model inside the model", last_is_nested, (4,), ("keras", "h5"))
case("shared_layers", "Shared and frozen layers, two inputs, three outputs", shared_layers, [(4,), (4,)], ALL)
# Keras cannot load such a model from an .h5 file.
case("operations", "Operations on symbolic tensors", operations, [(4,), (4,)])
case("activations", "Activation functions and layers", activations, (6,), ("keras",))
case("images", "Layers of images, bilinear upsampling", images, (5, 4, 2), ("keras", "h5"), first=True)
case("sound", "Layers over time", sound, (8, 3), ("keras",))
case("named_outputs", "Inputs and outputs in dictionaries", named_outputs, [(4,), (5,)])



def convolutions(x):
    a = L.SeparableConv2D(4, 3, activation="elu", padding="same")(x)
    b = L.DepthwiseConv2D(3, depth_multiplier=2, strides=1, padding="same")(x)
    c = L.Conv2DTranspose(3, 3, strides=2, padding="same", activation="tanh")(x)
    d = L.Conv2D(4, 3, groups=2, padding="same")(b)
    return a, L.BatchNormalization(axis=1)(b), L.Cropping2D(1)(c), d


def volumes(x, y):
    first = {"data_format": "channels_first"}
    a = L.Conv3D(4, (3, 2, 3), strides=(2, 1, 1), padding="same", activation="relu")(x)
    b = L.ConvLSTM2D(3, 2, padding="same", return_sequences=True)(x)
    c = L.Conv3D(4, 2, groups=2, **first)(y)
    d = L.ConvLSTM2D(3, 2, return_sequences=True, **first)(y)
    e = L.ConvLSTM2D(2, (1, 2), strides=2, **first)(y)
    f = L.ConvLSTM1D(2, 2, recurrent_activation="hard_sigmoid")(L.Reshape((4, 15, 2))(x))
    return a, L.AveragePooling3D(2, padding="same")(b), L.MaxPooling3D((2, 1, 3), **first)(c), d, e, f


def mel_spectrograms(x):
    power = L.MelSpectrogram(fft_length=64, sequence_stride=20, sampling_rate=8000, num_mel_bins=10, power_to_db=False)(x)
    root = L.MelSpectrogram(
        fft_length=50, sequence_stride=16, sequence_length=33, window="hamming", sampling_rate=16000, num_mel_bins=7,
        min_freq=100.0, max_freq=7000.0, power_to_db=False, mag_exp=1.0,
    )(x)  # fmt: skip
    other = L.MelSpectrogram(
        fft_length=32, sequence_stride=40, sequence_length=20, window=None, num_mel_bins=5, power_to_db=False, mag_exp=1.5
    )(x)
    # The range is that of the whole batch in Keras, so no value is raised here.
    decibels = L.MelSpectrogram(fft_length=64, sequence_stride=25, num_mel_bins=6, top_db=200.0, ref_power=2.0)(x)
    return power, root, other, decibels


def mel_range(x):
    return L.MelSpectrogram(fft_length=64, sequence_stride=25, num_mel_bins=6, top_db=3.0)(x)


def spectrograms(x, y):
    outputs = []
    for mode in ("log", "magnitude", "psd", "real", "imag", "stft", "angle"):
        outputs.append(L.STFTSpectrogram(mode, frame_length=20, frame_step=8, fft_length=32)(x))
    outputs.append(L.STFTSpectrogram("psd", frame_length=12, padding="same", expand_dims=True, window="hamming")(x))
    first = {"frame_length": 16, "data_format": "channels_first", "periodic": True, "scaling": "spectrum"}
    outputs.append(L.STFTSpectrogram("magnitude", **first)(y))
    outputs.append(L.STFTSpectrogram("stft", expand_dims=True, **first)(y))
    return outputs


def resizing(x, y):
    a = L.Resizing(4, 9)(x)
    b = L.Resizing(3, 4, interpolation="nearest", data_format="channels_first")(y)
    return L.Identity()(L.RandomFlip()(a)), b


def stateful():
    i = L.Input(batch_shape=(3, 6, 3), name="input_1")
    x = L.Bidirectional(L.LSTM(2, return_sequences=True, stateful=True))(i)
    steps, h, c = L.LSTM(3, stateful=True, return_sequences=True, return_state=True)(x)
    last = L.GRU(4, stateful=True, go_backwards=True)(x)
    layers = [
        L.Input(batch_shape=(3, 6, 3), name="inner_input"),
        L.SimpleRNN(2, stateful=True, return_sequences=True),
        L.GRU(2, stateful=True, reset_after=False),
        L.Dense(2),
    ]
    return keras.Model(i, [steps, h, c, last, keras.Sequential(layers, name="inner")(i)], name="model")


def sequences(x):
    a = L.SeparableConv1D(4, 3, strides=2)(L.ZeroPadding1D(2)(x))
    b = L.LayerNormalization()(L.Conv1DTranspose(3, 4, strides=2)(x))
    c = L.DepthwiseConv1D(3)(L.UpSampling1D(2)(x))
    d = L.Bidirectional(L.SimpleRNN(3, return_sequences=True))(x)
    e = L.MultiHeadAttention(2, 3)(d, x, x)
    f = L.Attention()([e, d])
    return L.Cropping1D(1)(a), b, c, L.Dot(axes=1)([f, x]), L.LayerNormalization(axis=[2], epsilon=0.1)(e)


def indices(x):
    return L.Rescaling(2.0, -0.5)(L.Embedding(5, 3)(x)), L.Normalization()(x)


case("convolutions", "Separable, depthwise, grouped and transposed convolutions", convolutions, (6, 5, 3), ("keras", "h5"))
case("volumes", "Layers of volumes, channels last and first", volumes, [(4, 5, 3, 2), (2, 4, 3, 5)], ("keras", "h5"))
case("mel_spectrograms", "Mel spectrograms", mel_spectrograms, (300,))
case("mel_range", "Mel spectrogram in decibels of a limited range", mel_range, (300,), rows=1)
case("spectrograms", "Spectrograms by convolution", spectrograms, [(90, 2), (2, 64)], ("keras", "h5"))
case("refused_aspect_ratio", "Resizing that keeps the aspect ratio", lambda x: L.Resizing(4, 4, pad_to_aspect_ratio=True)(x), (7, 5, 1), refused="pad_to_aspect_ratio")
case("resizing", "Images of another size, channels last and first", resizing, [(7, 5, 2), (2, 8, 9)], ("keras", "h5"))
case("stateful", "Stateful layers, two calls", stateful, layouts=("keras", "h5"), second=True)
case("sequences", "Layers over time and attention", sequences, (7, 4), ("keras", "h5"))
case("indices", "Embedding, Rescaling and Normalization", indices, (4,), ("keras", "h5"), whole=5)


def masks(x):
    y = L.Bidirectional(L.LSTM(3, return_sequences=True))(L.Masking()(x))
    y = L.Dropout(0.5)(L.Dense(4, activation="tanh")(y))
    z = L.GRU(3, return_sequences=True)(y)
    return z, L.GlobalAveragePooling1D()(y), L.SimpleRNN(2)(z), L.LSTM(2)(L.Conv1D(3, 2)(z))


def states(x, y):
    out, h, c = L.LSTM(4, return_sequences=True, return_state=True)(x)
    return L.LSTM(4)(y, initial_state=[h, c]), out, L.GRU(4, return_state=True)(y, initial_state=h)[1]


def operations_with_constants(x, y):
    ops = keras.ops
    parts = [x * 2.0, 0.5 - x, x / 4.0, -x, 1.0 / (y * y + 1.0), x**2, x / (y * y + 2.0), ops.maximum(x, 0.1), abs(x)]
    parts += [x[:, 1:3], x[:, -1], ops.mean(x, axis=1), ops.sum(x * y, axis=-1, keepdims=True)]
    return parts + [ops.transpose(x, [0, 2, 1]), ops.squeeze(ops.expand_dims(y, -1), -1), ops.sqrt(ops.exp(x)), ops.relu(x)]


def operations_with_vectors(x):
    ops = keras.ops
    vector, steps = np.float32([0.5, -1.5, 2.0]), np.float32([[1.0], [2.0], [-0.5], [4.0]])
    parts = [(x - vector) / np.float32([1.0, 2.0, 4.0]), x * steps + vector, ops.subtract(vector, x)]
    parts += [ops.divide(vector.reshape(1, 1, 3), x * x + 1.0), x + np.arange(12, dtype=np.float32).reshape(4, 3)]
    return parts + [L.Dense(2)(ops.mean(x, axis=1) * vector)]


def attentions(q, v):
    a = L.Attention(use_scale=True)([q, v])
    b = L.Attention(use_scale=True, score_mode="concat")([q, v])
    return a, b, L.AdditiveAttention()([q, v]), L.GroupNormalization(3)(q), L.UnitNormalization()(v)


def transposes(image, sound):
    a = L.Conv2DTranspose(3, (3, 2), dilation_rate=2)(image)
    b = L.Conv2DTranspose(3, (3, 2), dilation_rate=(2, 3), padding="same")(image)
    c = L.Conv1DTranspose(2, 3, dilation_rate=3, padding="same")(sound)
    d = L.Conv2DTranspose(2, (3, 4), strides=(3, 2), output_padding=(2, 1))(image)
    e = L.Conv2DTranspose(2, (3, 4), strides=(3, 2), padding="same", output_padding=(2, 1))(image)
    return a, b, c, d, e, L.Conv1DTranspose(2, 4, strides=3, padding="same", output_padding=1)(sound)


def with_output_padding(files):
    """States the output paddings, which Keras reads but does not store."""
    config = json.loads(files["config.json"])
    paddings = {"conv2d_transpose_2": [2, 1], "conv2d_transpose_3": [2, 1], "conv1d_transpose_1": [1]}
    for layer in config["config"]["layers"]:
        if layer["name"] in paddings:
            layer["config"]["output_padding"] = paddings[layer["name"]]
    files["config.json"] = json.dumps(config).encode()


def operations_on_shapes(x, y):
    ops = keras.ops
    parts = [ops.reshape(x, (-1, 6, 2)), ops.stack([x, x * 2.0], axis=2), ops.matmul(x, ops.transpose(y, [0, 2, 1]))]
    parts += [ops.max(x, axis=1), ops.min(x, axis=-1, keepdims=True), ops.concatenate([x, y], axis=1)]
    return parts + [ops.clip(x, -0.5, 0.5), ops.relu6(x * 8.0), ops.leaky_relu(x, 0.3), ops.elu(x), ops.rsqrt(x * x + 1.0)]


def masked_attentions(q, v):
    a, b = L.Masking()(q), L.Masking()(v)
    given = L.Attention()([q, v], mask=[keras.ops.any(keras.ops.not_equal(q, 0.0), axis=-1), None])
    mixed = L.Attention()([a, b])
    return mixed, L.AdditiveAttention()([q, b]), L.LSTM(2)(L.GroupNormalization(3)(a)), given, L.GRU(2)(mixed)


def masked_softmax(x, scores):
    return L.Softmax()(scores, mask=keras.ops.not_equal(x, 0.0))


case("transposes", "Transposed convolutions with dilation and output padding", transposes, [(5, 4, 2), (5, 3)], patch=with_output_padding)
case("operations_on_shapes", "Operations on shapes and axes", operations_on_shapes, [(4, 3), (2, 3)])
case("masked_attentions", "Attention with masks", masked_attentions, [(6, 3), (5, 3)], jax=True, padded=True)
case("masked_softmax", "Softmax with a mask that is an argument", masked_softmax, [(6,), (6,)], jax=True, whole=3)
case("refused_masked_heads", "MultiHeadAttention of a masked sequence", lambda x: L.MultiHeadAttention(2, 2)(L.Masking()(x), x), (6, 3), jax=True, refused="Keras 3 removes the masks")
case("masks", "Masks through layers into others", masks, (6, 3), first=True, jax=True, padded=True)
case("states", "Recurrent layers from the states of others", states, [(5, 3), (4, 2)], ("keras", "h5"))
case("operations_with_constants", "Operations with constants and options", operations_with_constants, [(4, 3), (4, 3)])
case("operations_with_vectors", "Operations with constant tensors", operations_with_vectors, (4, 3))
case("attentions", "Attention with scales, normalisations", attentions, [(4, 6), (5, 6)], ("keras", "h5"))
case("hard_sigmoid", "Hard sigmoid of Keras 3", hard_sigmoid, (5, 3), ("keras", "h5"))

REFUSED = [
    ("refused_no_weights", without_weights, 'it has no "model.weights.h5"'),
    ("refused_other_shape", with_other_shape, "has shape [3, 3], [4, 3] is needed"),
    ("refused_missing_layer", without_a_layer, "needs 2 weights, the file has 0 for it at \"layers/dense_1\""),
    ("refused_unknown_path", with_another_layer, 'it has weights at "layers/dense_7"'),
    ("refused_equal_names", two_of_a_name, 'two of its layers are named "same"'),
]
for name, patch, reason in REFUSED:
    case(name, "A damaged archive", two_dense, (4,), patch=patch, refused=reason)


def regenerate(folder, only):
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.json"
    known = json.loads(index.read_text())["models"] if index.exists() else []
    written = []
    for item in CASES:
        if only in item["name"] and (item["first"] or not FIRST) and (JAX or "jax" not in item):
            written += write_case(item, folder)
    # The entries of the other version, and of models that were not written, stay.
    models = {entry["name"]: entry for entry in [*known, *written]}
    index.write_text(json.dumps({"models": sorted(models.values(), key=lambda m: m["name"])}, indent=1) + "\n")
    return len(written)


def content(file):
    found = {}

    def visit(where, item):
        found.update({f"{where}@{key}": value for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            found[where] = item[()]

    with h5py.File(file, "r") as opened:
        visit("", opened)
        opened.visititems(visit)
    return found


def same_h5(ours, theirs):
    ours, theirs = content(ours), content(theirs)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def differences(fresh, kept):
    """Yields the files in `kept` that the program would write differently today."""
    for path in sorted(fresh.iterdir()):
        other = kept / path.name
        if not other.is_file():
            yield f"{path.name}: missing"
        elif path.suffix == ".npz":
            with np.load(path) as a, np.load(other) as b:
                if set(a.files) != set(b.files):
                    yield f"{path.name}: other arrays"
                    continue
                for key in a.files:
                    far = np.abs(a[key] - b[key]).max() / max(1.0, np.abs(b[key]).max())
                    if far > (0.0 if key.startswith("in.") else OTHER_MACHINE):
                        yield f"{path.name}: {key}: {far:.2g} apart"
        elif path.suffix == ".h5" and not same_h5(path, other):
            yield f"{path.name}: different content"
        elif path.suffix == ".json" and path.name != "index.json" and path.read_text() != other.read_text():
            yield f"{path.name}: different text"
        elif path.suffix == ".keras":
            with zipfile.ZipFile(path) as a, zipfile.ZipFile(other) as b:
                for name in {*a.namelist(), *b.namelist()}:
                    if name not in a.namelist() or name not in b.namelist():
                        yield f"{path.name}: {name} in one archive alone"
                    elif name.endswith(".h5"):
                        if not same_h5(io.BytesIO(a.read(name)), io.BytesIO(b.read(name))):
                            yield f"{path.name}: {name}: different content"
                    elif a.read(name) != b.read(name):
                        yield f"{path.name}: {name}: different text"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the files are, or go: tests/golden/keras3")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file differs")
    parser.add_argument("--only", default="", metavar="TEXT", help="write the models whose name contains TEXT alone")
    args = parser.parse_args()
    if not args.check:
        print(regenerate(args.folder, args.only), "files written")
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        count = regenerate(pathlib.Path(fresh), args.only)
        found = list(differences(pathlib.Path(fresh), args.folder))
    print(*found, f"{count} files written again, {len(found)} differences", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
