from os import PathLike
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union, final

import numpy as np
import numpy.typing as npt

_Path = Union[str, "PathLike[str]"]
_Outcome = Tuple[Optional[str], Optional[Tuple[str, str]]]

__all__ = [
    "__version__",
    "RecognitionError",
    "ANSWER_SCHEMA",
    "AnswerColumn",
    "Engine",
    "SpeakerProfile",
    "Network",
    "convert",
    "arrow_stream",
    "run_program",
    "model_card",
    "audio_endings",
]

__version__: str
ANSWER_SCHEMA: int

class RecognitionError(ValueError):
    code: str

@final
class SpeakerProfile:
    @staticmethod
    def from_json(text: str) -> SpeakerProfile: ...
    def to_json(self) -> str: ...
    def __reduce__(self) -> Tuple[Callable[[str], SpeakerProfile], Tuple[str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    @property
    def recordings(self) -> int: ...
    @property
    def seconds(self) -> float: ...

@final
class AnswerColumn:
    def __len__(self) -> int: ...
    def __arrow_c_array__(self, requested_schema: Optional[object] = None) -> Tuple[object, object]: ...

@final
class Engine:
    def __new__(
        cls, model: Optional[_Path], draws: int, seed: int, threads: Optional[int]
    ) -> Engine: ...
    def process_file(
        self,
        file: _Path,
        start: Optional[float] = None,
        end: Optional[float] = None,
        profile: Optional[SpeakerProfile] = None,
    ) -> str: ...
    def process_bytes(
        self, data: bytes, name: str, profile: Optional[SpeakerProfile] = None
    ) -> str: ...
    def process_samples(
        self,
        samples: npt.NDArray[np.float32],
        channels: int,
        sampling_rate: int,
        name: str,
        profile: Optional[SpeakerProfile] = None,
    ) -> str: ...
    def process_many(
        self,
        parts: List[Tuple[_Path, Optional[float], Optional[float]]],
        progress: Optional[Callable[[int], object]] = None,
        profile: Optional[SpeakerProfile] = None,
    ) -> List[_Outcome]: ...
    def answers_of_bytes(
        self, data: Sequence[Union[bytes, Tuple[str, str]]], names: Sequence[str]
    ) -> AnswerColumn: ...
    def answers_of_files(self, files: Sequence[Optional[_Path]]) -> AnswerColumn: ...
    def enroll(self, files: Sequence[_Path]) -> SpeakerProfile: ...
    def evaluate(self, manifest: _Path, split: Optional[str] = None) -> Tuple[str, str]: ...
    def check_profile(self, profile: SpeakerProfile) -> None: ...
    @property
    def emotions(self) -> List[str]: ...
    @property
    def genders(self) -> List[str]: ...
    @property
    def model_name(self) -> str: ...
    @property
    def model_identity(self) -> str: ...
    @property
    def licences(self) -> List[Tuple[List[str], str, str]]: ...
    @property
    def num_workers(self) -> int: ...

@final
class Network:
    def __new__(cls, file: _Path, role: Optional[str] = None) -> Network: ...
    @property
    def inputs(self) -> List[Tuple[str, List[Optional[int]]]]: ...
    @property
    def outputs(self) -> List[str]: ...
    def run(
        self, arrays: List[Tuple[str, npt.NDArray[np.float32]]], draws: int, seed: int
    ) -> Dict[str, npt.NDArray[np.float32]]: ...
    def run_with_states(
        self,
        arrays: List[Tuple[str, npt.NDArray[np.float32]]],
        states: Optional[List[Tuple[str, npt.NDArray[np.float32]]]],
    ) -> Tuple[Dict[str, npt.NDArray[np.float32]], Dict[str, npt.NDArray[np.float32]]]: ...

def convert(source: _Path, output: _Path) -> str: ...
def arrow_stream(columns: Sequence[Tuple[str, bool, Sequence[object]]]) -> object: ...
def run_program(program: str, arguments: Sequence[str]) -> Optional[int]: ...
def model_card() -> str: ...
def audio_endings() -> List[str]: ...
