"""`python -m maeum.batch --table`: a job is in its table once, however often it is killed and repeated."""

import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import pytest

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
pytest.importorskip("daft")

from maeum import _batch_table, _storage, batch  # noqa: E402
from test_batch import environment, folder, rows, run, upload  # noqa: E402, F401

#: Runs a job and kills it: `before` or `after` its commit, or N seconds after its commit has begun.
KILLED = """
import os, signal, sys, threading, time
from maeum import _batch_table, batch
name, moment, *arguments = sys.argv[1:]
kind = getattr(_batch_table, name)
commit = kind.commit
def killed(*arguments):
    if moment not in ("before", "after"):
        threading.Timer(float(moment), lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    if moment != "before":
        commit(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
kind.commit = killed
batch.main(arguments)
"""


def read_environment(monkeypatch):
    """Let PyIceberg read the environment again, which it does when it is imported."""
    config = pytest.importorskip("pyiceberg.utils.config")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", config.Config())


class DeltaTable:
    """Delta table beside the answers."""

    options = ["--table", "delta"]
    kind = "Delta"

    def __init__(self, out, monkeypatch):
        self.deltalake = pytest.importorskip("deltalake")
        self.answers = str(out / "answers")

    def committer(self):
        return _batch_table.open_table("delta", None)

    def is_there(self):
        return self.deltalake.DeltaTable.is_deltatable(self.answers)

    def rows(self):
        options = _storage.delta_options(self.answers)
        return self.deltalake.DeltaTable(self.answers, storage_options=options).to_pyarrow_table().to_pylist()


class IcebergTable:
    """Iceberg table in a catalogue of SQLite."""

    kind = "Iceberg"

    def __init__(self, out, monkeypatch):
        pytest.importorskip("pyiceberg.catalog.sql")
        catalog = out.parent / "catalog"
        catalog.mkdir(parents=True, exist_ok=True)
        prefix = "PYICEBERG_CATALOG__CALLS__"
        monkeypatch.setenv(prefix + "TYPE", "sql")
        monkeypatch.setenv(prefix + "URI", f"sqlite:///{catalog}/catalog.db")
        monkeypatch.setenv(prefix + "WAREHOUSE", f"file://{catalog}")
        read_environment(monkeypatch)
        self.name = "voices." + out.name.replace("-", "_")
        self.options = ["--table", f"iceberg:{self.name}", "--catalog", "calls"]

    def committer(self):
        return _batch_table.open_table(f"iceberg:{self.name}", "calls")

    def catalog(self):
        from pyiceberg.catalog import load_catalog

        return load_catalog("calls")

    def is_there(self):
        catalog = self.catalog()
        return catalog.table_exists(self.name) and catalog.load_table(self.name).current_snapshot() is not None

    def rows(self):
        found = self.catalog().load_table(self.name).scan().to_arrow().to_pylist()
        for row in found:
            if row["answer"]["error"]:
                # PyIceberg returns an empty list for a list that is null.
                row["answer"] = {name: None if value == [] else value for name, value in row["answer"].items()}
        return found


@pytest.fixture(params=[DeltaTable, IcebergTable])
def table(request, tmp_path, monkeypatch):
    return request.param(tmp_path / "out", monkeypatch)


def by_path(found):
    return sorted(found, key=lambda row: row["path"])


def killed(table, moment, folder, out):
    command = [sys.executable, "-c", KILLED, table.kind, str(moment), str(folder), str(out), "--part-files", "5"]
    result = subprocess.run([*command, *table.options], stderr=subprocess.PIPE, text=True, env=environment())
    assert result.returncode == -signal.SIGKILL, result.stderr


