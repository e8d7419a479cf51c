"""The recogniser."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from ._maeum import Engine, RecognitionError, SpeakerProfile, audio_endings
from ._prediction import Prediction
from ._table import Outcome, Results

if TYPE_CHECKING:
    import numpy.typing as npt

PathLike = Union[str, "os.PathLike[str]"]
#: Most draws of dropout and most threads, as in the program infer.
_MAX_DRAWS, _MAX_WORKERS = 100_000, 1024


def _unusable(message: str) -> RecognitionError:
    error = RecognitionError(message)
    error.code = "unusable_audio"
    return error


def _interleaved(signal: Any) -> Tuple["npt.NDArray[np.float32]", int]:
    """Return contiguous interleaved float32 samples, and the number of channels."""
    if np.ma.isMaskedArray(signal):
        raise _unusable("the signal is a masked array; fill or cut its masked samples first")
    array = np.asarray(signal)
    if array.dtype == object or not (
        np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    ):
        raise _unusable(f"the signal holds {array.dtype}, not real numbers")
    if array.ndim not in (1, 2):
        raise _unusable(f"the signal has shape {array.shape}; give [samples] or [channels, samples]")
    if array.size == 0:
        raise _unusable(f"the signal is empty, of shape {array.shape}")
    channels = 1 if array.ndim == 1 else array.shape[0]
    if channels > 64:
        raise _unusable(
            f"the signal has {channels} channels, at most 64 are accepted; is it [samples, channels]? "
            "Give [channels, samples]"
        )
    if np.issubdtype(array.dtype, np.integer):
        if array.dtype.itemsize > 4:
            raise _unusable(f"samples of type {array.dtype} have no known full scale; give int16, int32 or float")
        # The full scale of an integer type becomes 1.
        info = np.iinfo(array.dtype)
        scale = float(info.max) + 1.0 if info.min < 0 else (float(info.max) + 1.0) / 2.0
        offset = 0.0 if info.min < 0 else scale
        array = (array.astype(np.float64) - offset) / scale
    elif float(np.max(np.abs(array))) > 8:
        # NaN and infinity are refused later, with their place.
        raise _unusable(
            f"samples reach {np.max(np.abs(array)):.0f}, but full scale is 1; divide samples of 16-bit files by 32768"
        )
    flat = array if array.ndim == 1 else array.T.reshape(-1)
    return np.ascontiguousarray(flat, dtype=np.float32), channels


def _rate(sampling_rate: Any) -> int:
    try:
        rate = int(sampling_rate)
    except (TypeError, ValueError, OverflowError):
        rate = -1
    if rate != sampling_rate or not 1_000 <= rate <= 768_000:
        raise _unusable(
            f"a sampling rate of {sampling_rate!r} Hz is not supported; give a whole number from 1000 to 768000"
        )
    return rate


def _list(files: Any) -> List[str]:
    """Return the paths of an iterable."""
    if isinstance(files, (str, bytes, os.PathLike)):
        raise TypeError("give a list of files; process_file takes a single one")
    return [os.fsdecode(file) for file in files]


def _seconds(value: Any) -> Optional[float]:
    """Return a time in seconds of a number, a timedelta or NaT."""
    if value is None:
        return None
    if isinstance(value, np.timedelta64):
        return None if np.isnat(value) else float(value / np.timedelta64(1, "ns")) / 1e9
    if hasattr(value, "total_seconds"):
        # pandas.NaT has the method too.
        seconds = float(value.total_seconds())
    else:
        seconds = float(value)
    return None if seconds != seconds else seconds


class Evaluation:
    """Measures of a model on labelled recordings."""

    def __init__(self, document: str, text: str):
        self._document, self._text = document, text

    def to_dict(self) -> Dict[str, Any]:
        """Return all measures; `docs/eval.md` describes them."""
        document: Dict[str, Any] = json.loads(self._document)
        return document

    def __str__(self) -> str:
        """Return the tables that `infer --eval` prints."""
        return self._text


class Recognizer:
    """Recognises emotion, age and gender in voice recordings.

    Args:
        model: bundle file; the built-in model if it is not given
        dropout: draws of dropout that a model forces on, or `"off"`
        seed: seed of the draws
        num_workers: threads for many recordings; all processors if it is not given
        verbose: show a progress bar for many recordings (with the package `tqdm`)

    >>> Recognizer().emotions[:3]
    ['anger', 'disgust', 'fear']
    """

    def __init__(
        self,
        model: Optional[PathLike] = None,
        *,
        dropout: Union[int, str] = 32,
        seed: int = 0,
        num_workers: Optional[int] = None,
        verbose: bool = False,
    ):
        if dropout == "off":
            draws = 0
        elif isinstance(dropout, (int, np.integer)) and not isinstance(dropout, bool) and 1 <= dropout <= _MAX_DRAWS:
            draws = int(dropout)
        else:
            raise ValueError(f"dropout is {dropout!r}; give 1 to {_MAX_DRAWS} draws, or 'off'")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}; give a number from 0 to 2**64 - 1")
        if num_workers is not None and not 1 <= num_workers <= _MAX_WORKERS:
            raise ValueError(f"num_workers is {num_workers}; give 1 to {_MAX_WORKERS}")
        self._arguments = (model, dropout, seed, num_workers, verbose)
        # Threads of its own: those that a parent process has started are not there after a fork.
        workers = num_workers or min(os.cpu_count() or 1, _MAX_WORKERS)
        path = None if model is None else os.fsdecode(model)
        self._engine_arguments = (path, draws, int(seed), workers)
        self._own_engine, self._process = Engine(*self._engine_arguments), os.getpid()
        self.verbose = verbose

    @property
    def _engine(self) -> Engine:
        """Engine with threads in this process."""
        if self._process != os.getpid():
            self._own_engine, self._process = Engine(*self._engine_arguments), os.getpid()
        return self._own_engine

    def __reduce__(self) -> Tuple[Any, Tuple[Any, ...]]:
        return (_restored, self._arguments)

    def __repr__(self) -> str:
        return f"<Recognizer {self.model_name!r}>"

    @property
    def emotions(self) -> List[str]:
        """Emotion labels in the model's order."""
        return self._engine.emotions

    @property
    def genders(self) -> List[str]:
        """Gender labels in the model's order."""
        return self._engine.genders

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self._engine.model_name

    @property
    def model_identity(self) -> str:
        """SHA-256 of the model's bundle."""
        return self._engine.model_identity

    @property
    def licences(self) -> List[Tuple[List[str], str, str]]:
        """Licences of the results: estimates, SPDX identifier, terms."""
        return self._engine.licences

    @property
    def num_workers(self) -> int:
        """Threads for many recordings."""
        return self._engine.num_workers

    def __call__(self, signal: Any, sampling_rate: int) -> Prediction:
        """Recognise a signal; see `process_signal`."""
        return self.process_signal(signal, sampling_rate)

    def process_file(
        self,
        file: PathLike,
        *,
        start: Any = None,
        end: Any = None,
        profile: Optional[SpeakerProfile] = None,
    ) -> Prediction:
        """Recognise an audio file, or its part between two times in seconds or as timedelta.

        Raises:
            FileNotFoundError: the file does not exist
            RecognitionError: the file cannot be recognised; the message names it and a remedy
        """
        line = self._engine.process_file(os.fsdecode(file), _seconds(start), _seconds(end), self._checked(profile))
        return Prediction(line)

    def process_bytes(
        self, data: bytes, *, name: str = "recording", profile: Optional[SpeakerProfile] = None
    ) -> Prediction:
        """Recognise an audio file in memory; `name` stands for it in errors.

        Raises:
            RecognitionError: the bytes cannot be recognised
        """
        # A large recording is not copied without need.
        content = data if isinstance(data, bytes) else bytes(memoryview(data))
        return Prediction(self._engine.process_bytes(content, name, self._checked(profile)))

    def process_signal(
        self,
        signal: Any,
        sampling_rate: int,
        *,
        name: str = "signal",
        profile: Optional[SpeakerProfile] = None,
    ) -> Prediction:
        """Recognise a signal of shape [samples] or [channels, samples].

        Floating point samples have full scale 1, integers that of their type. Samples are rounded to 16 bits, as those
        of audio files are.

        Raises:
            RecognitionError: the signal cannot be recognised
        """
        samples, channels = _interleaved(signal)
        rate = _rate(sampling_rate)
        line = self._engine.process_samples(samples, channels, rate, name, self._checked(profile))
        return Prediction(line)

    def process_files(
        self,
        files: Iterable[PathLike],
        *,
        starts: Optional[Iterable[Any]] = None,
        ends: Optional[Iterable[Any]] = None,
        root: Optional[PathLike] = None,
        on_error: str = "raise",
        profile: Optional[SpeakerProfile] = None,
    ) -> Results:
        """Recognise many files in parallel and return a table in their order.

        Args:
            files: paths, relative to `root` if it is given
            starts: start of each part, in seconds or as timedelta
            ends: end of each part
            root: folder of the files
            on_error: `"raise"` the first failure, or `"record"` it in the table
            profile: speaker of all recordings

        Raises:
            FileNotFoundError: with `on_error="raise"`, a file does not exist
            RecognitionError: with `on_error="raise"`, a file cannot be recognised
        """
        if on_error not in ("raise", "record"):
            raise ValueError(f"on_error is {on_error!r}; give 'raise' or 'record'")
        names = _list(files)
        begin: List[Optional[float]] = [None] * len(names) if starts is None else [_seconds(s) for s in starts]
        end: List[Optional[float]] = [None] * len(names) if ends is None else [_seconds(e) for e in ends]
        if not len(names) == len(begin) == len(end):
            raise ValueError(f"there are {len(names)} files, {len(begin)} starts and {len(end)} ends")
        folder = None if root is None else os.fsdecode(root)
        paths = names if folder is None else [os.path.join(folder, name) for name in names]
        parts = list(zip(paths, begin, end))
        outcomes = self._run(parts, self._checked(profile))
        if on_error == "raise":
            for path, outcome in zip(paths, outcomes):
                if not isinstance(outcome, Prediction):
                    raise _failure(path, *outcome)
        return Results(names, begin, end, outcomes, self.emotions, self.genders)

    def process_folder(
        self,
        folder: PathLike,
        *,
        filetype: Optional[str] = None,
        include_root: bool = True,
        on_error: str = "record",
        profile: Optional[SpeakerProfile] = None,
    ) -> Results:
        """Recognise all audio files in a folder and below, sorted by name; hidden files are left out.

        Args:
            folder: the folder
            filetype: ending of the files, such as `"wav"`; all supported ones if it is not given
            include_root: whether the names in the table begin with the folder
            on_error: as in `process_files`; here failures are recorded by default
            profile: speaker of all recordings
        """
        base = Path(folder)
        if not base.is_dir():
            raise FileNotFoundError(f"{base}: no such folder")
        endings = [filetype] if filetype else audio_endings()
        wanted = {str(ending).lower().lstrip("*.") for ending in endings}
        found = sorted(
            path
            for path in base.rglob("*")
            if path.suffix.lower().lstrip(".") in wanted
            and not any(part.startswith(".") for part in path.relative_to(base).parts)
            and path.is_file()
        )
        if include_root:
            return self.process_files(found, on_error=on_error, profile=profile)
        names = [path.relative_to(base) for path in found]
        return self.process_files(names, root=base, on_error=on_error, profile=profile)

    def process_index(self, index: Any, *, root: Optional[PathLike] = None) -> Any:
        """Recognise the files or segments of an index in audformat and return a `pandas.DataFrame` with it.

        Args:
            index: `pandas.Index` of files, or `pandas.MultiIndex` with the levels file, start and end
            root: folder of the files
        """
        import pandas

        if isinstance(index, pandas.MultiIndex):
            files = list(index.get_level_values("file"))
            starts: Optional[Sequence[Any]] = list(index.get_level_values("start"))
            ends: Optional[Sequence[Any]] = list(index.get_level_values("end"))
        else:
            files, starts, ends = list(index), None, None
        table = self.process_files(files, starts=starts, ends=ends, root=root, on_error="record")
        frame = table.to_pandas()
        frame = frame.drop(columns=[c for c in ("file", "start", "end") if c in frame.columns])
        frame.index = index
        return frame

    def enroll(self, files: Iterable[PathLike]) -> SpeakerProfile:
        """Make a profile of one speaker from recordings. It is personal data: store it only with consent."""
        return self._engine.enroll(_list(files))

    def evaluate(self, manifest: PathLike, *, split: Optional[str] = None) -> Evaluation:
        """Measure the model on labelled recordings.

        Args:
            manifest: CSV file with the columns path, emotion, gender, age and speaker; see `docs/eval.md`
            split: value of the manifest's column split; all rows if it is not given

        Raises:
            FileNotFoundError: there is no such manifest
            RecognitionError: the manifest cannot be used
        """
        return Evaluation(*self._engine.evaluate(os.fspath(manifest), split))

    def _checked(self, profile: Optional[SpeakerProfile]) -> Optional[SpeakerProfile]:
        if profile is not None:
            self._engine.check_profile(profile)
        return profile

    def _run(
        self,
        parts: List[Tuple[Any, Optional[float], Optional[float]]],
        profile: Optional[SpeakerProfile],
    ) -> List[Outcome]:
        bar = _progress(len(parts)) if self.verbose else None
        update = None if bar is None else (lambda done: bar.update(done - bar.n))
        try:
            outcomes = self._engine.process_many(parts, update, profile)
        finally:
            if bar is not None:
                bar.close()
        results: List[Outcome] = []
        for line, failure in outcomes:
            if line is not None:
                results.append(Prediction(line))
            else:
                assert failure is not None
                results.append(failure)
        return results


def _progress(total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="file")


def _failure(path: str, code: str, message: str) -> Exception:
    if code == "unreadable" and not os.path.exists(path):
        return FileNotFoundError(message)
    error = RecognitionError(message)
    error.code = code
    return error


def _restored(
    model: Optional[PathLike], dropout: Union[int, str], seed: int, num_workers: Optional[int], verbose: bool
) -> Recognizer:
    return Recognizer(model, dropout=dropout, seed=seed, num_workers=num_workers, verbose=verbose)
