"""Writes tests/golden: small Keras models (.h5) and Keras's outputs of them (.npz).

    python tools/keras_reference.py tests/golden           # write everything
    python tools/keras_reference.py --check tests/golden   # write elsewhere and compare

The packages are in tools/requirements-keras.txt and, without their dependencies, in
tools/requirements-kapre.txt. tests/golden/README.md describes the array names of a
.npz file and the fields of index.json.
"""

import argparse
import io
import json
import pathlib
import sys
import tempfile
import zipfile

import h5py
import numpy as np

from keras_reference import (  # noqa: F401
    cases_five,
    cases_graph,
    cases_graph_operations,
    cases_kapre,
    cases_lambda,
    cases_lambda_constants,
    cases_layers,
    cases_masks,
    cases_more,
    cases_recurrent,
    cases_refused,
    cases_weights,
    core,  # The folder beside this file; sets TensorFlow up as it loads.
    marshal_samples,
)

# Maximum difference on another processor, relative to an array's largest magnitude: vector units
# may sum in another order.
OTHER_MACHINE = 1e-5


def regenerate(folder, only, pythons):
    folder.mkdir(parents=True, exist_ok=True)
    models = []
    for item in core.CASES:
        if only in item.name:
            models.append(core.write_case(item, folder))
    five = cases_five.write_five(folder / "five")
    marshal_samples.write(folder / "lambda", pythons)
    index = {"models": models, "five": five}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    return len(models)


def differences(fresh, kept):
    """Yields the files in `kept` that the program would write differently today."""
    for path in sorted(fresh.rglob("*")):
        other = kept / path.relative_to(fresh)
        name = path.relative_to(fresh)
        if path.is_dir():
            continue
        if not other.is_file():
            yield f"{name}: missing"
        elif path.suffix == ".npz":
            yield from (f"{name}: {text}" for text in array_differences(path, other))
        elif path.suffix == ".h5":
            yield from (f"{name}: {text}" for text in h5_differences(path, other))
        elif path.suffix == ".keras":
            yield from archive_differences(path, other)
        elif path.suffix in (".json", ".yaml") and path.read_text() != other.read_text():
            yield f"{name}: different text"
    for path in sorted(p for p in kept.rglob("*") if p.suffix in (".npz", ".h5", ".keras", ".yaml")):
        # Files of tools/train/utterance_golden.py, default_golden.py and keras3_reference.py.
        if path.relative_to(kept).parts[0] in ("utterance", "default.npz", "commercial.npz", "keras3"):
            continue
        if not (fresh / path.relative_to(kept)).is_file():
            yield f"{path.relative_to(kept)}: no longer written"


def array_differences(path, other):
    with np.load(path) as ours, np.load(other) as theirs:
        if set(ours.files) != set(theirs.files):
            yield f"other arrays: {sorted(set(ours.files) ^ set(theirs.files))}"
            return
        for key in ours.files:
            a, b = ours[key], theirs[key]
            if a.shape != b.shape or a.dtype != b.dtype:
                yield f"{key}: {a.dtype}{a.shape} against {b.dtype}{b.shape}"
            elif key.split(".")[-2] in ("in", "mask") or a.dtype == np.uint8:
                if not np.array_equal(a, b):
                    yield f"{key}: different values"
            elif a.size:
                far = np.abs(a.astype(np.float64) - b).max() / max(1.0, np.abs(b).max())
                if far > OTHER_MACHINE:
                    yield f"{key}: {far:.2g} apart"


def archive_differences(path, other):
    with zipfile.ZipFile(path) as ours, zipfile.ZipFile(other) as theirs:
        if ours.namelist() != theirs.namelist():
            yield f"{path.name}: other files"
            return
        for name in ours.namelist():
            if name.endswith(".h5"):
                both = io.BytesIO(ours.read(name)), io.BytesIO(theirs.read(name))
                yield from (f"{path.name}, {name}: {text}" for text in h5_differences(*both))
            elif ours.read(name) != theirs.read(name):
                yield f"{path.name}, {name}: different text"


def h5_differences(path, other):
    def content(name):
        found = {}

        def visit(where, item):
            for key, value in item.attrs.items():
                found[f"{where}@{key}"] = value
            if isinstance(item, h5py.Dataset):
                found[where] = item[()]

        with h5py.File(name, "r") as file:
            visit("", file)
            file.visititems(visit)
        return found

    ours, theirs = content(path), content(other)
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in ours or key not in theirs:
            yield f"{key[:80]}: in one file alone"
        else:
            # assert_array_equal accepts NaN as equal to NaN, and a broken model contains one.
            try:
                np.testing.assert_array_equal(ours[key], theirs[key])
            except AssertionError:
                yield f"{key[:80]}: different values"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the files are, or go: tests/golden")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a file is not what would be written"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="write the models whose name contains TEXT alone")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PROGRAM",
        help="write the Lambda samples of this Python too (repeatable)",
    )
    args = parser.parse_args()
    pythons = [sys.executable, *args.python]
    if not args.check:
        print(regenerate(args.folder, args.only, pythons), "models written")
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        count = regenerate(pathlib.Path(fresh), "", pythons)
        found = list(differences(pathlib.Path(fresh), args.folder))
    for line in found:
        print(line)
    print(count, "models written again,", len(found), "differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
