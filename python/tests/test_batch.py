"""`python -m maeum.batch`: answers equal those of infer, and every file exactly once after any interruption."""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")
pytest.importorskip("daft")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

import maeum  # noqa: E402
from maeum import batch  # noqa: E402

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
BATCH = [sys.executable, "-m", "maeum.batch"]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(PACKAGE), **more}


def run(*arguments, **more):
    command = [*BATCH, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more))


def start(*arguments, **more):
    """Start a job with a part for each file."""
    command = [*BATCH, *map(str, arguments), "--part-files", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more))


def wait_for_a_part(process):
    line = ""
    for line in process.stderr:
        if line.startswith("maeum.batch: part "):
            return
    raise AssertionError("the job ended: " + line)


@pytest.fixture
def folder(voice, tmp_path):
    """Folder with parts of the voice in two folders, unusable files and files that are left out."""
    data = pathlib.Path(voice).read_bytes()
    source = tmp_path / "calls"
    (source / "a b").mkdir(parents=True)
    for i in range(10):
        (source / ("a b" if i % 2 else ".") / f"#{i}%20.wav").write_bytes(data[: len(data) - 9_000 * i])
    (source / "broken.wav").write_text("no recording")
    (source / "empty.WAV").write_bytes(b"")
    (source / "notes.txt").write_text("no recording")
    (source / ".hidden.wav").write_bytes(data)
    (source / "loop").symlink_to(source)
    return source


def rows(out):
    """Rows of all files of answers; checks that each path occurs once and the list of parts is right."""
    out = pathlib.Path(out)
    files = sorted((out / "answers").glob("*.parquet"))
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    paths = [row["path"] for row in found]
    assert len(paths) == len(set(paths))
    assert paths == pq.read_table(out / "manifest.parquet")["path"].to_pylist()
    success = json.loads((out / "_SUCCESS.json").read_text())
    assert [part["name"] for part in success["parts"]] == [file.name for file in files]
    assert success["files"] == len(found) == sum(part["rows"] for part in success["parts"])
    codes = collections.Counter(r["answer"]["error"]["code"] if r["answer"]["error"] else "answered" for r in found)
    assert success["counts"] == codes
    return found


def lines_of_infer(infer, source):
    output = subprocess.run([infer, "--format", "jsonl", source], stdout=subprocess.PIPE, text=True)
    records = {json.loads(line)["file"]: line for line in output.stdout.splitlines()}
    assert len(records) == 12
    return records


def check(found, records):
    assert {row["path"] for row in found} == set(records)
    for row in found:
        record = json.loads(records[row["path"]])
        if "error" in record:
            assert row["answer"]["error"] == {"code": record["code"], "message": record["error"]}
        else:
            assert row["answer"]["json"] == records[row["path"]]
            assert row["answer"]["error"] is None


def test_rows_are_those_of_infer(folder, infer, tmp_path):
    out = tmp_path / "out"
    result = run(folder, out, "--part-files", 5)
    assert result.returncode == batch.REFUSED, result.stderr
    assert result.stdout == "12 files: 10 answered, 2 refused (unusable_audio 2)\n"
    check(rows(out), lines_of_infer(infer, folder))
    # The manifest begins with the largest files, and no part exceeds its limits.
    manifest = pq.read_table(out / "manifest.parquet").to_pydict()
    assert manifest["size"] == sorted(manifest["size"], reverse=True)
    assert collections.Counter(manifest["part"]) == {0: 5, 1: 5, 2: 2}
    before = {f: f.stat().st_mtime_ns for f in (out / "answers").iterdir()}
    again = run(folder, out)
    assert (again.returncode, again.stdout) == (result.returncode, result.stdout)
    assert {f: f.stat().st_mtime_ns for f in (out / "answers").iterdir()} == before


