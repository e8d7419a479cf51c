"""Common parts of the test models: seeds, weights, forced dropout, and file output."""

import contextlib
import dataclasses
import io
import json
import pathlib
import typing
import zipfile
import zlib

import h5py
import keras
import numpy as np
import tensorflow as tf
from keras import layers as L
from keras.src.engine.functional import Functional
from keras.src.layers.regularization.dropout import Dropout
from keras.src.layers.rnn import gru_lstm_utils

tf.get_logger().setLevel("ERROR")
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
# Keras also traces a variant for GPUs, with gradients, of each LSTM and GRU. That takes much of the time and changes no number here.
gru_lstm_utils.function_register = lambda *_, **__: None


@dataclasses.dataclass
class Case:
    """One test model.

    shapes: input shapes without the batch; build: input tensors -> output tensors or a Model.
    refused: what an error must contain when the model cannot be used. With `may_run` the model
    may be computed instead. legacy: written the way Keras 2.2.4 did. patch: changes the parsed
    model_config in place (or returns another); edit: changes the finished HDF5 file. scale: factors
    on the kernels of the layers named, to keep outputs apart from each other and off their ends.
    layout: `h5` for a whole model, `keras` for an archive, `weights` and `weights.h5` for weights
    alone in one of the two layouts. architecture: `json` or `yaml` for the file beside weights alone;
    it is that of `architecture_of` if that is given, and with `rename` that of the same network built
    again, whose automatic names differ. second: the model is called again without a reset of its states.
    """

    name: str
    covers: str
    build: typing.Callable
    shapes: typing.Sequence = ()
    batch: int = 3
    refused: str = ""
    layer: str = ""
    may_run: bool = False
    legacy: bool = False
    patch: typing.Callable | None = None
    edit: typing.Callable | None = None
    keep_layers: bool = False
    masks: bool = False
    reloads: bool = True
    inputs: typing.Callable | None = None
    names: typing.Sequence | None = None
    scale: dict | None = None
    layout: str = "h5"
    architecture: str = ""
    architecture_of: typing.Callable | None = None
    rename: bool = False
    second: bool = False


CASES: list[Case] = []


def case(name, covers, shapes=(), build=None, **options):
    """Registers a model with the inputs input_1, input_2, ..."""
    shapes = [shapes] if shapes and not isinstance(shapes[0], (tuple, list)) else shapes
    assert all(c.name != name for c in CASES), name
    CASES.append(Case(name, covers, build, shapes, **options))


def rng(*key):
    """Returns a generator specific to this key, so that a new model changes no other."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, key)).encode()))


class LegacyUpSampling2D(L.UpSampling2D):
    """Upsamples like UpSampling2D of Keras 2.2.4 on TensorFlow 1: without a half-pixel shift."""

    def call(self, inputs):
        if self.interpolation != "bilinear":
            return super().call(inputs)
        size = [d * f for d, f in zip(inputs.shape[1:3], self.size)]
        return tf.compat.v1.image.resize_bilinear(inputs, size, align_corners=False, half_pixel_centers=False)


LegacyUpSampling2D.__name__ = "UpSampling2D"


def Spatial_multiply(x):
    """Maps (h, w, c) times an attention map (h, w, 1)."""
    return x[0] * x[1]


def Channel_multiply(x):
    """Maps (h, w, c) times one factor per channel (c)."""
    return x[0] * tf.reshape(x[1], (-1, 1, 1, x[0].shape[-1]))


def portable(function):
    """Removes this program's folder from the function's code, which Lambda layers store."""
    function.__code__ = function.__code__.replace(co_filename="models.py")
    return function


def make_model(item, clear=True):
    if clear:
        keras.backend.clear_session()
    names = item.names or [f"input_{k + 1}" for k in range(len(item.shapes))]
    tensors = [L.Input(s, name=n) for s, n in zip(item.shapes, names)]
    built = item.build(*tensors)
    return built if isinstance(built, keras.Model) else keras.Model(tensors, built, name="model")


def set_weights(model, key, scale=None):
    """Sets seeded weights of both signs without constants, scaled to the fan-in."""
    values = []
    for k, weight in enumerate(model.weights):
        shape = tuple(weight.shape)
        draw = rng(key, "weight", k)
        *owner, kind = weight.name.split(":")[0].split("/")
        if "kernel" in kind or kind in ("embeddings",):
            fan_in = max(1, int(np.prod(shape[:-1])))
            value = draw.standard_normal(shape) / np.sqrt(fan_in) * 1.2
            value *= (scale or {}).get(owner[0], 1.0)
        elif kind == "gamma":
            value = draw.uniform(0.5, 1.5, shape)
        elif kind == "count":
            value = np.zeros(shape)
        elif kind in ("moving_variance", "variance"):
            value = draw.uniform(0.3, 2.0, shape)
        else:
            value = draw.uniform(-0.5, 0.5, shape)
        values.append(value.astype(np.float32))
    model.set_weights(values)


def make_inputs(item, model):
    if item.inputs:
        return item.inputs(item, model)
    return [
        rng(item.name, "input", k).standard_normal((item.batch, *t.shape[1:])).astype(np.float32)
        for k, t in enumerate(model.inputs)
    ]


@contextlib.contextmanager
def dropout_as(mask_of):
    """Forced dropout layers multiply by `mask_of(path, shape)` / (1 - rate); None: do nothing.

    A path is the layer's name behind those of the nested models it runs in, with a dot between
    and _1, _2, ... after a name that runs again in the same place: `model_5_1.dropout_1`.
    """
    stack, counts = [], {}
    run_graph, call = Functional._run_internal_graph, Dropout.call

    def path_of(name):
        place = (*stack, name)
        counts[place] = counts.get(place, -1) + 1
        return f"{name}_{counts[place]}" if counts[place] else name

    def scoped_run(self, *args, **kwargs):
        outermost = not stack
        stack.append("" if outermost else path_of(self.name))
        try:
            return run_graph(self, *args, **kwargs)
        finally:
            stack.pop()

    def masked(self, inputs, training=None):
        if not training:
            return inputs
        path = ".".join([*filter(None, stack), path_of(self.name)])
        noise = self._get_noise_shape(inputs)
        shape = tuple(inputs.shape) if noise is None else tuple(int(d) for d in noise)
        mask = mask_of(path, shape) if mask_of else None
        return inputs if mask is None else inputs * (mask.astype(np.float32) / (1.0 - self.rate))

    Functional._run_internal_graph, Dropout.call = scoped_run, masked
    try:
        yield
    finally:
        Functional._run_internal_graph, Dropout.call = run_graph, call


def evaluate(model, inputs):
    """Returns the model's outputs in order, computed eagerly at inference, as float32."""
    result = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    result = result if isinstance(result, (list, tuple)) else [result]
    return [np.asarray(r, np.float32) for r in result]


