"""Recognition in Daft, on its native runner: answers equal the recogniser's, from files and from S3."""

import os
import pathlib
import socket

import pytest

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
daft = pytest.importorskip("daft")
import pyarrow  # noqa: E402

import maeum  # noqa: E402
import maeum.daft  # noqa: E402


@pytest.fixture
def files(voice, tmp_path):
    """Parts of the voice, a broken file and an empty one."""
    data = pathlib.Path(voice).read_bytes()
    for i in range(6):
        (tmp_path / f"{i}.wav").write_bytes(data[: len(data) - 10_000 * i])
    (tmp_path / "broken.wav").write_text("no recording")
    (tmp_path / "empty.wav").write_bytes(b"")
    return sorted(tmp_path.glob("*.wav"))


def weights(values):
    return [{"label": name, "weight": weight} for name, weight in values.items()]


def estimates(emotions):
    return [{"label": name, "mean": e.mean, "std": e.std} for name, e in emotions.items()]


def age(value):
    low, high = value.interval or (None, None)
    return {"years": value.years, "low": low, "high": high, "coverage": value.coverage}


def expected(prediction, recognizer):
    """Struct of a prediction, from its Python form."""
    return {
        "schema": 1,
        "emotion": prediction.emotion,
        "emotions": estimates(prediction.emotions),
        "age": age(prediction.age),
        "gender": weights(prediction.gender),
        "duration": prediction.voice["duration"],
        "voiced": prediction.voice["voiced"],
        "segments": [
            {
                "start": s.start,
                "end": s.end,
                "voiced": s.voiced,
                "emotion": s.emotion,
                "emotions": estimates(s.emotions),
                "age": age(s.age),
                "gender": weights(s.gender),
            }
            for s in prediction.segments
        ],
        "windows": [{"start": w.start, "end": w.end, "emotions": weights(w.emotions)} for w in prediction.windows],
        "warnings": prediction.warning_codes,
        "model": recognizer.model_identity,
        "json": prediction.to_json(),
        "error": None,
    }


def check(rows, contents, recognizer):
    assert len(rows) == len(contents)
    for name, answer in rows:
        try:
            prediction = recognizer.process_bytes(contents[name], name=name)
        except maeum.RecognitionError as error:
            failure = {"code": error.code, "message": str(error)}
            assert answer == {**dict.fromkeys(answer), "schema": 1, "error": failure}
        else:
            assert answer == expected(prediction, recognizer)
    assert any(answer["warnings"] for _, answer in rows)
    assert any(len(answer["windows"] or []) > 1 for _, answer in rows)


def test_bytes_in_a_frame(files, recognizer):
    contents = {f.name: f.read_bytes() for f in files}
    frame = daft.from_pydict({"name": list(contents), "data": list(contents.values())})
    frame = frame.with_column("answer", maeum.daft.recognise(frame["data"], name=frame["name"]))
    result = frame.to_pydict()
    check(list(zip(result["name"], result["answer"])), contents, recognizer)
    assert frame.schema()["answer"].dtype == maeum.daft.ANSWER


def test_files_in_a_frame(files, recognizer):
    contents = {str(f): f.read_bytes() for f in files}
    frame = daft.from_pydict({"path": list(contents)})
    frame = frame.with_column("answer", maeum.daft.recognise_files(frame["path"]))
    result = frame.to_pydict()
    check(list(zip(result["path"], result["answer"])), contents, recognizer)
    assert frame.schema()["answer"].dtype == maeum.daft.ANSWER


def test_columns_have_the_type_of_the_frame(voice, recognizer):
    """Daft would convert another type, value by value."""
    column = recognizer._engine.answers_of_files([voice, None])
    array = pyarrow.array(column)
    assert array.type == maeum.daft.ANSWER.to_arrow_dtype() and len(column) == len(array) == 2
    array.validate(full=True)
    with pytest.raises(ValueError):
        recognizer._engine.answers_of_bytes([b""], [])


def test_a_series_made_directly_is_that_of_the_documented_function(files, recognizer):
    assert maeum.daft._IS_DIRECT
    array = pyarrow.array(recognizer._engine.answers_of_files([str(file) for file in files]))
    direct, documented = maeum.daft._directly(array), daft.Series.from_arrow(array)
    assert direct.datatype() == documented.datatype() == maeum.daft.ANSWER
    assert direct.to_pylist() == documented.to_pylist()


def test_files_that_cannot_be_read_are_rows(tmp_path):
    frame = daft.from_pydict({"path": [str(tmp_path / "none.wav"), str(tmp_path), None]})
    answers = frame.select(maeum.daft.recognise_files(frame["path"]).alias("answer")).to_pydict()["answer"]
    assert [a["error"]["code"] for a in answers] == ["unreadable"] * 3
    assert "none.wav" in answers[0]["error"]["message"]


def test_missing_bytes_are_rows(recognizer):
    frame = daft.from_pydict({"data": [None, b""]})
    answers = frame.select(maeum.daft.recognise(frame["data"]).alias("answer")).to_pydict()["answer"]
    assert [a["error"]["code"] for a in answers] == ["unreadable", "unusable_audio"]


def test_object_storage_to_parquet(files, recognizer, tmp_path):
    server = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    storage = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    storage.start()
    try:
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="calls")
        contents = {}
        for file in files:
            contents[f"s3://calls/{file.name}"] = file.read_bytes()
            client.put_object(Bucket="calls", Key=file.name, Body=file.read_bytes())
        config = daft.io.IOConfig(
            s3=daft.io.S3Config(endpoint_url=endpoint, region_name="us-east-1", key_id="x", access_key="x")
        )
        frame = daft.from_glob_path("s3://calls/*.wav", io_config=config)
        frame = frame.with_column("data", frame["path"].download(io_config=config, on_error="null"))
        frame = frame.with_column("answer", maeum.daft.recognise(frame["data"], name=frame["path"]))
        frame.select("path", "answer").write_parquet(str(tmp_path / "out"))
    finally:
        storage.stop()
    result = daft.read_parquet(str(tmp_path / "out") + "/*.parquet").to_pydict()
    check(list(zip(result["path"], result["answer"])), contents, recognizer)