def test_a_killed_job_continues(folder, infer, tmp_path):
    out = tmp_path / "out"
    seed = random.randrange(10**9)
    print("seed", seed)
    rng = random.Random(seed)
    kills, written = 0, {}
    while kills < 4 and len(written) < 12:
        process = start(folder, out)
        # From the first finished part on: a kill before that repeats only the start. Soon after it: a fast
        # machine finishes all parts in a fraction of a second.
        wait_for_a_part(process)
        time.sleep(rng.uniform(0, 0.05) if kills else 0)
        process.kill()
        process.communicate()
        kills += 1
        for file in (out / "answers").glob("*.parquet"):
            # Every file of answers is whole, and no later run writes it again.
            stamp = file.stat().st_mtime_ns
            assert written.setdefault(file.name, stamp) == stamp
            assert pq.read_table(file).num_rows == 1
    result = run(folder, out)
    assert result.returncode == batch.REFUSED, result.stderr
    assert kills >= 2 and f"{len(written)} of 12 files are finished" in result.stderr
    check(rows(out), lines_of_infer(infer, folder))


def kill_and_continue(*job):
    """Kill a job for the recordings of `folder` after its first part and run it again to its end."""
    process = start(*job)
    wait_for_a_part(process)
    process.kill()
    process.communicate()
    result = run(*job)
    assert result.returncode == batch.REFUSED, result.stderr
    assert "of 12 files are finished" in result.stderr


def upload(client, folder):
    """Put the recordings of a folder into the bucket calls; return the file of each URL."""
    keys = {}
    for file in sorted(folder.rglob("*.*")):
        if "loop" not in file.parts and file.is_file():
            key = f"2026/{file.relative_to(folder)}"
            client.put_object(Bucket="calls", Key=key, Body=file.read_bytes())
            keys[f"s3://calls/{key}"] = str(file)
    return keys


def test_object_storage(s3, folder, infer, tmp_path):
    keys = upload(s3, folder)
    kill_and_continue("s3://calls/2026", "s3://answers/run/1")
    for item in s3.list_objects_v2(Bucket="answers")["Contents"]:
        path = tmp_path / "out" / item["Key"].removeprefix("run/1/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket="answers", Key=item["Key"])["Body"].read())
    assert run("s3://calls/none", "s3://answers/run/2").returncode == batch.USAGE
    new = run("s3://calls/2026/broken.*", "s3://answers/run/3")
    assert new.returncode == batch.REFUSED and all(l.startswith("maeum.batch: ") for l in new.stderr.splitlines())
    single = run("s3://calls/2026/#0%20.wav", "s3://answers/run/4")
    assert single.returncode == batch.ANSWERED and single.stdout.startswith("1 files: 1 answered"), single
    # A folder may have the name of a recording.
    s3.put_object(Bucket="calls", Key="b.wav/c.wav", Body=(folder / "#0%20.wav").read_bytes())
    inside = run("s3://calls/b.wav", "s3://answers/run/5")
    assert inside.returncode == batch.ANSWERED and inside.stdout.startswith("1 files: 1 answered"), inside
    missing = run("s3://other/2026", "s3://answers/run/2")
    assert missing.returncode == batch.USAGE and "s3://other" in missing.stderr
    found = rows(tmp_path / "out")
    assert {row["path"] for row in found} <= set(keys)
    # The names differ, everything else is what infer answers for the file.
    records = lines_of_infer(infer, folder)
    for row in found:
        file = keys[row["path"]]
        line = records[next(name for name in records if os.path.samefile(name, file))]
        if row["answer"]["error"] is None:
            ours, theirs = json.loads(row["answer"]["json"]), json.loads(line)
            assert ours.pop("file") == row["path"] and theirs.pop("file")
            assert ours == theirs
        else:
            assert row["answer"]["error"]["code"] == json.loads(line)["code"]


def test_a_source_of_one_recording(folder, tmp_path, capsys):
    file = folder / "#0%20.wav"
    assert batch.main([str(file), str(tmp_path / "out")]) == batch.ANSWERED
    assert [row["path"] for row in rows(tmp_path / "out")] == [str(file)]
    assert batch.main([str(folder / "notes.txt"), str(tmp_path / "o")]) == batch.USAGE
    assert "notes.txt: no such folder, recording" in capsys.readouterr().err


def test_a_list_of_files(folder, tmp_path, capsys):
    file = str(folder / "#0%20.wav")
    listed = tmp_path / "list.csv"
    listed.write_text(f'path,size\n"{file}",7\n"{file}",\n')
    assert batch.main([str(listed), str(tmp_path / "out")]) == batch.ANSWERED
    assert [(row["path"], row["size"]) for row in rows(tmp_path / "out")] == [(file, 7)]
    listed = tmp_path / "list.parquet"
    for table, message in (
        (pa.table({"path": pa.array([file, None], pa.string())}), "1 rows have no path"),
        (pa.table({"file": [file]}), "no list of files with a column path"),
    ):
        pq.write_table(table, listed)
        assert batch.main([str(listed), str(tmp_path / "o")]) == batch.USAGE
        assert message in capsys.readouterr().err


def test_another_job_is_refused(folder, voice, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out), "--part-files", "6"]) == batch.REFUSED
    for more in (["--dropout", "off"], ["--seed", "1"]):
        assert batch.main([str(folder), str(out), *more]) == batch.USAGE
        assert "was begun with" in capsys.readouterr().err
    assert batch.main([str(folder / "a b"), str(out)]) == batch.USAGE
    assert "source" in capsys.readouterr().err
    (out / "answers" / "other.parquet").write_bytes(b"")
    assert batch.main([str(folder), str(out)]) == batch.USAGE
    assert "other.parquet" in capsys.readouterr().err
    (out / "answers" / "other.parquet").unlink()
    (out / "manifest.parquet").write_bytes(b"damaged")
    assert batch.main([str(folder), str(out)]) == batch.USAGE
    (out / "manifest.parquet").unlink()
    assert batch.main([str(folder), str(out)]) == batch.USAGE
    assert "manifest" in capsys.readouterr().err
    for arguments in (
        [tmp_path / "none", tmp_path / "o"],
        [tmp_path / "out", tmp_path / "o"],
        [folder, voice],
        [folder, "hf://datasets/a/b"],
        [folder, tmp_path / "o", "--model", voice],
        [folder, tmp_path / "o", "--model", tmp_path / "none"],
        [folder, tmp_path / "o", "--dropout", "0"],
    ):
        assert batch.main([str(a) for a in arguments]) == batch.USAGE, arguments
        assert capsys.readouterr().err.startswith("maeum.batch: ")
    with pytest.raises(SystemExit) as wrong:
        batch.main([str(folder), str(out), "--part-files", "0"])
    assert wrong.value.code == 2


