"""The recogniser: every kind of input, errors, threads."""

import json
import multiprocessing
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import maeum


def answer(prediction):
    """Everything but the name and the format of the recording."""
    record = prediction.to_dict()
    del record["file"], record["voice"]["format"]
    return record


def test_a_file_gives_labelled_estimates(recognizer, voice):
    p = recognizer.process_file(voice)
    assert p.file == voice
    assert list(p.emotions) == recognizer.emotions
    assert list(p.gender) == recognizer.genders
    assert sum(e.mean for e in p.emotions.values()) == pytest.approx(1)
    assert p.emotions[p.emotion].mean == max(e.mean for e in p.emotions.values())
    low, high = p.age.interval
    assert low <= p.age.years <= high
    assert p.segments and p.windows
    assert p.segments[0].start < p.segments[0].end
    assert p.emotion in repr(p) and p.emotion in p._repr_html_()
    assert pickle.loads(pickle.dumps(p)) == p


def test_answers_are_the_bytes_of_infer(recognizer, voice, infer, tmp_path):
    other = tmp_path / "silence.wav"
    other.write_bytes(pathlib.Path(voice).read_bytes()[:60_044])
    output = subprocess.run([infer, "--format", "jsonl", voice, str(other)], stdout=subprocess.PIPE, text=True)
    lines = output.stdout.splitlines()
    assert len(lines) == 2
    for file, line in zip([voice, other], lines):
        assert recognizer.process_file(file).to_json() == line
    table = recognizer.process_files([voice, other])
    assert [p.to_json() for p in table.predictions] == lines


def test_the_model_of_a_bundle_and_its_draws(voice, tmp_path):
    with pytest.raises(FileNotFoundError):
        maeum.Recognizer(tmp_path / "none.safetensors")
    with pytest.raises(maeum.RecognitionError, match="maeum bundle"):
        maeum.Recognizer(voice)
    for dropout in (0, -1, "on", 1.5, True):
        with pytest.raises(ValueError):
            maeum.Recognizer(dropout=dropout)
    with pytest.raises(ValueError):
        maeum.Recognizer(num_workers=0)
    off = maeum.Recognizer(dropout="off", num_workers=2)
    assert off.num_workers == 2
    assert off.process_file(voice).to_dict()["dropout"]["mode"] == "off"


@pytest.mark.parametrize("kind", ["int16", "float32", "float64", "int32", "uint8"])
def test_samples_of_every_type(recognizer, voice, samples, kind):
    data, rate = samples
    of_file = answer(recognizer.process_file(voice))
    converted = {
        "int16": data,
        "float32": (data / 32768).astype(np.float32),
        "float64": data / 32768,
        "int32": data.astype(np.int32) << 16,
        "uint8": ((data >> 8) + 128).astype(np.uint8),
    }[kind]
    got = answer(recognizer(converted, rate))
    if kind == "uint8":
        assert got["voice"]["duration"] == of_file["voice"]["duration"]
    else:
        assert got == of_file


def test_layouts(recognizer, samples):
    data, rate = samples
    wanted = answer(recognizer.process_signal(data, rate))
    stereo = np.stack([data, data])
    got = answer(recognizer.process_signal(stereo, rate))
    assert got["emotions"] == wanted["emotions"] and got["voice"]["channels"] == 2
    transposed = np.stack([data, data], axis=1).T
    assert not transposed.flags["C_CONTIGUOUS"]
    assert answer(recognizer.process_signal(transposed, rate))["emotions"] == wanted["emotions"]
    strided = np.repeat(data, 2)[::2]
    strided.flags.writeable = False
    assert answer(recognizer.process_signal(strided, rate)) == wanted
    listed = (data / 32768).tolist()
    assert answer(recognizer.process_signal(listed, rate)) == wanted


@pytest.mark.parametrize(
    "signal, rate",
    [
        (np.zeros(0), 16_000),
        (np.zeros((2, 0)), 16_000),
        (np.zeros((2, 2, 2)), 16_000),
        (np.float32(0.5), 16_000),
        (np.full(16_000, np.nan), 16_000),
        (np.full(16_000, np.inf), 16_000),
        (np.zeros(16_000), 16_000),
        (np.ones(100) * 0.1, 16_000),
        (np.ones(16_000) * 0.1, 0),
        (np.ones(16_000) * 0.1, -1),
        (np.ones(16_000) * 0.1, 16_000.5),
        (np.ones(16_000) * 0.1, 2**40),
        (np.arange(16_000), 16_000),
        (np.array(["a"]), 16_000),
        (np.ones(10, dtype=complex), 16_000),
        (np.ones((16_000, 2)), 16_000),
        (np.sin(np.arange(48_000) * 0.02), 16_000),
    ],
)
def test_unusable_signals_are_errors(recognizer, signal, rate):
    with pytest.raises(maeum.RecognitionError) as error:
        recognizer.process_signal(signal, rate)
    assert str(error.value)


