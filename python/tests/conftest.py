"""Fixtures: the repository's synthetic voice, and the program `infer` where it is built."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def voice():
    return str(ROOT / "tests" / "data" / "voice.wav")


@pytest.fixture(scope="session")
def infer():
    """Path of the program `infer` of the same source, from MAEUM_INFER."""
    program = os.environ.get("MAEUM_INFER")
    if not program:
        pytest.skip("set MAEUM_INFER to the program infer")
    subprocess.run([program, "--version"], check=True, stdout=subprocess.DEVNULL)
    return program


@pytest.fixture(scope="session")
def recognizer():
    import maeum

    return maeum.Recognizer()


@pytest.fixture(scope="session")
def samples(voice):
    """Samples of the voice as int16, and their rate."""
    import wave

    import numpy as np

    with wave.open(voice) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        data = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return data, file.getframerate()