def test_a_damaged_part_is_written_again(folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out), "--part-files", "6"]) == batch.REFUSED
    first, second = sorted((out / "answers").iterdir())
    content = first.read_bytes()
    for damaged in (b"", content[:-20], second.read_bytes()):
        first.write_bytes(damaged)
        assert batch.main([str(folder), str(out)]) == batch.REFUSED
        assert "damaged" in capsys.readouterr().err
        assert first.read_bytes() == content
    rows(out)


def test_a_second_run_waits(folder, tmp_path, capsys):
    out = tmp_path / "out"
    process = start(folder, out)
    wait_for_a_part(process)
    # Stopped, so that it cannot end before the second run looks.
    process.send_signal(signal.SIGSTOP)
    assert batch.main([str(folder), str(out)]) == batch.USAGE
    assert "another run" in capsys.readouterr().err
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == batch.INTERRUPTED and "same command" in errors
    assert batch.main([str(folder), str(out)]) == batch.REFUSED
    rows(out)


def test_what_cannot_be_read(folder, voice, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch, "_RETRIES", (0.0,))
    deleted, blocked = tmp_path / "deleted.wav", tmp_path / "blocked.wav"
    # A folder under the name of a file is an error of the storage; a file that is gone is an answer.
    blocked.mkdir()
    listed = tmp_path / "list.csv"
    listed.write_text(f"path\n{voice}\n{deleted}\n{blocked}\n{voice}\n")
    out = tmp_path / "out"
    assert batch.main([str(listed), str(out), "--part-files", "1"]) == batch.UNFINISHED
    errors = capsys.readouterr().err
    assert "blocked.wav" in errors and "--record-unreadable" in errors and "1 of 3 parts" in errors
    assert not (out / "_SUCCESS.json").exists()
    assert batch.main([str(listed), str(out), "--record-unreadable"]) == batch.REFUSED
    assert capsys.readouterr().out == "3 files: 1 answered, 2 refused (unreadable 2)\n"
    messages = {pathlib.Path(r["path"]).name: r["answer"]["error"] for r in rows(out)}
    assert messages["voice.wav"] is None
    assert "no longer there" in messages["deleted.wav"]["message"]
    assert "blocked.wav" in messages["blocked.wav"]["message"]


