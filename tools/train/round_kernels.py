"""Rounds the kernels of trained networks, as train.py does before it saves them.

    python tools/train/round_kernels.py FOLDER

changes the `.h5` files in FOLDER, but for merge.h5, whose two weights stay as they were fitted. A second run changes
nothing.
"""

import sys
from pathlib import Path

import h5py

from networks import round_kernel


def main(folder):
    for file in sorted(Path(folder).glob("*.h5")):
        if file.name == "merge.h5":
            continue
        with h5py.File(file, "r+") as opened:

            def visit(name, item):
                if isinstance(item, h5py.Dataset) and item.ndim > 1:
                    item[...] = round_kernel(item[...])

            opened["model_weights"].visititems(visit)


if __name__ == "__main__":
    main(sys.argv[1])
