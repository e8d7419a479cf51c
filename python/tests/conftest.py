"""Fixtures: the repository's synthetic voice, and the program `infer` where it is built."""

import os
import pathlib
import socket
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


@pytest.fixture
def s3(monkeypatch):
    """Client of a server of S3's interface on loopback with the buckets calls and answers; the environment names it."""
    server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    storage = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    storage.start()
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="calls")
        client.create_bucket(Bucket="answers")
        yield client
    finally:
        storage.stop()
