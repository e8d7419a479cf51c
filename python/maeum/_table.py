"""Tables: the answers for many recordings as columns."""

from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from ._maeum import arrow_stream
from ._prediction import Prediction

#: Columns of text; every other column holds numbers.
_TEXT = frozenset(["file", "emotion", "warnings", "error_code", "error"])

#: Prediction, or code and message of the failure.
Outcome = Union[Prediction, Tuple[str, str]]


class Table:
    """Answers for many recordings: one row per recording, in the order given.

    `segments` and `windows` are tables with one row per segment or window. A table converts to pandas, polars and
    Arrow if these packages are installed.
    """

    def __init__(self, columns: Dict[str, List[Any]]):
        self._columns = columns

    @property
    def columns(self) -> List[str]:
        """Names of the columns."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), []))

    def __getitem__(self, column: str) -> List[Any]:
        return self._columns[column]

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        """Yield the rows as dictionaries."""
        for row in zip(*self._columns.values()):
            yield dict(zip(self._columns, row))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} rows, {len(self._columns)} columns>"

    def to_dict(self) -> Dict[str, List[Any]]:
        """Return the columns."""
        return {name: list(values) for name, values in self._columns.items()}

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`."""
        import pandas

        return pandas.DataFrame(self._columns)

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`."""
        import pyarrow

        return pyarrow.table(self)

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`."""
        import polars

        return polars.DataFrame(self)

    def __arrow_c_stream__(self, requested_schema: Optional[object] = None) -> object:
        """Return a capsule of the Arrow C stream interface; columns hold strings or 64-bit floats.

        The schema does not depend on the values. A requested schema is not applied, as the interface allows.
        """
        columns = [(name, name in _TEXT, values) for name, values in self._columns.items()]
        return arrow_stream(columns)


class Results(Table):
    """Table of recordings that keeps the predictions."""

    def __init__(
        self,
        files: List[str],
        starts: List[Optional[float]],
        ends: List[Optional[float]],
        outcomes: List[Outcome],
        emotions: List[str],
        genders: List[str],
    ):
        self.files, self.starts, self.ends, self.outcomes = files, starts, ends, outcomes
        self._labels = (emotions, genders)
        columns: Dict[str, List[Any]] = {"file": list(files)}
        if any(s is not None for s in starts) or any(e is not None for e in ends):
            columns["start"], columns["end"] = list(starts), list(ends)
        columns["emotion"] = [p.emotion if p else None for p in self.predictions]
        for name in emotions:
            columns[name] = [p.emotions[name].mean if p else None for p in self.predictions]
        for name in emotions:
            columns[name + "_std"] = [p.emotions[name].std if p else None for p in self.predictions]
        columns["age"] = [p.age.years if p else None for p in self.predictions]
        for i, end in enumerate(("age_low", "age_high")):
            columns[end] = [p.age.interval[i] if p and p.age.interval else None for p in self.predictions]
        for name in genders:
            columns[name] = [p.gender[name] if p else None for p in self.predictions]
        columns["duration"] = [p.voice["duration"] if p else None for p in self.predictions]
        columns["warnings"] = [" ".join(p.warning_codes) if p else None for p in self.predictions]
        columns["error_code"] = [None if isinstance(o, Prediction) else o[0] for o in outcomes]
        columns["error"] = [None if isinstance(o, Prediction) else o[1] for o in outcomes]
        super().__init__(columns)

    @property
    def predictions(self) -> List[Optional[Prediction]]:
        """Prediction of each recording; `None` where there is none."""
        return [o if isinstance(o, Prediction) else None for o in self.outcomes]

    @property
    def segments(self) -> Table:
        """Table with one row per stretch of speech; times in seconds of the file."""
        emotions, genders = self._labels
        columns: Dict[str, List[Any]] = {
            name: [] for name in ["file", "start", "end", "emotion", *emotions, "age", *genders]
        }
        for file, begin, prediction in zip(self.files, self.starts, self.predictions):
            for segment in prediction.segments if prediction else []:
                shift = begin or 0.0
                row = {
                    "file": file,
                    "start": segment.start + shift,
                    "end": segment.end + shift,
                    "emotion": segment.emotion,
                }
                row.update({name: segment.emotions[name].mean for name in emotions})
                row.update({"age": segment.age.years, **segment.gender})
                for name, values in columns.items():
                    values.append(row[name])
        return Table(columns)

    @property
    def windows(self) -> Table:
        """Table with one row per window; times in seconds of the file."""
        emotions, genders = self._labels
        columns: Dict[str, List[Any]] = {name: [] for name in ["file", "start", "end", *emotions, "age", *genders]}
        for file, begin, prediction in zip(self.files, self.starts, self.predictions):
            for window in prediction.windows if prediction else []:
                shift = begin or 0.0
                row = {"file": file, "start": window.start + shift, "end": window.end + shift, "age": window.age}
                row.update(window.emotions)
                row.update({name: window.gender.get(name) for name in genders})
                for name, values in columns.items():
                    values.append(row[name])
        return Table(columns)
