"""Table of a finished job: its files of answers, registered in a Delta or Iceberg table by one atomic commit.

No file is copied. The commit contains the job's identity, so that a job is registered once, however often its command
is repeated or killed.
"""

import importlib
import json
import time
from typing import Any, Dict, Union

import pyarrow as pa

from . import _storage
from .daft import ANSWER

#: Columns of the files of answers.
SCHEMA = pa.schema([("path", pa.large_string()), ("size", pa.int64()), ("answer", ANSWER.to_arrow_dtype())])
#: Attempts to commit beside other writers of a table.
_ATTEMPTS = 10


class TableError(Exception):
    """Table that cannot be used for a job; the message contains the remedy."""


class CommitError(Exception):
    """Failure to register a job in a table, for a reason that may pass."""


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TableError(f"--table needs the package {extra}: pip install {extra}") from error


class Delta:
    """Delta table in the folder of answers itself: its log lies beside the files."""

    def __init__(self) -> None:
        self._deltalake = _package("deltalake", "deltalake")

    def commit(self, answers: str, sizes: Dict[str, int], rows: Dict[str, int], job: str) -> None:
        """Make the table of all files in the folder or URL `answers`; do nothing if it is this job's already.

        Raises:
            TableError: there is a table of another job
            CommitError: the table cannot be written
        """
        transaction = self._deltalake.transaction
        # The first version of a table is written only if there is none, on every storage.
        now = int(time.time() * 1000)
        actions = [
            transaction.AddAction(name, sizes[name], {}, now, True, json.dumps({"numRecords": rows[name]}))
            for name in sorted(sizes)
        ]
        mark = self._deltalake.Transaction(f"maeum.batch/{job}", 1)
        properties = self._deltalake.CommitProperties(app_transactions=[mark])
        if self._is_registered(answers, job):
            return
        schema = self._deltalake.Schema.from_arrow(SCHEMA)
        options = _storage.delta_options(answers)
        try:
            transaction.create_table_with_add_actions(
                answers, schema, actions, commit_properties=properties, storage_options=options
            )
        except (self._deltalake.exceptions.DeltaError, OSError) as error:
            # Another run of the job may have been faster.
            if not self._is_registered(answers, job):
                raise CommitError(f"{answers}: no Delta table can be written there: {error}") from error

    def _is_registered(self, answers: str, job: str) -> bool:
        try:
            table = self._deltalake.DeltaTable(answers, storage_options=_storage.delta_options(answers))
        except self._deltalake.exceptions.TableNotFoundError:
            return False
        except (self._deltalake.exceptions.DeltaError, OSError) as error:
            raise CommitError(f"{answers}: it cannot be read whether there is a Delta table: {error}") from error
        if table.transaction_version(f"maeum.batch/{job}") is None:
            raise TableError(f"{answers}: holds a Delta table of another job; name another OUT")
        return True


class Iceberg:
    """Iceberg table of a catalogue, which is configured as for every program that uses PyIceberg.

    Several jobs may have one table; other rows in it stay. The table is made if it is not there.
    """

    def __init__(self, name: str, catalog: Union[str, None]):
        self._name = name
        self._pyiceberg = _package("pyiceberg.catalog", "pyiceberg")
        self._exceptions: Any = importlib.import_module("pyiceberg.exceptions")
        try:
            try:
                self._catalog = self._pyiceberg.load_catalog(catalog)
            except Exception:
                # A catalogue in a database makes its own tables, and another run may have made them at this moment.
                self._catalog = self._pyiceberg.load_catalog(catalog)
        except Exception as error:
            raise TableError(f"the Iceberg catalogue {catalog or 'default'!r} cannot be loaded: {error}") from error

    def commit(self, answers: str, sizes: Dict[str, int], rows: Dict[str, int], job: str) -> None:
        """Add all files of the folder or URL `answers`; do nothing if the table has this job already.

        Raises:
            CommitError: the table cannot be written
        """
        del rows
        # Paths have the form that other engines expect.
        base = answers if "://" in answers else f"file://{answers}"
        files = [f"{base}/{name}" for name in sorted(sizes)]
        mark = f"maeum.batch.{job}"
        try:
            try:
                self._make()
            except Exception:
                # Another run may have made them at this moment, which each catalogue reports in its own way.
                self._make()
            for attempt in range(_ATTEMPTS):
                table = self._catalog.load_table(self._name)
                if mark in table.properties:
                    return
                # PyIceberg repeats a failed commit without a look at what the other writer has committed: that may
                # be this job. The entry is read from here and is not stored in the table.
                table.metadata.properties["commit.retry.num-retries"] = "0"
                try:
                    with table.transaction() as transaction:
                        transaction.set_properties({mark: "registered"})
                        transaction.add_files(files)
                    return
                except self._exceptions.CommitFailedException:
                    time.sleep(0.1 * 2**attempt)
        except Exception as error:
            raise CommitError(f"the Iceberg table {self._name} cannot be written: {error}") from error
        raise CommitError(f"the Iceberg table {self._name} has too many other writers")

    def _make(self) -> None:
        """Make the namespace and the table where they are not there."""
        self._catalog.create_namespace_if_not_exists(self._name.rsplit(".", 1)[0])
        self._catalog.create_table_if_not_exists(self._name, SCHEMA)


def open_table(text: str, catalog: Union[str, None]) -> Union[Delta, Iceberg]:
    """Return the table of a command line: `delta`, or `iceberg:` and the table's name with its namespace.

    Raises:
        TableError: the text names no table, a package is missing, or the catalogue cannot be loaded
    """
    kind, _, name = text.partition(":")
    if kind == "delta" and not name:
        return Delta()
    if kind == "iceberg" and "." in name.strip("."):
        return Iceberg(name, catalog)
    raise TableError(f"--table {text}: give delta or iceberg:NAMESPACE.TABLE")
