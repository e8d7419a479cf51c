"""Emotion, age and gender from voice recordings.

>>> import maeum
>>> recognizer = maeum.Recognizer()
>>> prediction = recognizer.process_file("voice.wav")          # doctest: +SKIP
>>> prediction.emotion, round(prediction.age.years)             # doctest: +SKIP
('happiness', 26)

The estimates describe how a recording sounds. They are not to be used for decisions about people.
"""

from ._maeum import RecognitionError, SpeakerProfile, __version__, audio_endings, model_card
from ._network import Network, convert
from ._prediction import Age, Estimate, Prediction, Segment, Window
from ._recognizer import Recognizer
from ._table import Table

__all__ = [
    "Age",
    "Estimate",
    "Network",
    "Prediction",
    "RecognitionError",
    "Recognizer",
    "Segment",
    "SpeakerProfile",
    "Table",
    "Window",
    "__version__",
    "audio_endings",
    "convert",
    "model_card",
]
