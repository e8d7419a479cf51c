"""Networks: conversion of Keras files, and their execution on numpy arrays."""

import os
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from . import _maeum
from ._maeum import RecognitionError
from ._recognizer import PathLike

Arrays = Dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]


def _real(name: str, array: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return the array as float32. Raise an error for complex numbers and masks, which float32 cannot hold."""
    problem = None
    if np.ma.isMaskedArray(array):
        problem = "is a masked array; fill its masked elements first"
    else:
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            problem = f"holds {array.dtype}, not real numbers"
        elif array.ndim and array.shape[0] == 0:
            problem = f"has shape {array.shape}, an empty batch; give at least one element of the first dimension"
    if problem is not None:
        error = RecognitionError(f"the array {name!r} {problem}")
        error.code = "input"
        raise error
    return np.ascontiguousarray(array, dtype=np.float32)


def _named(arrays: Mapping[str, Any]) -> "List[Tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]":
    return [(name, _real(name, array)) for name, array in arrays.items()]


class Network:
    """Network of a Keras `.h5` file or of a bundle, run on named arrays.

    Args:
        file: `.h5` file or bundle
        role: role of the network in a bundle of several, such as `"age"`; a `.h5` file has none

    Raises:
        FileNotFoundError: there is no such file
        RecognitionError: it is not supported, or has no network of that role
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
    ) -> Arrays:
        """Run the network; the first dimension of every array is the batch.

        Raises:
            RecognitionError: an array is missing, has another shape, or holds no real numbers
        """
        return self._network.run(_named(arrays), 0 if dropout == "off" else int(dropout), seed)

    def run_with_states(
        self, arrays: Mapping[str, Any], states: Optional[Mapping[str, Any]] = None
    ) -> Tuple[Arrays, Arrays]:
        """Run a network with stateful recurrent layers, with dropout off; return its outputs and its last states.

        Args:
            arrays: inputs
            states: the states that an earlier run returned, which this run continues; zeros if `None`

        Raises:
            RecognitionError: the network has no stateful layers, an array is missing, has another shape, or holds no
                real numbers
        """
        return self._network.run_with_states(_named(arrays), None if states is None else _named(states))


def convert(source: PathLike, output: PathLike) -> str:
    """Convert a Keras `.h5` file, or the folder of a speech model's files, to a bundle; return its SHA-256.

    Raises:
        FileNotFoundError: there is no such file or folder
        RecognitionError: it is not supported; the message lists all reasons
    """
    return _maeum.convert(os.fspath(source), os.fspath(output))
