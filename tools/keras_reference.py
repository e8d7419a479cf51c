"""Writes tests/golden: small Keras models (.h5) and what Keras computes from them (.npz).

    python tools/keras_reference.py tests/golden           # write everything
    python tools/keras_reference.py --check tests/golden   # write elsewhere and compare

Runs on the packages of tools/requirements-keras.txt. The names in a .npz and the fields of
index.json are described in tests/golden/README.md.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import keras_reference as package
from keras_reference import core

import numpy as np

# A processor with other vector units may sum in another order; no array may move further.
OTHER_MACHINE = 1e-5


def regenerate(folder, only=""):
    from keras_reference import cases_layers  # noqa: F401

    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for item in core.CASES:
        if only in item.name:
            entries.append(core.write_case(item, folder))
            print(item.name, file=sys.stderr)
    index = {"models": entries}
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    regenerate(pathlib.Path(sys.argv[1]), *sys.argv[2:])