# Maximum number of stored values of a layer output; outputs that equal their input are omitted.
LAYER_VALUES = 8192
REPEATS = (L.InputLayer, L.Dropout, L.Reshape, L.Permute, L.Flatten)


def layer_outputs(model, inputs):
    """Returns the outputs of the outermost graph: `name`, `name@call`, `name@call.output`."""
    found = {}
    nodes = {id(n) for ns in model._nodes_by_depth.values() for n in ns}
    for layer in model.layers:
        calls = [n for n in layer.inbound_nodes if id(n) in nodes]
        if isinstance(layer, REPEATS):
            continue
        for k, node in enumerate(calls):
            outs = node.outputs if isinstance(node.outputs, (list, tuple)) else [node.outputs]
            for j, out in enumerate(outs):
                name = layer.name + (f"@{k}" if len(calls) > 1 or len(outs) > 1 else "")
                found[name + (f".{j}" if len(outs) > 1 else "")] = out
    probe = keras.Model(model.inputs, list(found.values()))
    outputs = zip(found, evaluate(probe, inputs))
    return {name: y for name, y in outputs if y.size <= LAYER_VALUES}


def golden_arrays(item, model):
    """Returns every array of the model's .npz."""
    inputs = make_inputs(item, model)
    arrays = {f"in.{n}": x for n, x in zip(model.input_names, inputs)}
    with dropout_as(None):
        arrays |= {f"out.{k}": y for k, y in enumerate(evaluate(model, inputs))}
        if item.second:
            again = [-x for x in inputs]
            arrays |= {f"second.in.{n}": x for n, x in zip(model.input_names, again)}
            arrays |= {f"second.out.{k}": y for k, y in enumerate(evaluate(model, again))}
        if item.keep_layers:
            arrays |= {f"layer.{n}": y for n, y in layer_outputs(model, inputs).items()}
    if item.masks:
        masks = {}

        def mask_of(path, shape):
            masks[path] = (rng(item.name, "mask", path).random(shape) < 0.5).astype(np.uint8)
            return masks[path]

        with dropout_as(mask_of):
            outputs = evaluate(model, inputs)
        arrays |= {f"mask.{p}": m for p, m in masks.items()}
        arrays |= {f"masked_out.{k}": y for k, y in enumerate(outputs)}
    for name, array in arrays.items():
        assert np.isfinite(array).all(), (item.name, name)
    return arrays


