"""Published files: found in the data folder, or fetched from their public homes, and always checked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pooch

from vem.errors import VemError
from vem.storage import records
from vem.storage.folders import expanded

TIMEOUT_SECONDS = 30
CHUNK = 1 << 20
WRITABLE = "Name a folder you can write to with data.root=DIR or VEM_DATA."
_FETCH = ContextVar("fetch", default=True)


@dataclass(frozen=True)
class Source:
    """A published file: its place below the data folder, the addresses tried in turn, its checksum."""

    path: str
    urls: tuple[str, ...]
    checksum: str | None  # "sha256:…" or "md5:…"; None where the array read from the file is checked instead


def sources(pattern: str, homes: Iterable[str], checksums: Mapping[str, str]) -> dict[str, Source]:
    """A source by each name, which fills the ``pattern`` of a path; every home has the file itself.

    >>> sources("set/{}.gz", ("http://a/", "http://b/"), {"x": "md5:0"})["x"].urls
    ('http://a/x.gz', 'http://b/x.gz')
    """
    paths = {name: pattern.format(name) for name in checksums}
    urls = {name: tuple(home + path.rpartition("/")[2] for home in homes) for name, path in paths.items()}
    return {name: Source(path, urls[name], checksums[name]) for name, path in paths.items()}


def data_folder(root: str | os.PathLike[str] | None) -> Path:
    """The folder that holds the data: ``root``, else the environment variable VEM_DATA, else a cache.

    >>> data_folder("/data").as_posix()
    '/data'
    """
    chosen = root if root is not None else os.environ.get("VEM_DATA") or pooch.os_cache("vem")
    return expanded(chosen)


def obtain(source: Source, folder: Path) -> Path:
    """A whole copy of ``source`` below ``folder``, fetched if it is missing; VemError if it is not to be had."""
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
    """Fetch ``source`` to ``path`` from the first address with the right bytes; VemError if there is none.

    The bytes go to a temporary file that takes its name only when the checksum is right.
    """
    if not _FETCH.get():
        raise VemError(f"{path} is missing.")
    failures: list[str] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in source.urls:
            # A bar is for a person; in a log file it is noise.
            http = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
            try:
                pooch.retrieve(url, source.checksum, fname=path.name, path=path.parent, downloader=http)
                return
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None:  # of the disk: the network's have none
                    raise
                failures.append(f"{url}: {_reason(error)}")
    except OSError as error:
        raise VemError(f"{records.unwritable(path, error).told} {WRITABLE}") from error
    checksum = f" ({source.checksum})" if source.checksum else ""
    raise VemError(
        f"{path} is missing and could not be downloaded ({'; '.join(failures)}). Put the file there by hand"
        f"{checksum}, or name a folder that has {source.path} with data.root=DIR or VEM_DATA."
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
    """Hand on the content of ``path``; VemError at its end if its checksum is not the published one."""
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
    """:func:`checked` for content that is in memory."""
    for _ in checked([content], checksum, path):
        pass


def damaged(path: Path, error: Exception) -> VemError:
    """The message for a file that is there and cannot be read."""
    return VemError(
        f"{path} cannot be read: {str(error) or type(error).__name__}. It was cut short, changed, or is "
        "not what its name says; delete it, and the next run fetches it again, or put a whole copy in "
        "its place."
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file; VemError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise VemError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def gunzip(path: Path) -> Iterator[bytes]:
    """The content of a gzip file, a mebibyte at a time, which fits a cache; VemError if it is damaged or cut short."""
    packed = read_bytes(path)
    try:
        if not packed:
            raise EOFError("it is empty")
        with gzip.open(io.BytesIO(packed)) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; VemError if it cannot be written, with the options that name another folder."""
    try:
        records.make_folder(path.parent)
        with records.replacing(path) as temporary:
            temporary.write_bytes(content)
    except records.Unwritable as error:
        raise VemError(f"{error.told} {WRITABLE}") from error


def packed(
    path: Path, key: str, checksum: str, upstream: Callable[[], Mapping[str, npt.NDArray[Any]]]
) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of an .npz (of a .npy one array, ``key``), which ``upstream`` gives the first time.

    VemError if the file is damaged or cannot be written, or the array ``key`` has another checksum.
    """
    kept = path.exists()
    if not kept:
        arrays = upstream()
    else:
        try:
            with path.open("rb") as file:
                content = np.load(file, allow_pickle=False)
                arrays = {key: content} if isinstance(content, np.ndarray) else dict(content)
        except Exception as error:  # numpy passes on whatever zipfile and zlib meet in damaged bytes
            raise damaged(path, error) from error
    verify(np.ascontiguousarray(arrays[key]).tobytes(), checksum, path)  # packed anew its bytes would be others
    if not kept:
        out = io.BytesIO()
        if path.suffix == ".npy":
            np.save(out, arrays[key])
        else:
            np.savez_compressed(out, **dict(arrays))  # type: ignore[arg-type]  # its one option has another type
        write_bytes(path, out.getvalue())
    return arrays


def load_mat(path: Path, *names: str) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays ``names`` of a MATLAB v5 file; VemError if it is damaged or lacks one of them."""
    from scipy.io import loadmat  # here, because scipy.io costs the other data sets a tenth of a second

    try:
        content = loadmat(path, variable_names=names)
        return {name: content[name] for name in names}
    except Exception as error:  # scipy raises bare TypeError, ValueError, MatReadError, … on damaged bytes
        raise damaged(path, error) from error
