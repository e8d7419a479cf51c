"""Recognition of millions of files: from a folder or object storage to Parquet, resumed where it was stopped.

    python -m maeum.batch SOURCE OUT [--ray ADDRESS] [--model BUNDLE] [--table TABLE]

The list of files is frozen in `OUT/manifest.parquet` and divided into parts. The answers of a part become one
file, which appears under a name fixed by the manifest, whole or not at all. A part is done if its file is there,
so the same command continues after any interruption. `OUT/_SUCCESS.json` is written when every part is there.

`docs/scale.md` describes the columns, the exit codes and the behaviour when the storage fails.
"""

import argparse
import hashlib
import importlib
import io
import json
import logging
import os
import re
import stat
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple, Union

# Voice recordings are personal data: no telemetry about jobs unless it is asked for.
os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import __version__, _storage
from ._batch_table import SCHEMA, CommitError, Delta, Iceberg, TableError, open_table
from ._maeum import RecognitionError, audio_endings
from ._recognizer import Recognizer
from .daft import SCHEMA as ANSWER_SCHEMA
from .daft import recognise, recognise_files

#: Exit codes: every file has an answer; some have none; wrong command line; not finished, run it again.
ANSWERED, REFUSED, USAGE, UNFINISHED, INTERRUPTED = 0, 1, 2, 3, 130

_MANIFEST, _SUCCESS, _ANSWERS = "manifest.parquet", "_SUCCESS.json", "answers"
#: Columns of a list of files.
_FILES = pa.schema([("path", pa.large_string()), ("size", pa.int64())])
#: Least number of rows in a row group of a file of answers.
_ROW_GROUP = 500
#: Rows of a list of files that are Python objects at the same time.
_ROWS = 1 << 16
#: Key of this module's JSON in the metadata of Parquet files.
_KEY = b"maeum"
#: Failed parts in a row after which the job stops: then the storage fails, not a file.
_FAILURES = 3
#: Waits before a file that could not be read is read again, in seconds.
_RETRIES = (0.5, 2.0, 8.0)
#: Times that Ray starts a part again after its worker has died.
_WORKER_DEATHS = 5
#: Seconds after which a temporary file belongs to no running worker.
_STALE = 3600.0

Job = Dict[str, Any]
Counts = Dict[str, int]


class BatchError(Exception):
    """Failure to begin or continue a job; the message contains the remedy."""


class StorageError(Exception):
    """Files of a part cannot be read, or its answers cannot be written, for a reason that may pass."""


