"""Compares the outputs of pytorch.py's networks with Keras and the original of 2020, on the CPU.

    python3 -m venv .venv && .venv/bin/pip install -r tools/requirements-pytorch.txt
    .venv/bin/python tools/gpu_check/pytorch_check.py [REFERENCE]

Each network gets the weights of the Keras file of its name in tests/golden, and its outputs are compared
with Keras's. Then the original's files are compared with the original's outputs, dropout off. These are
in REFERENCE (or MAEUM_REFERENCE_DIR), in models/*.h5 and golden/*.npz; without them, that half is
skipped with a message. The exit code is 1 if a difference is too large.
"""

import os
import pathlib
import sys

import h5py
import numpy
import torch
from torch import nn

from pytorch import NETWORKS, FeaturesNetwork, WindowNetwork, softmax

# Maximum difference of values around 1. Sums of up to 1600 products in float32 differ in order from
# Keras, which makes 1e-6 here; the margin is for other processors. A wrong architecture changes
# some output by at least 7e-3: pixel-centre upsampling, a plain sigmoid in the LSTM, no second
# pass.
TOLERANCE = 1e-4
KERAS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"

# The original's files, their networks at full size, and the names of a recording's input and output
# arrays.
FEATURES = ("dct", "dst", "hist", "moments")
ORIGINAL = {
    "Model_Emotion_crop": (NETWORKS["arch_emotion_windows"], ["crops"], ["emotion_crop.output_layer"]),
    "Model_Age_crop": (
        lambda: WindowNetwork((8, 16, 32), 64, 1, nn.Identity()),
        ["crops"],
        ["age_crop.output_layer"],
    ),
    "Model_Gender_crop": (
        lambda: WindowNetwork((8, 16, 32), 64, 2, torch.sigmoid),
        ["crops"],
        ["gender_crop.output_layer"],
    ),
    "Model_Emotion_Features": (
        lambda: FeaturesNetwork((16, 32, 64)),
        FEATURES,
        [f"features_det.output_{name}" for name in (*FEATURES, "total")],
    ),
}

PARTS = {
    "kernel": "weight",
    "recurrent_kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def places(network):
    """Returns the module's name for each of Keras's layers."""
    if isinstance(network, WindowNetwork):
        names = {f"conv2d_{n + 1}": f"convolutions.{n}" for n in range(3)}
        return names | {"lstm_1": "input", "dense_1": "attention", "output_layer": "output"}
    names = {"dense_17": "total"}
    for n, features in enumerate(FEATURES):
        inside = {
            f"conv2d_{n + 1}": "trunk.0",
            f"batch_normalization_{n + 1}": "trunk.2",
            f"dense_{n + 1}": "spatial.2",
            f"conv2d_{2 * n + 5}": "body.0.0",
            f"batch_normalization_{2 * n + 5}": "body.0.2",
            f"conv2d_{2 * n + 6}": "body.1.0",
            f"batch_normalization_{2 * n + 6}": "body.1.2",
            f"dense_{2 * n + 5}": "body.3",
            f"dense_{2 * n + 6}": "body.5",
            f"TD_attention_{features}_1": "channel.0",
            f"TD_attention_{features}_2": "channel.2",
            f"dense_{n + 13}": "output",
        }
        names |= {layer: f"branches.{n}.{module}" for layer, module in inside.items()}
    return names


def with_weights(network, path):
    """Loads a Keras file's weights into the network: all of them, and no others."""
    modules, state = places(network), {}

    def take(where, dataset):
        if not isinstance(dataset, h5py.Dataset):
            return
        *_, layer, weight = where.removesuffix(":0").split("/")
        module = "recurrent" if weight == "recurrent_kernel" else modules[layer]
        values = torch.from_numpy(dataset[()])
        if values.ndim == 4:
            values = values.permute(3, 2, 0, 1)
        elif values.ndim == 2:
            if module.endswith("body.3"):
                # Keras flattens channels last, PyTorch channels first.
                channels = network.get_submodule(module.replace("body.3", "body.1.0")).out_channels
                values = values.unflatten(0, (-1, channels)).transpose(0, 1).flatten(0, 1)
            values = values.T
        state[f"{module}.{PARTS[weight]}"] = values

    with h5py.File(path) as file:
        file["model_weights"].visititems(take)
    network.load_state_dict(state)
    return network.eval()


def outputs(network, inputs):
    shaped = zip(inputs, network.shapes)
    tensors = [torch.from_numpy(x).float().reshape(-1, *shape) for x, shape in shaped]
    answer = network(*tensors)
    return answer if isinstance(answer, list) else [answer]


def compare(what, network, inputs, expected):
    """Returns whether all outputs are close; NaN is not."""
    found = outputs(network, inputs)
    assert len(found) == len(expected) and all(f.shape == e.shape for f, e in zip(found, expected)), what
    worst = max(float(numpy.max(numpy.abs(f.numpy() - e))) for f, e in zip(found, expected))
    good = all(numpy.allclose(f.numpy(), e, rtol=0, atol=TOLERANCE) for f, e in zip(found, expected))
    print(f"{what}: {worst:.1e}" + ("" if good else f" FAILED: more than {TOLERANCE:.0e}"))
    return good


def keras():
    for name, make in NETWORKS.items():
        arrays = numpy.load(KERAS / f"{name}.npz")
        inputs, expected = ([arrays[k] for k in sorted(arrays) if k.startswith(p)] for p in ("in.", "out."))
        yield compare(f"Keras, {name}", with_weights(make(), KERAS / f"{name}.h5"), inputs, expected)


def original(reference):
    recordings = sorted((reference / "golden").glob("*.npz"))
    models = reference / "models"
    if not recordings or not all((models / f"{name}.h5").exists() for name in ORIGINAL):
        print(f"SKIPPED: the original's networks; {reference} has not its models/*.h5 and golden/*.npz")
        return
    for name, (make, inputs, expected) in ORIGINAL.items():
        network = with_weights(make(), models / f"{name}.h5")
        for path in recordings:
            with numpy.load(path) as arrays:
                taken = [[arrays[key] for key in keys] for keys in (inputs, expected)]
            yield compare(f"original, {name}, {path.stem}", network, *taken)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MAEUM_REFERENCE_DIR", "../shared")
    with torch.inference_mode():
        good = [*keras(), *original(pathlib.Path(folder))]
    print(f"{sum(good)} passed, {len(good) - sum(good)} failed")
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
