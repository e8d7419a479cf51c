"""Google's and Azure's object storage through Arrow's file systems; Daft serves the other schemes.

Daft 0.7 writes nothing to Azure, finds no files below a folder of it, and reads no name with a space; its connection to
Google's storage takes no other address, so that it cannot be tried without an account.
"""

import functools
import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

import daft
import pyarrow.fs
from daft import DataType

#: Files that a worker reads at the same time; more only wait for each other's bytes.
_READS = 16


def is_arrow(url: str) -> bool:
    """Return whether a URL belongs to a storage of this module."""
    return url.split("://", 1)[0] in ("gs", "az")


@functools.lru_cache(maxsize=None)
def _filesystem(scheme: str, process: int) -> Any:
    """Return the file system of a scheme, with the settings of the environment; `process` keeps forks apart."""
    del process
    if scheme == "gs":
        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        if emulator is None:
            return pyarrow.fs.GcsFileSystem()
        address = urlsplit(emulator if "://" in emulator else f"http://{emulator}")
        return pyarrow.fs.GcsFileSystem(anonymous=True, scheme=address.scheme, endpoint_override=address.netloc)
    account = os.environ.get("AZURE_STORAGE_ACCOUNT")
    if account is None:
        raise ValueError("the environment variable AZURE_STORAGE_ACCOUNT must name the account")
    options = {}
    for name, variable in (("account_key", "AZURE_STORAGE_KEY"), ("sas_token", "AZURE_STORAGE_SAS_TOKEN")):
        if variable in os.environ:
            options[name] = os.environ[variable]
    if "AZURE_STORAGE_ENDPOINT" in os.environ:
        address = urlsplit(os.environ["AZURE_STORAGE_ENDPOINT"])
        for service in ("blob", "dfs"):
            options[f"{service}_storage_scheme"] = address.scheme
            options[f"{service}_storage_authority"] = address.netloc
    return pyarrow.fs.AzureFileSystem(account, **options)


def delta_options(url: str) -> Dict[str, str]:
    """Return what the package deltalake does not read from the environment by itself for a URL or folder."""
    options = {}
    endpoint = None
    scheme = url.split("://", 1)[0]
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
    elif scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT", "")
        names = {"azure_storage_account_key": "AZURE_STORAGE_KEY", "azure_storage_sas_key": "AZURE_STORAGE_SAS_TOKEN"}
        options = {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}
        options["azure_storage_account_name"] = account
        if "AZURE_STORAGE_ENDPOINT" in os.environ:
            endpoint = f"{os.environ['AZURE_STORAGE_ENDPOINT'].rstrip('/')}/{account}"
            options["azure_storage_endpoint"] = endpoint
    if endpoint and endpoint.startswith("http://"):
        options["allow_http"] = "true"
    return options


def split(url: str) -> Tuple[Any, str]:
    """Return file system and path of a URL.

    Raises:
        ValueError: the environment has no account
    """
    scheme, path = url.split("://", 1)
    return _filesystem(scheme, os.getpid()), path


def _pattern(glob: str) -> "re.Pattern[str]":
    """Return the expression of a path: `**` matches folders, `*` and `?` what is between two slashes."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|\*\*|\*|\?|\[[^/\]]+\])", glob)
    return re.compile("".join(parts.get(t) or (t if t[:1] == "[" and t[-1:] == "]" else re.escape(t)) for t in tokens))


def objects(pattern: str) -> List[Tuple[str, int]]:
    """Return URL and size of the objects that match a URL with `*`, `**`, `?` and `[]`; without them, of that object."""
    scheme = pattern.split("://", 1)[0]
    system, path = split(pattern)
    plain = re.split(r"[*?\[]", path, maxsplit=1)[0]
    base = plain.rsplit("/", 1)[0] if "/" in plain else plain
    is_deep = "**" in path or "/" in path[len(base) + 1 :]
    selector = pyarrow.fs.FileSelector(base, recursive=is_deep, allow_not_found=True)
    matches = _pattern(path).fullmatch
    found = system.get_file_info(selector)
    return [(f"{scheme}://{f.path}", f.size) for f in found if f.type == pyarrow.fs.FileType.File and matches(f.path)]


def open_object(url: str) -> Any:
    """Open an object for reading.

    Raises:
        FileNotFoundError: there is none
        OSError: it cannot be read
        ValueError: the environment names no account
    """
    system, path = split(url)
    return system.open_input_file(path)


def read(url: str) -> bytes:
    """Return the content of an object; raise as `open_object` does."""
    with open_object(url) as file:
        data: bytes = file.readall()
    return data


def write(url: str, data: bytes) -> None:
    """Write an object, which appears whole or not at all; raise as `open_object` does."""
    system, path = split(url)
    # An exception before the end leaves no object: both storages make one of its parts at the end.
    stream = system.open_output_stream(path)
    stream.write(data)
    stream.close()


def _read_or_none(url: str) -> Optional[bytes]:
    try:
        return read(url)
    except (OSError, ValueError):
        # The caller reads it again for the reason.
        return None


@daft.cls
class _Reader:
    """Reader of one worker."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_READS)

    @daft.method.batch(return_dtype=DataType.binary(), batch_size=_READS)
    def contents(self, urls: daft.Series) -> Any:
        return list(self._threads.map(_read_or_none, urls.to_pylist()))


def contents(urls: daft.Expression) -> daft.Expression:
    """Return the contents of a column of URLs; null where one cannot be read."""
    reader: Any = _Reader()
    column: daft.Expression = reader.contents(urls)
    return column
