"""Published files: found in the data folder, or fetched from their public homes, and always checked."""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pooch

from vem.errors import VemError
from vem.storage.folders import expanded

TIMEOUT_SECONDS = 30
CHUNK = 1 << 20
_FETCH = ContextVar("fetch", default=True)


@dataclass(frozen=True)
class Source:
    """A published file: its place below the data folder, the addresses tried in turn, its checksum."""

    path: str
    urls: tuple[str, ...]
    checksum: str | None  # "sha256:…" or "md5:…"; None where the array read from the file is checked instead


def data_folder(root: str | os.PathLike[str] | None) -> Path:
    """The folder that holds the data: ``root``, else the environment variable VEM_DATA, else a cache.

    >>> data_folder("/data").as_posix()
    '/data'
    """
    chosen = root if root is not None else os.environ.get("VEM_DATA") or pooch.os_cache("vem")
    return expanded(chosen)


def obtain(source: Source, folder: Path) -> Path:
    """The path of a whole, unchanged copy of ``source`` below ``folder``, downloaded if it is missing.

    Raises:
        VemError: a copy is there and has another checksum, or there is none and it cannot be downloaded.
    """
    path = folder / source.path
    if not path.exists():
        download(source, path)
    elif source.checksum is not None:
        verify(read_bytes(path), source.checksum, path)
    return path


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Take what is missing for missing, where a folder is only tried for what it holds."""
    token = _FETCH.set(False)
    try:
        yield
    finally:
        _FETCH.reset(token)


def download(source: Source, path: Path) -> None:
    """Fetch ``source`` to ``path`` from the first address that gives the right bytes.

    The bytes go to a temporary file that takes its name only when the checksum is right.

    Raises:
        VemError: no address gave the file, or ``path`` cannot be written.
    """
    if not _FETCH.get():
        raise VemError(f"{path} is missing.")
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in source.urls:
            # A bar is for a person; in a log file it is noise.
            http = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
            try:
                pooch.retrieve(url, source.checksum, fname=path.name, path=path.parent, downloader=http)
                return
            except (OSError, ValueError) as error:
                if _is_local(error):
                    raise
                failures.append(f"{url}: {_reason(error)}")
    except OSError as error:
        raise _unwritable(path, error) from error
    checksum = f" ({source.checksum})" if source.checksum else ""
    raise VemError(
        f"{path} is missing and could not be downloaded ({'; '.join(failures)}). Put the file there by hand"
        f"{checksum}, or name a folder that has {source.path} with data.root=DIR or VEM_DATA."
    )


def _is_local(error: Exception) -> bool:
    """Whether an error came from this machine's disk; those of the network carry no error number."""
    return isinstance(error, OSError) and error.errno is not None


def _unwritable(path: Path, error: OSError) -> VemError:
    # strerror alone can be missing: the downloader raises some of its errors with a bare message.
    return VemError(
        f"{path} cannot be written: {error.strerror or error}. "
        "Name a folder you can write to with data.root=DIR or VEM_DATA."
    )


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the server answered {status}"
    if isinstance(error, ValueError):
        return "the file there has another checksum"
    known = {
        "ConnectionError": "no connection",
        "ProxyError": "no connection through the proxy",
        "ConnectTimeout": f"no connection within {TIMEOUT_SECONDS} s",
        "ReadTimeout": f"no answer within {TIMEOUT_SECONDS} s",
        "ChunkedEncodingError": "the connection broke off before the end",
    }
    return known.get(type(error).__name__, f"{type(error).__name__}: {error}")


def checked(chunks: Iterable[bytes], checksum: str, path: Path) -> Iterator[bytes]:
    """Hand on the content of ``path``, and at its end compare its checksum with the published one.

    Raises:
        VemError: they differ.
    """
    algorithm, expected = checksum.split(":")
    digest, size = hashlib.new(algorithm), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if digest.hexdigest() != expected:
        raise VemError(
            f"{path} has the wrong checksum: its content ({size} bytes) has {algorithm} "
            f"{digest.hexdigest()}, expected {expected}; it was cut short or changed. Delete it, and the "
            "next run fetches it again, or name a folder with a whole copy with data.root=DIR or VEM_DATA."
        )


def verify(content: bytes, checksum: str, path: Path) -> None:
    """:func:`checked` for content that is in memory.

    Raises:
        VemError: the checksums differ.
    """
    for _ in checked([content], checksum, path):
        pass


def verify_array(values: npt.NDArray[Any], checksum: str, path: Path) -> None:
    """:func:`verify` for an array: where a file was packed anew, its bytes differ and its values must not.

    Raises:
        VemError: the values (C order) have another checksum.
    """
    verify(np.ascontiguousarray(values).tobytes(), checksum, path)


def damaged(path: Path, error: Exception) -> VemError:
    """The message for a file that is there and cannot be read."""
    return VemError(
        f"{path} cannot be read: {str(error) or type(error).__name__}. It was cut short, changed, or is "
        "not what its name says; delete it, and the next run fetches it again, or put a whole copy in "
        "its place."
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        VemError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise VemError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def gunzip(path: Path) -> Iterator[bytes]:
    """The content of a gzip file, a mebibyte at a time: what fits a cache is read three times as fast.

    Raises:
        VemError: the file is damaged or cut short.
    """
    stream, rest = zlib.decompressobj(wbits=31), read_bytes(path)
    try:
        while not stream.eof:
            chunk = stream.decompress(rest, CHUNK)
            rest = stream.unconsumed_tail
            if not chunk and not stream.eof:
                raise zlib.error("the gzip stream ends too early")
            yield chunk
    except zlib.error as error:
        raise damaged(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, so that an interrupted run leaves nothing half-written.

    Raises:
        VemError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_mat(path: Path, *names: str) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays ``names`` of a MATLAB v5 file.

    Raises:
        VemError: the file is damaged or lacks one of them.
    """
    from scipy.io import loadmat  # here, because scipy.io costs the other data sets a tenth of a second

    try:
        content = loadmat(path, variable_names=names)
        return {name: content[name] for name in names}
    except Exception as error:  # scipy raises bare TypeError, ValueError, MatReadError, … on damaged bytes
        raise damaged(path, error) from error
