"""Recognition in Daft data frames: from bytes in object storage to columns, on one machine or a cluster.

>>> import daft, maeum.daft                                                     # doctest: +SKIP
>>> frame = daft.from_glob_path("s3://bucket/calls/*.wav")                      # doctest: +SKIP
>>> frame = frame.with_column("data", frame["path"].download())                 # doctest: +SKIP
>>> frame = frame.with_column("answer", maeum.daft.recognise(frame["data"], name=frame["path"]))  # doctest: +SKIP

Daft sends telemetry unless the environment variable `DAFT_ANALYTICS_ENABLED` is `0`.
"""

import functools
import os
from typing import Any, Optional, Tuple, Union

import daft
import pyarrow
from daft import DataType

from ._maeum import ANSWER_SCHEMA
from ._recognizer import PathLike, Recognizer

#: Rows that a worker takes at once.
_BATCH = 16
#: Version of the struct that `recognise` returns. New fields do not change it.
SCHEMA = ANSWER_SCHEMA

_WEIGHTS = DataType.list(
    DataType.struct({"label": DataType.string(), "mean": DataType.float64(), "std": DataType.float64()})
)
_GENDERS = DataType.list(DataType.struct({"label": DataType.string(), "weight": DataType.float64()}))
_AGE = DataType.struct({name: DataType.float64() for name in ("years", "low", "high", "coverage")})
_SEGMENT = DataType.struct(
    {
        "start": DataType.float64(),
        "end": DataType.float64(),
        "voiced": DataType.float64(),
        "emotion": DataType.string(),
        "emotions": _WEIGHTS,
        "age": _AGE,
        "gender": _GENDERS,
    }
)
_WINDOW = DataType.struct(
    {"start": DataType.float64(), "end": DataType.float64(), "emotions": _GENDERS}
)
#: Type of an answer. `error` is null exactly if there is an answer.
ANSWER = DataType.struct(
    {
        "schema": DataType.int32(),
        "emotion": DataType.string(),
        "emotions": _WEIGHTS,
        "age": _AGE,
        "gender": _GENDERS,
        "duration": DataType.float64(),
        "voiced": DataType.float64(),
        "segments": DataType.list(_SEGMENT),
        "windows": DataType.list(_WINDOW),
        "warnings": DataType.list(DataType.string()),
        "model": DataType.string(),
        "json": DataType.string(),
        "error": DataType.struct({"code": DataType.string(), "message": DataType.string()}),
    }
)


def _directly(array: pyarrow.Array) -> daft.Series:
    """Return an array as Daft's series, by functions that its documentation does not name."""
    from daft.daft import PySeries

    return daft.Series._from_pyseries(PySeries.from_arrow("answer", array))


def _is_direct() -> bool:
    """Return whether this version of Daft has the functions of `_directly`."""
    try:
        return _directly(pyarrow.array([{"answer": [1.0]}])).to_pylist() == [{"answer": [1.0]}]
    except Exception:
        return False


_IS_DIRECT = _is_direct()


def _series(answers: Any) -> Union[daft.Series, pyarrow.Array]:
    """Return answers as Daft takes them.

    `Series.from_arrow`, which Daft calls with an array, derives its type in Python. That takes several times as long
    as the rest.
    """
    array = pyarrow.array(answers)
    return _directly(array) if _IS_DIRECT else array


@functools.lru_cache(maxsize=1)
def _shared(model: Optional[str], version: Any, dropout: Union[int, str], seed: int) -> Recognizer:
    """Return the recogniser of this process: workers in threads share it, and queries one after the other."""
    # Daft runs one worker per processor.
    return Recognizer(model, dropout=dropout, seed=seed, num_workers=1)


def _version(model: Optional[str]) -> Any:
    """Return a value that changes with the content of a file."""
    if model is None or not os.path.exists(model):
        return None
    status = os.stat(model)
    return status.st_mtime_ns, status.st_size, status.st_ino


@daft.cls
class _Recogniser:
    """Recogniser of one worker."""

    def __init__(self, model: Optional[str], dropout: Union[int, str], seed: int):
        self._recognizer = _shared(model, _version(model), dropout, seed)

    # Small batches: they divide the rows evenly between the processors.
    @daft.method.batch(return_dtype=ANSWER, batch_size=_BATCH)
    def of_data(self, data: daft.Series, names: daft.Series) -> Any:
        named = [name or "recording" for name in names.to_pylist()]
        read = [_read(one, name) for one, name in zip(data.to_pylist(), named)]
        return _series(self._recognizer._engine.answers_of_bytes(read, named))

    @daft.method.batch(return_dtype=ANSWER, batch_size=_BATCH)
    def of_files(self, files: daft.Series) -> Any:
        return _series(self._recognizer._engine.answers_of_files(files.to_pylist()))


def _read(data: Any, name: str) -> Union[bytes, Tuple[str, str]]:
    """Return the bytes of a value, or code and message of the failure."""
    if isinstance(data, bytes):
        return data
    if data is None:
        return "unreadable", f"{name}: there are no bytes"
    try:
        if isinstance(data, (bytearray, memoryview)):
            return bytes(data)
        with data.open() as file:
            return bytes(file.read())
    except Exception as error:
        # A failure of the storage is a row too: a batch of millions must not end.
        return "internal", f"{name}: {error}"


def recognise(
    data: daft.Expression,
    *,
    name: Optional[daft.Expression] = None,
    model: Optional[PathLike] = None,
    dropout: Union[int, str] = 32,
    seed: int = 0,
) -> daft.Expression:
    """Return the answers for a column of audio files, as a struct column of the type `ANSWER`.

    A recording that cannot be used is a row with its `error`; the function does not raise.

    Args:
        data: column of bytes or of `daft.File`
        name: column of names, which stand for the recordings in answers and errors
        model: bundle file, readable on every worker; the built-in model if it is not given
        dropout: draws of dropout that a model forces on, or `"off"`
        seed: seed of the draws
    """
    names = daft.lit("recording") if name is None else name
    path = None if model is None else str(model)
    # Called with expressions, a Daft method returns one.
    recogniser: Any = _Recogniser(path, dropout, seed)
    answers: daft.Expression = recogniser.of_data(data, names)
    return answers


def recognise_files(
    files: daft.Expression,
    *,
    model: Optional[PathLike] = None,
    dropout: Union[int, str] = 32,
    seed: int = 0,
) -> daft.Expression:
    """Return the answers for a column of paths of audio files, as `recognise` does.

    The workers read the files themselves, which costs less than a column of bytes. The path stands for the recording
    in answers and errors; a file that cannot be read is a row with the error `unreadable`.

    Args:
        files: column of paths, readable on every worker; no URLs
        model: bundle file, readable on every worker; the built-in model if it is not given
        dropout: draws of dropout that a model forces on, or `"off"`
        seed: seed of the draws
    """
    path = None if model is None else str(model)
    recogniser: Any = _Recogniser(path, dropout, seed)
    answers: daft.Expression = recogniser.of_files(files)
    return answers
