"""Networks: conversion of Keras files, and their execution on numpy arrays."""

import os
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from . import _maeum
from ._recognizer import PathLike


class Network:
    """Network of a Keras `.h5` file or of a bundle, run on named arrays.

    Args:
        file: `.h5` file or bundle
        role: role of the network in a bundle of several, such as `"age"`
    """

    def __init__(self, file: PathLike, *, role: Optional[str] = None):
        self._network = _maeum.Network(os.fspath(file), role)

    @property
    def inputs(self) -> Dict[str, Tuple[Optional[int], ...]]:
        """Shapes of the inputs without the batch; `None` is an open dimension."""
        return {name: tuple(shape) for name, shape in self._network.inputs}

    @property
    def outputs(self) -> List[str]:
        """Names of the outputs."""
        return self._network.outputs

    def __call__(
        self, arrays: Mapping[str, Any], *, dropout: Union[int, str] = "off", seed: int = 0
    ) -> Dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]:
        """Run the network; the first dimension of every array is the batch.

        Raises:
            RecognitionError: an array is missing or has another shape
        """
        given = [(name, np.ascontiguousarray(array, dtype=np.float32)) for name, array in arrays.items()]
        return self._network.run(given, 0 if dropout == "off" else int(dropout), seed)


def convert(source: PathLike, output: PathLike) -> str:
    """Convert a Keras `.h5` file, or the folder of a speech model's files, to a bundle; return its SHA-256.

    Raises:
        FileNotFoundError: there is no such file or folder
        RecognitionError: it is not supported; the message lists all reasons
    """
    return _maeum.convert(os.fspath(source), os.fspath(output))
