"""Recognition in Daft data frames: from bytes in object storage to columns, on one machine or a cluster.

>>> import daft, maeum.daft                                                     # doctest: +SKIP
>>> frame = daft.from_glob_path("s3://bucket/calls/*.wav")                      # doctest: +SKIP
>>> frame = frame.with_column("data", frame["path"].download())                 # doctest: +SKIP
>>> frame = frame.with_column("answer", maeum.daft.recognise(frame["data"], name=frame["path"]))  # doctest: +SKIP

Daft sends telemetry unless the environment variable `DAFT_ANALYTICS_ENABLED` is `0`.
"""

import functools
import os
from typing import Any, Dict, List, Optional, Union

import daft
import pyarrow
from daft import DataType

from ._maeum import RecognitionError
from ._prediction import Age, Prediction
from ._recognizer import PathLike, Recognizer

#: Rows that a worker takes at once.
_BATCH = 16
#: Version of the struct that `recognise` returns. New fields do not change it.
SCHEMA = 1

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

_ARROW = ANSWER.to_arrow_dtype()


def _weights(emotions: Dict[str, Any]) -> List[Dict[str, Any]]:
    return [{"label": name, "mean": e.mean, "std": e.std} for name, e in emotions.items()]


def _labelled(weights: Dict[str, float]) -> List[Dict[str, Any]]:
    return [{"label": name, "weight": weight} for name, weight in weights.items()]


def _age(age: Age) -> Dict[str, Optional[float]]:
    low, high = age.interval or (None, None)
    return {"years": age.years, "low": low, "high": high, "coverage": age.coverage}


def _answer(prediction: Prediction, identity: str) -> Dict[str, Any]:
    return {
        "schema": SCHEMA,
        "emotion": prediction.emotion,
        "emotions": _weights(prediction.emotions),
        "age": _age(prediction.age),
        "gender": _labelled(prediction.gender),
        "duration": prediction.voice["duration"],
        "voiced": prediction.voice["voiced"],
        "segments": [
            {
                "start": s.start,
                "end": s.end,
                "voiced": s.voiced,
                "emotion": s.emotion,
                "emotions": _weights(s.emotions),
                "age": _age(s.age),
                "gender": _labelled(s.gender),
            }
            for s in prediction.segments
        ],
        "windows": [
            {"start": w.start, "end": w.end, "emotions": _labelled(w.emotions)} for w in prediction.windows
        ],
        "warnings": prediction.warning_codes,
        "model": identity,
        "json": prediction.to_json(),
        "error": None,
    }


def _failure(code: str, message: str) -> Dict[str, Any]:
    row: Dict[str, Any] = dict.fromkeys(
        ("emotion", "emotions", "age", "gender", "duration", "voiced", "segments", "windows", "warnings", "model", "json")
    )
    return {"schema": SCHEMA, **row, "error": {"code": code, "message": message}}


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
        self._identity = self._recognizer.model_identity

    # Small batches: they divide the rows evenly between the processors.
    @daft.method.batch(return_dtype=ANSWER, batch_size=_BATCH)
    def rows(self, data: daft.Series, names: daft.Series) -> Any:
        rows = [self._row(d, n) for d, n in zip(data.to_pylist(), names.to_pylist())]
        # Ten times as fast as Daft's own conversion of dictionaries.
        return pyarrow.array(rows, _ARROW)

    def _row(self, data: Any, name: Optional[str]) -> Dict[str, Any]:
        name = name or "recording"
        try:
            if data is None:
                return _failure("unreadable", f"{name}: there are no bytes")
            if not isinstance(data, (bytes, bytearray, memoryview)):
                with data.open() as file:
                    data = file.read()
            return _answer(self._recognizer.process_bytes(bytes(data), name=name), self._identity)
        except RecognitionError as error:
            return _failure(error.code, str(error))
        except Exception as error:
            # Any other failure, such as one of the storage, is a row too: a batch of millions must not end.
            return _failure("internal", f"{name}: {error}")


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
    answers: daft.Expression = recogniser.rows(data, names)
    return answers
