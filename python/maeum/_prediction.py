"""Predictions: the answer for one recording, in Python's form."""

import json
from html import escape
from typing import Any, Dict, List, NamedTuple, Optional, Tuple


class Estimate(NamedTuple):
    """Probability of a label: mean and sample standard deviation over the draws of forced dropout."""

    mean: float
    std: float


class Age(NamedTuple):
    """Age in years, as the voice sounds."""

    years: float
    #: Lower and upper end of an interval that holds the age of `coverage` of speakers, if the model has one.
    interval: Optional[Tuple[float, float]]
    coverage: Optional[float]


class Segment(NamedTuple):
    """Stretch of speech that was answered by itself; times in seconds of the recording, or of its part."""

    start: float
    end: float
    voiced: float
    emotions: Dict[str, Estimate]
    emotion: str
    age: Age
    gender: Dict[str, float]


class Window(NamedTuple):
    """Window of two seconds; times in seconds of the recording, or of its part."""

    start: float
    end: float
    emotions: Dict[str, float]
    age: Optional[float]
    gender: Dict[str, float]


def _age(record: Dict[str, Any]) -> Age:
    interval = record.get("interval")
    if interval is None:
        return Age(record["years"], None, None)
    return Age(record["years"], (interval["low"], interval["high"]), interval["coverage"])


def _estimates(record: Dict[str, Any]) -> Dict[str, Estimate]:
    return {name: Estimate(e["mean"], e["std"]) for name, e in record.items()}


class Prediction:
    """Answer for one recording."""

    __slots__ = ("_line", "_record")

    def __init__(self, line: str):
        self._line = line
        self._record: Dict[str, Any] = json.loads(line)

    @property
    def file(self) -> str:
        """Name of the recording."""
        return str(self._record["file"])

    @property
    def emotions(self) -> Dict[str, Estimate]:
        """Probabilities of all emotions; the means sum to 1."""
        return _estimates(self._record["emotions"])

    @property
    def emotion(self) -> str:
        """Emotion with the highest probability."""
        return str(self._record["strongest"])

    @property
    def age(self) -> Age:
        """Age in years, as the voice sounds."""
        return _age(self._record["age"])

    @property
    def gender(self) -> Dict[str, float]:
        """Weights of the genders, as the voice sounds."""
        return dict(self._record["gender"])

    @property
    def voice(self) -> Dict[str, Any]:
        """Duration, speech and format of the recording; see `docs/json.md`."""
        return dict(self._record["voice"])

    @property
    def segments(self) -> List[Segment]:
        """Stretches of speech with their own estimates, in order."""
        return [
            Segment(
                s["start"], s["end"], s["voiced"], _estimates(s["emotions"]), s["strongest"], _age(s["age"]),
                dict(s["gender"]),
            )
            for s in self._record["segments"]
        ]

    @property
    def windows(self) -> List[Window]:
        """Windows of the timeline, in order."""
        return [
            Window(w["start"], w["end"], dict(w["emotions"]), w["age"], dict(w["gender"] or {}))
            for w in self._record["timeline"]
        ]

    @property
    def warnings(self) -> List[str]:
        """Reasons to doubt the answer; usually none."""
        return [w["message"] for w in self._record["warnings"]]

    @property
    def warning_codes(self) -> List[str]:
        """Stable names of the warnings."""
        return [w["code"] for w in self._record["warnings"]]

    def to_dict(self) -> Dict[str, Any]:
        """Return everything as a dictionary; `docs/json.md` describes its fields."""
        record: Dict[str, Any] = json.loads(self._line)
        return record

    def to_json(self) -> str:
        """Return the line that `infer --format jsonl` prints, without its end."""
        return self._line

    def plot(self, ax: Any = None) -> Any:
        """Plot the emotions over time with matplotlib; return the axes."""
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(8, 3))
        windows = self.windows
        middles = [(w.start + w.end) / 2 for w in windows]
        for name in self.emotions:
            ax.plot(middles, [w.emotions[name] for w in windows], marker="o", label=name)
        ax.set(xlabel="time in s", ylabel="weight", ylim=(0, 1), title=self.file)
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return ax

    def __repr__(self) -> str:
        weight = self.emotions[self.emotion].mean
        return f"<Prediction {self.file!r}: {self.emotion} {weight:.0%}, {self.age.years:.0f} years>"

    def _repr_html_(self) -> str:
        rows = []
        for name, estimate in sorted(self.emotions.items(), key=lambda e: -e[1].mean):
            rows.append(
                f"<tr><td>{escape(name)}</td><td>{estimate.mean:.1%}</td><td>"
                f'<svg width="200" height="10"><rect width="{200 * estimate.mean:.1f}" height="10" '
                'fill="#4477aa"/></svg></td></tr>'
            )
        genders = ", ".join(f"{escape(name)} {weight:.0%}" for name, weight in self.gender.items())
        return (
            f"<b>{escape(self.file)}</b><table>{''.join(rows)}</table>"
            f"<p>{self.age.years:.0f} years; {genders}</p>"
            f"<small>{escape(str(self._record['notice']))}</small>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prediction) and self._line == other._line

    def __hash__(self) -> int:
        return hash(self._line)

    def __reduce__(self) -> Tuple[Any, Tuple[str]]:
        return (Prediction, (self._line,))