def test_rows_are_those_of_the_parts(table, folder, tmp_path):
    out = tmp_path / "out"
    # The table may be asked for when the job is finished already.
    assert run(folder, out, "--part-files", 5).returncode == batch.REFUSED
    assert not table.is_there()
    for _ in range(2):
        result = run(folder, out, *table.options)
        assert result.returncode == batch.REFUSED, result.stderr
        assert by_path(table.rows()) == by_path(rows(out))
    assert len(table.rows()) == 12


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_job_killed_at_its_commit(table, folder, tmp_path, moment):
    out = tmp_path / "out"
    killed(table, moment, folder, out)
    assert table.is_there() == (moment == "after")
    assert not (out / "_SUCCESS.json").exists()
    assert run(folder, out, *table.options).returncode == batch.REFUSED
    assert by_path(table.rows()) == by_path(rows(out))


def test_jobs_killed_within_their_commit(table, folder, tmp_path):
    out = tmp_path / "out"
    assert run(folder, out, "--part-files", 5).returncode == batch.REFUSED
    seed = random.randrange(10**9)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(4):
        killed(table, rng.uniform(0, 0.3), folder, out)
    assert run(folder, out, *table.options).returncode == batch.REFUSED
    assert by_path(table.rows()) == by_path(rows(out))


def test_two_runs_at_once(table, folder, tmp_path):
    """In object storage nothing locks the output: both runs commit."""
    out = tmp_path / "out"
    assert run(folder, out, "--part-files", 5).returncode == batch.REFUSED
    output = batch.Folder(str(out))
    sizes = output.sizes()
    for job in ("one", "two", "three"):
        if isinstance(table, DeltaTable):
            # A table of its own for each job.
            shutil.rmtree(out / "answers" / "_delta_log", ignore_errors=True)
        barrier, failures = threading.Barrier(2), []

        def commit(committer):
            barrier.wait(60)
            try:
                committer.commit(table.answers if hasattr(table, "answers") else copy, sizes, counts, job)
            except Exception as error:
                failures.append(error)

        counts = dict.fromkeys(sizes, 5)
        copy = str(out / f"copy-{job}")
        shutil.copytree(out / "answers", copy)
        threads = [threading.Thread(target=commit, args=(table.committer(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
    times = 1 if isinstance(table, DeltaTable) else 3
    paths = collections.Counter(row["path"] for row in table.rows())
    assert len(paths) == 12 and set(paths.values()) == {times}


def test_a_table_in_object_storage(s3, table, folder, monkeypatch):
    keys = upload(s3, folder)
    job = ["s3://calls/2026", "s3://answers/run", "--part-files", 5]
    table.answers = "s3://answers/run/answers"
    monkeypatch.setenv("PYICEBERG_CATALOG__CALLS__S3__ENDPOINT", os.environ["AWS_ENDPOINT_URL"])
    read_environment(monkeypatch)
    for _ in range(2):
        result = run(*job, *table.options)
        assert result.returncode == batch.REFUSED, result.stderr
        paths = [row["path"] for row in table.rows()]
        assert len(paths) == 12 and len(set(paths) & set(keys)) == 12


def test_a_catalogue_begun_twice_at_once(tmp_path, monkeypatch):
    for number in range(10):
        table = IcebergTable(tmp_path / str(number) / "out", monkeypatch)
        barrier, failures = threading.Barrier(2), []

        def open_it():
            barrier.wait(60)
            try:
                table.committer()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=open_it) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures


def test_a_table_of_another_job_is_refused(folder, tmp_path, monkeypatch, capsys):
    table = DeltaTable(tmp_path / "out", monkeypatch)
    assert batch.main([str(folder), str(tmp_path / "out"), *table.options]) == batch.REFUSED
    sizes = batch.Folder(str(tmp_path / "out")).sizes()
    with pytest.raises(_batch_table.TableError, match="another job"):
        table.committer().commit(table.answers, sizes, dict.fromkeys(sizes, 12), "other")
    capsys.readouterr()
    for text in ("parquet", "delta:x", "iceberg", "iceberg:", "iceberg:name"):
        assert batch.main([str(folder), str(tmp_path / "o"), "--table", text]) == batch.USAGE
        assert text in capsys.readouterr().err
    assert batch.main([str(folder), str(tmp_path / "o"), "--table", "iceberg:a.b", "--catalog", "none"]) == batch.USAGE
    assert "none" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