def write_npz(path, arrays):
    """Writes an .npz like numpy.savez_compressed, but without the time."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())


def save_h5(path, model):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path, save_format="h5", include_optimizer=False)


def save_file(path, model, item):
    match item.layout:
        case "keras":
            model.save(path)
            fix_archive(path)
        case "weights" | "weights.h5":
            model.save_weights(path)
        case _:
            save_h5(path, model)


def without_addresses(config):
    """Removes the addresses of objects, which differ in every run."""
    if isinstance(config, dict):
        return {k: without_addresses(v) for k, v in config.items() if k != "shared_object_id"}
    return [without_addresses(v) for v in config] if isinstance(config, list) else config


def fix_archive(path):
    """Packs a .keras archive again without the time and addresses."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    metadata = json.loads(files["metadata.json"]) | {"date_saved": "2000-01-01@00:00:00"}
    files["metadata.json"] = json.dumps(metadata).encode()
    files["config.json"] = json.dumps(without_addresses(json.loads(files["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def save_architecture(path, model, item):
    """Writes the architecture beside weights and returns the file's path."""
    import yaml

    if item.architecture_of:
        keras.backend.clear_session()
        model = item.architecture_of()
    elif item.rename:
        model = make_model(item, clear=False)
    text = model.to_json()
    if item.architecture == "yaml":
        # As `to_yaml` did until Keras 2.6.
        text = yaml.dump(model._updated_config())
    path = path.with_name(f"{item.name}.{item.architecture}")
    path.write_text(text + "\n")
    if not item.refused and item.reloads:
        # `set_weights` compared shapes alone; this is what Keras computes from the two files.
        rebuilt = keras.models.model_from_json(model.to_json())
        rebuilt.load_weights(path.with_name(f"{item.name}{SUFFIXES[item.layout]}"))
        return path, rebuilt
    return path, model


SUFFIXES = {"h5": ".h5", "keras": ".keras", "weights": ".h5", "weights.h5": ".weights.h5"}


def read_config(path):
    with h5py.File(path, "r") as file:
        config = file.attrs["model_config"]
    return json.loads(config if isinstance(config, str) else config.decode())


def replace_config(path, config):
    """Copies a file, because an overwritten attribute leaves its old value's space behind."""
    old = path.with_suffix(".old")
    path.rename(old)
    with h5py.File(old, "r") as source, h5py.File(path, "w") as target:
        for name in source.attrs:
            value = source.attrs[name]
            value = json.dumps(config) if name == "model_config" else value
            target.attrs[name] = value if isinstance(value, bytes) else value.encode()
        for name in source:
            source.copy(name, target)
    old.unlink()


def reload(path, legacy):
    """Loads the file with Keras itself."""
    from keras.src.engine.base_layer import TensorFlowOpLayer

    known = {
        "TensorFlowOpLayer": TensorFlowOpLayer,
        "K": keras.backend,
        "Spatial_multiply": Spatial_multiply,
        "Channel_multiply": Channel_multiply,
    }
    if legacy:
        known["UpSampling2D"] = LegacyUpSampling2D
    return keras.models.load_model(path, custom_objects=known, compile=False, safe_mode=False)


def same_outputs(path, item, arrays):
    """Checks that Keras computes the outputs in `arrays` from the file alone."""
    model = reload(path, item.legacy)
    inputs = [arrays[f"in.{n}"] for n in model.input_names]
    with dropout_as(None):
        outputs = evaluate(model, inputs)
    # Older files make recurrent layers sum in another order (`implementation` 1).
    limit = 1e-6 if item.legacy else 0.0
    for k, y in enumerate(outputs):
        expected = arrays[f"out.{k}"]
        np.testing.assert_allclose(y, expected, limit, limit, err_msg=f"{item.name} out.{k}")


def write_case(item, folder):
    """Writes the files of one model and returns its entry of the index."""
    from . import legacy

    folder = pathlib.Path(folder)
    model = make_model(item)
    set_weights(model, item.name, item.scale)
    path = folder / f"{item.name}{SUFFIXES[item.layout]}"
    save_file(path, model, item)
    version = keras.__version__
    if item.legacy:
        version = "2.2.4"
        legacy.rewrite(path, model)
    if item.patch:
        config = read_config(path)
        config = item.patch(config) or config
        replace_config(path, config)
    if item.edit:
        with h5py.File(path, "r+") as file:
            item.edit(file)
    entry = {"name": item.name, "file": path.name, "covers": item.covers, "keras_version": version}
    rebuilt = None
    if item.architecture:
        architecture, rebuilt = save_architecture(path, model, item)
        entry["architecture"] = architecture.name
    if item.refused:
        entry["refused"] = item.refused
        if item.layer:
            entry["refused_layer"] = item.layer
        if item.may_run:
            entry["may_run"] = True
    if not item.refused or item.may_run:
        arrays = golden_arrays(item, model)
        npz = folder / f"{item.name}.npz"
        write_npz(npz, arrays)
        entry["arrays"] = npz.name
        if rebuilt:
            inputs = [arrays[f"in.{n}"] for n in model.input_names]
            for k, y in enumerate(evaluate(rebuilt, inputs)):
                np.testing.assert_array_equal(y, arrays[f"out.{k}"], err_msg=f"{item.name} out.{k}")
        elif item.reloads:
            same_outputs(path, item, arrays)
    return entry