def _is_url(place: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", place) is not None


class Folder:
    """Output in a folder of this machine, or of a file system that all workers share."""

    def __init__(self, path: str):
        self._path = os.path.abspath(path)
        self._lock: Optional[BinaryIO] = None

    def begin(self) -> None:
        """Create the folder, lock it for this process and remove what killed runs have left."""
        try:
            os.makedirs(os.path.join(self._path, _ANSWERS), exist_ok=True)
            self._lock = open(os.path.join(self._path, ".lock"), "ab")
        except OSError as error:
            raise BatchError(f"{self._path}: cannot write there: {error.strerror}; name another folder") from error
        try:
            import fcntl
        except ImportError:
            pass  # No locks on this system: two runs at once do the same work twice.
        else:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BatchError(f"{self._path}: another run is writing there; wait for its end") from error
        for folder in (self._path, os.path.join(self._path, _ANSWERS)):
            for name in os.listdir(folder):
                file = os.path.join(folder, name)
                if name.startswith(".tmp-") and time.time() - os.path.getmtime(file) > _STALE:
                    os.remove(file)

    def end(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()

    def sizes(self) -> Dict[str, int]:
        """Return names and sizes of the files of answers."""
        with os.scandir(os.path.join(self._path, _ANSWERS)) as entries:
            # The log of a Delta table begins with an underscore.
            return {entry.name: entry.stat().st_size for entry in entries if entry.name[0] not in "._"}

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears whole or not at all."""
        path = os.path.join(self._path, name)
        temporary = os.path.join(os.path.dirname(path), f".tmp-{os.getpid()}-{os.urandom(8).hex()}")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            # The name survives a crash of the machine only if the folder is written too.
            folder = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if os.path.exists(temporary):
                os.remove(temporary)
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from error

    def has_manifest(self) -> bool:
        """Return whether a job has begun here."""
        return os.path.exists(os.path.join(self._path, _MANIFEST))

    def open(self, name: str) -> BinaryIO:
        """Open a file that is there."""
        path = os.path.join(self._path, name)
        try:
            return open(path, "rb")
        except OSError as error:
            raise BatchError(f"{path}: cannot be read: {error.strerror}") from error


class _Object(io.RawIOBase):
    """Daft's file with the methods that Arrow needs."""

    def __init__(self, url: str):
        # Daft opens it in a `with` statement only, and closes it at its end.
        self._context = daft.File(url).open()
        self._file: Any = self._context.__enter__()

    def close(self) -> None:
        if not self.closed:
            self._context.__exit__(None, None, None)
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        position: int = self._file.tell()
        return position

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Objects:
    """Output in object storage, below a URL. A put of an object is atomic; keys are fixed, so it may be repeated."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def begin(self) -> None:
        """Do nothing: there are no folders, locks or temporary objects."""

    def end(self) -> None:
        """Do nothing: there is no lock."""

    def sizes(self) -> Dict[str, int]:
        """Return names and sizes of the files of answers."""
        found = _objects(f"{self._url}/{_ANSWERS}/*.parquet").to_pydict()
        return {path.rsplit("/", 1)[1]: size for path, size in zip(found["path"], found["size"])}

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        url = f"{self._url}/{name}"
        try:
            if _storage.is_arrow(url):
                _storage.write(url, data)
            else:
                frame = daft.from_pydict({"data": [data], "path": [url]})
                frame.select(frame["data"].upload(frame["path"])).collect()
        except Exception as error:
            raise StorageError(f"{url}: cannot be written: {_reason(error)}") from error

    def has_manifest(self) -> bool:
        """Return whether a job has begun here, by the list of objects: a failed read has other reasons too."""
        return any(path.endswith("/" + _MANIFEST) for path in _objects(f"{self._url}/*.parquet")["path"].to_pylist())

    def open(self, name: str) -> BinaryIO:
        """Open an object that is there; only what is read of it is transferred."""
        url = f"{self._url}/{name}"
        try:
            if _storage.is_arrow(url):
                file: BinaryIO = _storage.open_object(url)
                return file
            return io.BufferedReader(_Object(url), 1 << 16)
        except Exception as error:
            raise BatchError(f"{url}: cannot be read: {_reason(error)}") from error


Output = Union[Folder, Objects]
Table = Union[Delta, Iceberg]


def _output(place: str) -> Output:
    return Objects(place) if _is_url(place) else Folder(place)


def _reason(error: BaseException) -> str:
    """Return the first lines of an error's message on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300] or type(error).__name__


def _file_list(files: Iterable[Tuple[str, int]]) -> pa.Table:
    """Return paths and sizes as a table."""
    files = iter(files)
    chunks = [_FILES.empty_table()]
    while True:
        rows = list(islice(files, _ROWS))
        if not rows:
            return pa.concat_tables(chunks)
        chunks.append(pa.table([[path for path, _ in rows], [size for _, size in rows]], schema=_FILES))


def _objects(pattern: str) -> pa.Table:
    """Return URL and size of the objects that match a pattern."""
    if _storage.is_arrow(pattern):
        try:
            return _file_list(_storage.objects(pattern))
        except (OSError, ValueError) as error:
            raise BatchError(f"{pattern}: cannot be listed: {_reason(error)}") from error
    try:
        found = daft.from_glob_path(pattern).select("path", "size").to_arrow()
    except FileNotFoundError:
        return _FILES.empty_table()
    except daft.exceptions.DaftCoreException as error:
        # Daft's answer to a pattern that matches nothing.
        if "at least 1 MicroPartition" in str(error):
            return _FILES.empty_table()
        raise BatchError(f"{pattern}: cannot be listed: {_reason(error)}") from error
    return _with_sizes(found)


def _with_sizes(files: pa.Table) -> pa.Table:
    """Return a list of files with 0 for unknown sizes."""
    sizes = files["size"] if "size" in files.column_names else pa.nulls(len(files))
    return pa.table([files["path"].cast(pa.large_string()), pc.fill_null(sizes.cast(pa.int64()), 0)], schema=_FILES)


# ---------------------------------------------------------------- The manifest


def _folder_files(folder: str, endings: Set[str]) -> Iterator[Tuple[str, int]]:
    seen = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would not end.
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            if name.startswith(".") or _ending(name) not in endings:
                continue
            path = os.path.join(base, name)
            try:
                status = os.stat(path)
            except OSError:
                continue  # A link to nothing.
            if stat.S_ISREG(status.st_mode):
                try:
                    path.encode()
                except UnicodeEncodeError as error:
                    raise BatchError(f"{os.fsencode(path)!r}: the name is no UTF-8; rename the file") from error
                yield path, status.st_size


def _ending(name: str) -> str:
    return name.rsplit(".", 1)[-1].lower() if "." in name else ""


def _chosen(files: pa.Table, is_chosen: Callable[[str], bool]) -> pa.Table:
    """Return the files whose paths are chosen."""
    masks = [pa.array(map(is_chosen, rows["path"].to_pylist()), pa.bool_()) for rows in files.to_batches(_ROWS)]
    return files.filter(pa.chunked_array(masks, pa.bool_()))


def _listed(source: str, endings: Set[str]) -> pa.Table:
    """Return path and size of every file of a source."""
    if _ending(source) in ("csv", "parquet"):
        return _from_list(source)
    if _is_url(source):
        is_pattern = re.search(r"[*?\[]", source) is not None
        # The name of a folder may end as that of a recording.
        found = _objects(source) if is_pattern or _ending(source) in endings else None
        if not found and not is_pattern:
            found = _objects(source.rstrip("/") + "/**")
        # Hidden files, whose names begin with a dot, are left out in object storage as in folders.
        return _chosen(found, lambda path: _ending(path) in endings and "/." not in path)
    if os.path.isfile(source) and _ending(source) in endings:
        return _file_list([(os.path.abspath(source), os.path.getsize(source))])
    if not os.path.isdir(source):
        raise BatchError(f"{source}: no such folder, recording or .csv or .parquet list")
    return _file_list(_folder_files(os.path.abspath(source), endings))


def _from_list(source: str) -> pa.Table:
    """Return the files of a list, each once."""
    try:
        frame = (daft.read_csv if _ending(source) == "csv" else daft.read_parquet)(source)
        files = _with_sizes(frame.select("path", *(["size"] if "size" in frame.column_names else [])).to_arrow())
    except Exception as error:
        raise BatchError(f"{source}: no list of files with a column path: {_reason(error)}") from error
    if files["path"].null_count:
        raise BatchError(f"{source}: {files['path'].null_count} rows have no path")
    rows = (row for batch in files.to_batches(_ROWS) for row in zip(batch["path"].to_pylist(), batch["size"].to_pylist()))
    files = _file_list((path if _is_url(path) else os.path.abspath(path), size) for path, size in rows)
    files = files.group_by("path").aggregate([("size", "max")])
    return pa.table([files["path"], files["size_max"]], schema=_FILES)


def _divided(sizes: Iterable[int], files: int, size: int) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """Return the part of each file. A part has at most `files` files and, unless it is one large file, `size` bytes."""

    def parts() -> Iterator[int]:
        part, count, total = 0, 0, 0
        for one in sizes:
            if count and (count == files or total + one > size):
                part, count, total = part + 1, 0, 0
            yield part
            count, total = count + 1, total + one

    return np.fromiter(parts(), dtype=np.int32)


class Manifest:
    """Frozen list of files in parts, and the job that they belong to."""

    def __init__(self, table: pa.Table):
        self.job: Job = json.loads(table.schema.metadata[_KEY])
        self._table = table
        parts = table["part"].to_numpy()
        self._starts = np.searchsorted(parts, np.arange(self.job["parts"] + 1))

    @classmethod
    def make(cls, job: Job, files: pa.Table, part_files: int, part_bytes: int) -> "Manifest":
        """Divide files into parts of similar files, the largest first: a large one at the end would delay it."""
        table = files.sort_by([("size", "descending"), ("path", "ascending")])
        sizes = (size for rows in table.to_batches(_ROWS) for size in rows["size"].to_pylist())
        parts = _divided(sizes, part_files, part_bytes)
        table = table.append_column("part", pa.array(parts))
        hasher = hashlib.sha256(json.dumps(job, sort_keys=True).encode())
        for rows in table.to_batches(_ROWS):
            lines = zip(rows["path"].to_pylist(), rows["size"].to_pylist(), rows["part"].to_pylist())
            hasher.update("".join(f"{path}\0{size}\0{part}\n" for path, size, part in lines).encode())
        job = {**job, "files": len(table), "parts": int(parts[-1]) + 1, "id": hasher.hexdigest()[:16]}
        return cls(table.replace_schema_metadata({_KEY: json.dumps(job).encode()}))

    def to_bytes(self) -> bytes:
        """Return the manifest as a Parquet file."""
        return _parquet(self._table)

    @classmethod
    def read(cls, file: BinaryIO) -> "Manifest":
        """Read a manifest."""
        try:
            return cls(pq.read_table(file))
        except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise BatchError(f"{_MANIFEST}: no manifest of a job; name another OUT") from error

    def files(self, part: int) -> Tuple[List[str], List[int]]:
        """Return paths and sizes of the files of a part."""
        rows = self._table.slice(self._starts[part], self.count(part))
        return rows["path"].to_pylist(), rows["size"].to_pylist()

    def count(self, part: int) -> int:
        """Return the number of files in a part."""
        return int(self._starts[part + 1] - self._starts[part])

    def name(self, part: int) -> str:
        """Return the name of a part's file."""
        return f"part-{part:06}-{self.job['id']}.parquet"


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


# ---------------------------------------------------------------- One part


def _recognised(paths: List[str], job: Job) -> Iterator[pa.Array]:
    """Yield the answers for files in order; files that could not be read have the code unreadable."""
    groups: Dict[str, List[int]] = {}
    for i, path in enumerate(paths):
        kind = "folder" if not _is_url(path) else "arrow" if _storage.is_arrow(path) else "daft"
        groups.setdefault(kind, []).append(i)
    answers = (_answers([paths[i] for i in rows], kind, job) for kind, rows in groups.items())
    if len(groups) == 1:
        yield from next(answers)
    else:
        all_answers = pa.chunked_array([chunk for chunks in answers for chunk in chunks])
        yield from all_answers.take(pa.array(np.argsort([i for rows in groups.values() for i in rows]))).chunks


def _answers(paths: List[str], kind: str, job: Job) -> Iterator[pa.Array]:
    """Yield the answers for files of one kind of storage in order."""
    indices = pa.array(range(len(paths)), pa.int64())
    frame = daft.from_arrow(pa.table({"index": indices, "path": pa.array(paths, pa.large_string())}))
    options = {"model": job["model_file"], "dropout": job["dropout"], "seed": job["seed"]}
    path = frame["path"]
    if kind == "folder":
        answer = recognise_files(path, **options)
    else:
        data = _storage.contents(path) if kind == "arrow" else path.download(on_error="null")
        frame = frame.with_column("data", data)
        answer = recognise(frame["data"], name=frame["path"], **options)
    rows = frame.with_column("answer", answer).select("index", "answer").to_arrow_iter(results_buffer_size=None)
    count = 0
    others: List[pa.RecordBatch] = []
    for batch in rows:
        if not others and batch["index"].equals(indices.slice(count, len(batch))):
            count += len(batch)
            yield batch["answer"]
        else:
            others.append(batch)
    # Daft promises no order.
    if others:
        table = pa.Table.from_batches(others).sort_by("index")
        if not table["index"].combine_chunks().equals(indices.slice(count)):
            raise StorageError(f"Daft returned {count + len(table)} rows for {len(paths)} files, not one each; run the job again")
        count += len(table)
        yield from table["answer"].chunks
    if count != len(paths):
        raise StorageError(f"Daft returned {count} rows for {len(paths)} files; run the job again")


def _row_groups(answers: Iterator[pa.Array]) -> Iterator[pa.ChunkedArray]:
    """Yield the same answers in chunks of at least `_ROW_GROUP`, but for the last one."""
    chunks: List[pa.Array] = []
    for chunk in answers:
        chunks.append(chunk)
        if sum(map(len, chunks)) >= _ROW_GROUP:
            yield pa.chunked_array(chunks)
            chunks = []
    if chunks:
        yield pa.chunked_array(chunks)


def _reread(path: str) -> Optional[BaseException]:
    """Read a file again after each wait of `_RETRIES`; return the last error, or `None` once it can be read."""
    frame = daft.from_pydict({"path": [path]})
    error: Optional[BaseException] = None
    for wait in (0.0, *_RETRIES):
        time.sleep(wait)
        try:
            if _storage.is_arrow(path):
                _storage.read(path)
            else:
                frame.select(frame["path"].download()).collect()
            return None
        except FileNotFoundError as missing:
            return missing
        except Exception as other:
            error = other
    return error


def _with_unread(answers: pa.ChunkedArray, paths: List[str], job: Job) -> pa.ChunkedArray:
    """Return the answers with those of unread files replaced: by an answer, or by the reason that it never can be read.

    Raises:
        StorageError: a file exists and cannot be read
    """
    unread = [i for i, code in enumerate(_codes(answers)) if code == "unreadable"]
    if not unread:
        return answers
    rows = answers.to_pylist()
    again = []
    for i in unread:
        error = _reread(paths[i])
        if error is None:
            again.append(i)
        elif isinstance(error, FileNotFoundError):
            rows[i]["error"] = {"code": "unreadable", "message": f"{paths[i]}: the file is no longer there"}
        elif job["record_unreadable"]:
            rows[i]["error"] = {"code": "unreadable", "message": f"{paths[i]}: {_reason(error)}"}
        else:
            raise StorageError(
                f"{paths[i]}: cannot be read: {_reason(error)}. If it never can be, --record-unreadable makes it a row"
            )
    if again:
        repeated = [row for chunk in _recognised([paths[i] for i in again], job) for row in chunk.to_pylist()]
        for i, row in zip(again, repeated):
            if row["error"] and row["error"]["code"] == "unreadable":
                raise StorageError(f"{paths[i]}: can be read only now and then")
            rows[i] = row
    return pa.chunked_array([pa.array(rows, answers.type)])


def _codes(answers: pa.ChunkedArray) -> List[Optional[str]]:
    """Return the error code of each answer."""
    codes: List[Optional[str]] = pc.struct_field(answers, ["error", "code"]).to_pylist()
    return codes


def _part_file(job: Job, part: int, paths: List[str], sizes: List[int]) -> Tuple[bytes, Counts]:
    """Return the file of a part, and the number of its answers by error code.

    The first answers are encoded while the others are computed.

    Raises:
        StorageError: a file exists and cannot be read
        BatchError: the answers are those of another model
    """
    buffer = io.BytesIO()
    counter: Counter[str] = Counter()
    start = 0
    with pq.ParquetWriter(buffer, SCHEMA, compression="zstd") as writer:
        for answers in _row_groups(_recognised(paths, job)):
            rows = slice(start, start + len(answers))
            answers = _with_unread(answers, paths[rows], job)
            for model in pc.unique(pc.struct_field(answers, ["model"])).to_pylist():
                if model not in (None, job["model"]):
                    raise BatchError(f"a worker has the model {model}, the job {job['model']}; install the same maeum")
            counter.update(code or "answered" for code in _codes(answers))
            writer.write_table(pa.table([paths[rows], sizes[rows], answers], schema=SCHEMA))
            start = rows.stop
        counts = dict(sorted(counter.items()))
        metadata = {"manifest": job["id"], "part": part, "rows": len(paths), "counts": counts}
        writer.add_key_value_metadata({_KEY: json.dumps(metadata).encode()})
    return buffer.getvalue(), counts


def _finished(output: Output, manifest: Manifest, part: int) -> Optional[Counts]:
    """Return the counts of a part's file; `None` if it is damaged."""
    try:
        with output.open(f"{_ANSWERS}/{manifest.name(part)}") as file:
            footer = pq.read_metadata(file)
        metadata = json.loads(footer.metadata[_KEY])
        counts: Counts = metadata["counts"]
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError):
        return None
    is_whole = footer.num_rows == manifest.count(part) == sum(counts.values())
    is_it = (metadata.get("manifest"), metadata.get("part")) == (manifest.job["id"], part)
    return counts if is_whole and is_it else None


# ---------------------------------------------------------------- Runners

#: Called with a part and its counts, or its error.
Done = Callable[[int, Union[Counts, BaseException]], None]


def _on_this_machine(place: str, manifest: Manifest, parts: List[int], done: Done) -> None:
    """Run parts one after the other, each on all processors. A part is written while the next one is recognised."""
    _use_native_runner(None)
    failures = (StorageError, daft.exceptions.DaftCoreException, OSError)

    def write(part: int, data: bytes, counts: Counts) -> None:
        try:
            _output(place).write(f"{_ANSWERS}/{manifest.name(part)}", data)
        except failures as error:
            done(part, error)
        else:
            done(part, counts)

    # One at a time: `done` is never called twice at once.
    writing: "Future[None]" = Future()
    writing.set_result(None)
    with ThreadPoolExecutor(1) as writer:
        for part in parts:
            try:
                data, counts = _part_file(manifest.job, part, *manifest.files(part))
            except failures as error:
                writing.result()
                done(part, error)
            else:
                writing.result()
                writing = writer.submit(write, part, data, counts)
        writing.result()


def _use_native_runner(threads: Optional[int]) -> None:
    """Choose Daft's runner; in a worker of Ray it would be the Ray runner. Once chosen, it stays."""
    if daft.get_or_infer_runner_type() != "native":
        daft.set_runner_native(threads)


def _ray_part(
    threads: int, place: str, job: Job, name: str, paths: List[str], sizes: List[int], part: int
) -> Counts:
    """Run a part in a worker of Ray."""
    _use_native_runner(threads)
    data, counts = _part_file(job, part, paths, sizes)
    _output(place).write(f"{_ANSWERS}/{name}", data)
    return counts


def _on_ray(address: str, cpus: Optional[int], place: str, manifest: Manifest, parts: List[int], done: Done) -> None:
    """Run parts as tasks of a Ray cluster."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise BatchError("--ray needs the package ray: pip install ray") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BatchError(f"--ray {address}: {_reason(error)}") from error
    try:
        nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
        each = cpus or min((n for n in nodes if n > 0), default=1)
        task = ray.remote(num_cpus=each, max_retries=_WORKER_DEATHS)(_ray_part)
        # Few tasks wait in the cluster: their arguments take memory of the driver.
        limit = max(2, 2 * sum(nodes) // each)
        waiting = list(reversed(parts))
        running: Dict[Any, int] = {}
        while waiting or running:
            while waiting and len(running) < limit:
                part = waiting.pop()
                name = manifest.name(part)
                running[task.remote(each, place, manifest.job, name, *manifest.files(part), part)] = part
            for reference in ray.wait(list(running), num_returns=1, timeout=60)[0]:
                part = running.pop(reference)
                try:
                    counts = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    cause = error.as_instanceof_cause()
                    if isinstance(cause, BatchError):
                        raise BatchError(_reason(cause)) from error
                    done(part, StorageError(_reason(error.cause or error)))
                except ray.exceptions.RayError as error:
                    done(part, StorageError(f"its worker died: {_reason(error)}"))
                else:
                    done(part, counts)
    finally:
        ray.shutdown()


# ---------------------------------------------------------------- The job


class _Progress:
    """Progress on a terminal, or a line for every finished part."""

    def __init__(self, files: int, finished: int, parts: int):
        from tqdm import tqdm

        self._files, self._finished, self._parts = files, finished, parts
        self._is_terminal = sys.stderr.isatty()
        self._bar = tqdm(total=files, initial=finished, unit="file", disable=not self._is_terminal)

    def add(self, part: int, files: int) -> None:
        self._finished += files
        self._bar.update(files)
        if not self._is_terminal:
            _say(f"part {part + 1} of {self._parts}: {self._finished} of {self._files} files")

    def failed(self, part: int, error: BaseException) -> None:
        self._bar.clear()
        _say(f"part {part + 1} of {self._parts} is not finished: {_reason(error)}")

    def close(self) -> None:
        self._bar.close()


def _say(message: str) -> None:
    try:
        print(f"maeum.batch: {message}", file=sys.stderr, flush=True)
    except OSError:
        pass  # A closed standard error stops no job.


def _job(arguments: argparse.Namespace) -> Job:
    try:
        recognizer = Recognizer(arguments.model, dropout=arguments.dropout, seed=arguments.seed, num_workers=1)
    except (RecognitionError, FileNotFoundError, ValueError) as error:
        raise BatchError(str(error)) from error
    source = arguments.source if _is_url(arguments.source) else os.path.abspath(arguments.source)
    return {
        "source": source,
        "model": recognizer.model_identity,
        "dropout": arguments.dropout,
        "seed": arguments.seed,
        "schema": ANSWER_SCHEMA,
        "version": __version__,
    }


def _manifest(output: Output, job: Job, arguments: argparse.Namespace) -> Manifest:
    """Return the manifest in the output, or freeze a new one."""
    if not output.has_manifest():
        if output.sizes():
            raise BatchError(f"{arguments.out}: holds answers but no {_MANIFEST}; name another OUT")
        endings = {str(e).lower().lstrip("*.") for e in arguments.filetype or audio_endings()}
        files = _listed(arguments.source, endings)
        if not files:
            raise BatchError(f"{arguments.source}: no files ending in {', '.join(sorted(endings))}")
        manifest = Manifest.make(job, files, arguments.part_files, arguments.part_bytes << 20)
        output.write(_MANIFEST, manifest.to_bytes())
    # If two runs begin at the same moment, both use the manifest that was written last.
    with output.open(_MANIFEST) as file:
        manifest = Manifest.read(file)
    other = [f"{key} {manifest.job.get(key)!r}" for key in job if manifest.job.get(key) != job[key]]
    if other:
        raise BatchError(f"{arguments.out}: was begun with {', '.join(other)}; repeat that, or name another OUT")
    return manifest


def _run(arguments: argparse.Namespace) -> int:
    if arguments.out.startswith("hf://"):
        raise BatchError("hf:// can be read only; name a folder or object storage for OUT")
    if arguments.table is not None and arguments.table.startswith("iceberg") and arguments.out.startswith("az://"):
        raise BatchError("PyIceberg does not read az://; name another OUT, or give --table delta")
    # Workers have other working folders.
    place = arguments.out if _is_url(arguments.out) else os.path.abspath(arguments.out)
    try:
        table = None if arguments.table is None else open_table(arguments.table, arguments.catalog)
    except TableError as error:
        raise BatchError(str(error)) from error
    output = _output(place)
    try:
        output.begin()
        return _continued(arguments, output, place, table)
    finally:
        output.end()


def _continued(
    arguments: argparse.Namespace, output: Output, place: str, table: Optional[Table]
) -> int:
    """Begin or continue the job of an output; return the exit code."""
    manifest = _manifest(output, _job(arguments), arguments)
    model = None if arguments.model is None else os.path.abspath(arguments.model)
    manifest.job.update({"model_file": model, "record_unreadable": arguments.record_unreadable})
    names = {manifest.name(part): part for part in range(manifest.job["parts"])}
    present = output.sizes()
    foreign = sorted(name for name in present if name not in names)
    if foreign:
        raise BatchError(f"{arguments.out}: holds answers of another job, such as {foreign[0]}; name another OUT")

    finished: Dict[int, Counts] = {}
    with ThreadPoolExecutor(16) as threads:
        found = [names[name] for name in present]
        for part, counts in zip(found, threads.map(lambda part: _finished(output, manifest, part), found)):
            if counts is None:
                _say(f"{manifest.name(part)} is damaged and is written again")
            else:
                finished[part] = counts
    parts = [part for part in range(manifest.job["parts"]) if part not in finished]
    already = sum(manifest.count(part) for part in finished)
    if finished:
        _say(f"{already} of {manifest.job['files']} files are finished")
    progress = _Progress(manifest.job["files"], already, manifest.job["parts"])
    failures = 0

    def done(part: int, result: Union[Counts, BaseException]) -> None:
        nonlocal failures
        if isinstance(result, BaseException):
            failures += 1
            progress.failed(part, result)
            if failures >= _FAILURES:
                raise StorageError(f"{failures} parts failed one after the other")
        else:
            failures = 0
            finished[part] = result
            progress.add(part, manifest.count(part))

    try:
        if parts and arguments.ray is not None:
            _on_ray(arguments.ray, arguments.cpus, place, manifest, parts, done)
        elif parts:
            _on_this_machine(place, manifest, parts, done)
    except StorageError as error:
        _say(_reason(error))
    finally:
        progress.close()
    return _end(output, manifest, finished, None if table is None else (table, place))


def _end(
    output: Output, manifest: Manifest, finished: Dict[int, Counts], table: Optional[Tuple[Table, str]]
) -> int:
    """Write the table and the list of all parts if they are there; print the counts and return the exit code."""
    missing = manifest.job["parts"] - len(finished)
    if missing:
        _say(f"{missing} of {manifest.job['parts']} parts are not finished; run the same command to continue")
        return UNFINISHED
    wanted = {manifest.name(part) for part in finished}
    there = output.sizes()
    if set(there) != wanted:
        # A cluster whose workers do not share the folder, or someone else's files.
        wrong = sorted(set(there) ^ wanted)
        raise BatchError(f"{len(wrong)} files of answers are missing or foreign, such as {wrong[0]}")
    if table is not None:
        rows = {manifest.name(part): manifest.count(part) for part in finished}
        try:
            table[0].commit(f"{table[1].rstrip('/')}/{_ANSWERS}", there, rows, manifest.job["id"])
        except TableError as error:
            raise BatchError(str(error)) from error
        except CommitError as error:
            raise StorageError(_reason(error)) from error
    total: Counter[str] = Counter()
    for counts in finished.values():
        total.update(counts)
    parts = [
        {"name": manifest.name(part), "rows": manifest.count(part), "counts": finished[part]}
        for part in sorted(finished)
    ]
    job = manifest.job
    summary = {"manifest": job["id"], "model": job["model"], "files": job["files"], "counts": dict(total), "parts": parts}
    output.write(_SUCCESS, (json.dumps(summary, indent=1) + "\n").encode())
    refused = job["files"] - total["answered"]
    reasons = ", ".join(f"{code} {n}" for code, n in sorted(total.items()) if code != "answered")
    print(f"{job['files']} files: {total['answered']} answered, {refused} refused" + (f" ({reasons})" if reasons else ""))
    return REFUSED if refused else ANSWERED


def _dropout(text: str) -> Union[int, str]:
    return text if text == "off" else int(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m maeum.batch",
        description="Recognises all audio files of a source and writes Parquet. The same command continues a job.",
        epilog="Exit code: 0 all files have an answer, 1 some have none, 2 the command line or the job cannot be used, "
        "3 the job is not finished, 130 it was interrupted.",
    )
    parser.add_argument("source", metavar="SOURCE", help="folder or recording, also as URL (s3://, gs://, az://, hf://), or a .csv or .parquet list with a column path")
    parser.add_argument("out", metavar="OUT", help="folder or URL of object storage")
    parser.add_argument("--model", metavar="BUNDLE", help="model instead of the built-in one; readable on every worker")
    parser.add_argument("--dropout", type=_dropout, default=32, metavar="N|off", help="draws of dropout [32]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws [0]")
    parser.add_argument("--filetype", action="append", metavar="ENDING", help="ending of the files, may be repeated [all supported]")
    parser.add_argument("--part-files", type=_positive, default=2000, metavar="N", help="most files in a part [2000]")
    parser.add_argument("--part-bytes", type=_positive, default=512, metavar="MIB", help="most MiB in a part, which bounds the memory [512]")
    parser.add_argument("--record-unreadable", action="store_true", help="make files that cannot be read rows with an error instead of stopping")
    parser.add_argument("--table", metavar="TABLE", help="register the answers, once all are there, as a Delta table in OUT (delta) or in an Iceberg table (iceberg:NAMESPACE.TABLE)")
    parser.add_argument("--catalog", metavar="NAME", help="with an Iceberg table, its catalogue in the configuration of PyIceberg [the default one]")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on the Ray cluster at this address, or 'auto'")
    parser.add_argument("--cpus", type=_positive, metavar="N", help="with --ray, processors per part [those of the smallest node]")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the job of a command line; return the exit code."""
    # Daft warns when a listing is empty, as that of a new job's output is.
    logging.getLogger("daft_local_execution.sources.glob_scan").setLevel(logging.ERROR)
    try:
        return _run(_parser().parse_args(arguments))
    except BatchError as error:
        _say(str(error))
        return USAGE
    except StorageError as error:
        _say(f"{error}; run the same command to continue")
        return UNFINISHED
    except KeyboardInterrupt:
        _say("interrupted; run the same command to continue")
        return INTERRUPTED


def _exit(code: int) -> None:
    """End the process without taking the interpreter down.

    Threads of Daft or Arrow that have read object storage go on meanwhile and use what is freed, so that about one process in
    a hundred would crash after its last message.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    # Under its own name, so that workers find the functions of this module.
    from maeum import batch as _batch

    _batch._exit(_batch.main())