def test_errors_name_the_file(recognizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.wav"):
        recognizer.process_file(tmp_path / "none.wav")
    text = tmp_path / "text.wav"
    text.write_text("no recording")
    with pytest.raises(maeum.RecognitionError, match="text.wav") as error:
        recognizer.process_file(text)
    assert error.value.code == "unusable_audio"
    assert isinstance(error.value, ValueError)
    with pytest.raises(maeum.RecognitionError, match="upload"):
        recognizer.process_bytes(b"RIFF", name="upload")


def test_mistakes_are_explained(recognizer, voice, samples):
    data, rate = samples
    with pytest.raises(maeum.RecognitionError, match="32768") as error:
        recognizer(data.astype(np.float32), rate)
    assert error.value.code == "unusable_audio"
    with pytest.raises(maeum.RecognitionError, match="masked"):
        recognizer(np.ma.masked_array(data, mask=data > 0), rate)
    for wrong in (-1, 0.5, "16000", float("nan"), float("inf"), None, 10**30):
        with pytest.raises(maeum.RecognitionError, match="768000"):
            recognizer(data, wrong)
    for files in (voice, pathlib.Path(voice)):
        with pytest.raises(TypeError, match="list"):
            recognizer.process_files(files)
        with pytest.raises(TypeError, match="list"):
            recognizer.enroll(files)
    for arguments in ({"num_workers": 10**9}, {"dropout": 10**9}, {"seed": -1}):
        with pytest.raises(ValueError):
            maeum.Recognizer(**arguments)
    with pytest.raises(maeum.RecognitionError, match="voice.wav"):
        recognizer.process_file(voice, start=9, end=10)
    with pytest.raises(TypeError):
        recognizer.process_bytes(5)


def in_child(voice):
    """Recognise in a forked process, with a recogniser of the parent and one of its own."""
    return len(PARENT.process_files([voice, voice])), len(maeum.Recognizer().process_files([voice]))


def test_a_recogniser_works_after_a_fork(recognizer, voice):
    global PARENT
    PARENT = recognizer
    recognizer.process_files([voice, voice])
    maeum.Recognizer().process_files([voice])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(in_child, (voice,)).get(timeout=60) == (2, 1)


def test_times_of_parts_are_those_of_the_file(recognizer, voice):
    table = recognizer.process_files([voice, voice], starts=[0, 2], ends=[2, 4])
    for part in (table.segments, table.windows):
        assert max(part["end"]) > 2.5
        assert [s >= 2 for s in part["start"]] == sorted(s >= 2 for s in part["start"])


def test_bytes_and_parts(recognizer, voice):
    data = pathlib.Path(voice).read_bytes()
    assert answer(recognizer.process_bytes(data)) == answer(recognizer.process_file(voice))
    part = recognizer.process_file(voice, start=1, end=3)
    assert part.voice["duration"] == pytest.approx(2, abs=1e-3)
    with pytest.raises(maeum.RecognitionError):
        recognizer.process_file(voice, start=100)
    with pytest.raises(maeum.RecognitionError):
        recognizer.process_file(voice, start=2, end=1)


def test_folders_and_failures(recognizer, voice, tmp_path):
    for name in ["b.wav", "a.WAV", "deep/c.wav"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(voice, path)
    (tmp_path / "broken.wav").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    table = recognizer.process_folder(tmp_path, include_root=False)
    assert table["file"] == ["a.WAV", "b.wav", "broken.wav", str(pathlib.Path("deep/c.wav"))]
    assert table["error_code"] == [None, None, "unusable_audio", None]
    assert table["emotion"][2] is None and table.predictions[2] is None
    assert len(table.segments) >= 3 and set(table.windows["file"]) == {"a.WAV", "b.wav", table["file"][3]}
    with pytest.raises(maeum.RecognitionError, match="broken.wav"):
        recognizer.process_folder(tmp_path, on_error="raise")
    with pytest.raises(FileNotFoundError):
        recognizer.process_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        recognizer.process_files(["gone.wav"], root=tmp_path)
    assert len(recognizer.process_files([])) == 0


def test_tables_convert(recognizer, voice):
    pandas = pytest.importorskip("pandas")
    table = recognizer.process_files([voice, voice], starts=[0, 1], ends=[2, None])
    frame = table.to_pandas()
    assert list(frame.columns) == table.columns and len(frame) == 2
    assert frame["start"].tolist() == [0, 1]
    index = pandas.MultiIndex.from_arrays(
        [
            [voice, voice],
            pandas.to_timedelta([0, 1], unit="s"),
            [pandas.Timedelta(2, unit="s"), pandas.NaT],
        ],
        names=["file", "start", "end"],
    )
    by_index = recognizer.process_index(index)
    assert by_index.index.equals(index)
    assert by_index["emotion"].tolist() == frame["emotion"].tolist()
    assert recognizer.process_index(pandas.Index([voice], name="file")).shape[0] == 1


def test_tables_are_arrow_streams(recognizer, voice, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    broken = tmp_path / "broken.wav"
    broken.write_text("no recording")
    table = recognizer.process_files([voice, broken, voice], on_error="record")
    for part in (table, table.segments, table.windows):
        arrow = pyarrow.table(part)
        arrow.validate(full=True)
        assert arrow.to_pydict() == part.to_dict()
        assert arrow.column_names == part.columns
    assert table.to_arrow().equals(pyarrow.table(table))
    # The types do not depend on the values: without any answer they are the same.
    nothing = recognizer.process_files([broken], on_error="record")
    assert nothing.to_arrow().schema == table.to_arrow().schema
    assert nothing.segments.to_arrow().schema == table.segments.to_arrow().schema
    assert nothing.segments.to_arrow().num_rows == 0
    assert {str(t) for t in table.to_arrow().schema.types} == {"large_string", "double"}


def test_an_arrow_stream_is_freed(recognizer, voice):
    resource = pytest.importorskip("resource")
    pyarrow = pytest.importorskip("pyarrow")
    table = recognizer.process_files([voice])
    table._columns = {name: values * 20_000 for name, values in table.to_dict().items()}
    table.__arrow_c_stream__()
    pyarrow.table(table)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        # Both a capsule that nobody reads and one that is read.
        table.__arrow_c_stream__()
        assert pyarrow.table(table).num_rows == 20_000
    # Kept, the 40 streams would take over 100 MiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_polars_needs_no_pyarrow(recognizer, voice):
    pytest.importorskip("polars")
    script = f"""
import sys
sys.modules["pyarrow"] = None
import maeum, polars
table = maeum.Recognizer().process_files([{voice!r}, "none.wav"], on_error="record")
frame = table.to_polars()
assert frame.to_dict(as_series=False) == table.to_dict()
assert polars.DataFrame(table.windows).to_dict(as_series=False) == table.windows.to_dict()
assert frame.schema["emotion"] == polars.String and frame.schema["age"] == polars.Float64
"""
    package = pathlib.Path(maeum.__file__).parent.parent
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": str(package)})


def test_profiles(recognizer, voice):
    profile = recognizer.enroll([voice])
    assert profile.recordings == 1 and profile.seconds > 1
    again = maeum.SpeakerProfile.from_json(profile.to_json())
    assert again == profile and pickle.loads(pickle.dumps(profile)) == profile
    adapted = recognizer.process_file(voice, profile=again)
    assert adapted.to_dict()["speaker"]["recordings"] == 1
    assert adapted.emotions != recognizer.process_file(voice).emotions
    foreign = profile.to_json().replace(recognizer.model_identity, "0" * 64)
    with pytest.raises(maeum.RecognitionError, match="another model"):
        recognizer.process_file(voice, profile=maeum.SpeakerProfile.from_json(foreign))
    with pytest.raises(maeum.RecognitionError):
        maeum.SpeakerProfile.from_json("{}")


def test_threads_share_a_recogniser(recognizer, voice):
    wanted = recognizer.process_file(voice)
    got = []
    threads = [threading.Thread(target=lambda: got.append(recognizer.process_file(voice))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [wanted] * 8


def test_other_threads_run_while_the_library_works(voice):
    recognizer = maeum.Recognizer(num_workers=1)
    ticks, stop = [], threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.monotonic()
    recognizer.process_files([voice] * 40)
    end = time.monotonic()
    stop.set()
    thread.join()
    assert sum(begin < t < end for t in ticks) > 10


def test_progress_and_interruption(voice):
    recognizer = maeum.Recognizer(num_workers=1)
    calls = []

    def stop(done):
        calls.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recognizer._engine.process_many([(voice, None, None)] * 50, stop)
    assert calls == [1, 2, 3]
    pytest.importorskip("tqdm")
    assert len(maeum.Recognizer(verbose=True).process_files([voice] * 2)) == 2


def test_a_recogniser_can_be_sent_to_a_process(recognizer, voice):
    copy = pickle.loads(pickle.dumps(recognizer))
    assert copy.process_file(voice) == recognizer.process_file(voice)


def test_plot(recognizer, voice):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = recognizer.process_file(voice).plot()
    assert len(axes.lines) == len(recognizer.emotions)


def test_cards_and_licences(recognizer):
    assert "maeum" in maeum.model_card()
    assert any("emotion" in estimates for estimates, _, _ in recognizer.licences)
    assert "wav" in maeum.audio_endings()
    json.dumps(recognizer.licences)


def test_evaluation(recognizer, voice, tmp_path):
    shutil.copy(voice, tmp_path / "a.wav")
    shutil.copy(voice, tmp_path / "b.wav")
    emotion = recognizer.process_file(voice).emotion
    rows = ["path,emotion,gender,age,speaker,split", f"a.wav,{emotion},male,30,x,test", "b.wav,fear,male,20,y,train"]
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    evaluation = recognizer.evaluate(manifest, split="test")
    document = evaluation.to_dict()
    assert "emotion" in str(evaluation) and document
    assert json.dumps(document) != json.dumps(recognizer.evaluate(manifest).to_dict())
    with pytest.raises(maeum.RecognitionError):
        recognizer.evaluate(manifest, split="none")
    with pytest.raises(FileNotFoundError):
        recognizer.evaluate(tmp_path / "none.csv")
