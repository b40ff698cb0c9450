"""Locks between processes, on a file or on a folder itself; one is over when its holder ends, however that happens."""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vem.storage import records

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("vem")

# What file systems without such locks answer: Lustre without `-o flock`, some NFS (EBADF: not on a folder).
WITHOUT = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.EIO, errno.EINVAL}


class Taken(Exception):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on ``path`` while the block runs; a file is made where there is none.

    Gives False where the system or the file system has no locks: the block then runs without one, and the log says so.

    Raises:
        Taken: another holds it, and ``wait`` is False.
        VemError: the file cannot be opened.
    """
    if fcntl is None:
        yield False
        return
    with records.writing(path):
        file = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _lock(file, path, wait)
    finally:
        os.close(file)


def _lock(file: int, path: Path, wait: bool) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise Taken(f"another process holds the lock on {path}") from None
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
        if not path.is_dir():  # NFS locks files, and never a folder
            _say(str(error.strerror))
        return False
    return True


@functools.cache
def _say(reason: str) -> None:
    """Once for each reason."""
    log.warning("the file system has no locks (%s): see to it that no two commands work in one folder.", reason)