@pytest.mark.parametrize("what", ["recognition", "writing"])
def test_a_storage_that_fails_stops_the_job(folder, tmp_path, capsys, monkeypatch, what):
    write = batch.Folder.write

    def fails(*_):
        raise batch.StorageError("the disk is full")

    def fails_for_answers(self, name, data):
        return fails() if name.startswith("answers/") else write(self, name, data)

    out = tmp_path / "out"
    if what == "recognition":
        monkeypatch.setattr(batch, "_part_file", fails)
    else:
        monkeypatch.setattr(batch.Folder, "write", fails_for_answers)
    assert batch.main([str(folder), str(out), "--part-files", "1"]) == batch.UNFINISHED
    errors = capsys.readouterr().err
    assert errors.count("the disk is full") == 3 and "12 of 12 parts" in errors
    monkeypatch.undo()
    assert batch.main([str(folder), str(out)]) == batch.REFUSED
    rows(out)


def test_a_file_that_is_read_at_the_second_try(folder, tmp_path, monkeypatch):
    real, tries = batch._recognised, []

    def sometimes(paths, job):
        answers = batch.pa.chunked_array(list(real(paths, job)))
        tries.append(paths)
        if len(tries) > 1:
            return iter(answers.chunks)
        rows = answers.to_pylist()
        rows[0] = {**dict.fromkeys(rows[0]), "error": {"code": "unreadable", "message": "no bytes"}}
        return iter([batch.pa.array(rows, answers.type)])

    out = tmp_path / "out"
    monkeypatch.setattr(batch, "_recognised", sometimes)
    assert batch.main([str(folder), str(out)]) == batch.REFUSED
    assert tries[1] == tries[0][:1]
    assert json.loads((out / "_SUCCESS.json").read_text())["counts"] == {"answered": 10, "unusable_audio": 2}


@pytest.fixture
def rows_of_daft(monkeypatch):
    """Set a function that changes the batches of rows that Daft returns, which are cut into two rows each."""
    real = batch.daft.DataFrame.to_arrow_iter

    def set_change(change):
        def changed(self, **options):
            every = pa.Table.from_batches(real(self, **options)).combine_chunks().to_batches(2)
            return iter(change(every))

        monkeypatch.setattr(batch.daft.DataFrame, "to_arrow_iter", changed)

    return set_change


def test_rows_in_another_order(folder, tmp_path, rows_of_daft):
    assert batch.main([str(folder), str(tmp_path / "ordered")]) == batch.REFUSED
    rows_of_daft(lambda every: [every[0], *every[:0:-1]])
    assert batch.main([str(folder), str(tmp_path / "shuffled")]) == batch.REFUSED
    assert rows(tmp_path / "shuffled") == rows(tmp_path / "ordered")


@pytest.mark.parametrize("change", [lambda every: every[:-1], lambda every: every[1:], lambda every: every + every[-1:]])
def test_a_wrong_number_of_rows(folder, tmp_path, capsys, rows_of_daft, change):
    rows_of_daft(change)
    assert batch.main([str(folder), str(tmp_path / "out")]) == batch.UNFINISHED
    assert "rows for 12 files" in capsys.readouterr().err


def test_row_groups(folder, tmp_path, monkeypatch, rows_of_daft):
    rows_of_daft(lambda every: every)
    monkeypatch.setattr(batch, "_ROW_GROUP", 5)
    out = tmp_path / "out"
    assert batch.main([str(folder), str(out)]) == batch.REFUSED
    rows(out)
    (file,) = (out / "answers").iterdir()
    metadata = pq.read_metadata(file)
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [6, 6]
    assert json.loads(metadata.metadata[b"maeum"])["counts"] == {"answered": 10, "unusable_audio": 2}


def test_parts():
    assert list(batch._divided([9, 5, 4, 1, 1, 1, 0], 3, 9)) == [0, 1, 1, 2, 2, 2, 3]
    assert list(batch._divided([50, 50], 3, 9)) == [0, 1]


def test_answers_of_another_model_are_not_written(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    real = batch._part_file
    monkeypatch.setattr(batch, "_part_file", lambda job, *rest: real({**job, "model": "0" * 64}, *rest))
    assert batch.main([str(folder), str(out)]) == batch.USAGE
    assert "install the same maeum" in capsys.readouterr().err
    assert not list((out / "answers").iterdir())
    assert maeum.Recognizer().model_identity
