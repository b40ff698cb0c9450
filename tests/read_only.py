"""Folders that take no files, also for root, whom permissions do not bind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_protected: dict[str, int] = {}
_hooked = False


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not _protected or event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink"):
        return
    if event == "open" and not int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):  # type: ignore[call-overload]
        return
    for path in arguments[: 2 if event == "os.rename" else 1]:
        if isinstance(path, str | bytes | os.PathLike):
            text = os.path.abspath(os.fsdecode(path))
            for folder, number in _protected.items():
                if text == folder or text.startswith(folder + os.sep):
                    raise OSError(number, os.strerror(number), text)


@contextmanager
def refusing(folder: Path, number: int = errno.EROFS) -> Iterator[None]:
    """Every attempt to write at or below the folder meets this error: EROFS, EACCES, ENOSPC."""
    global _hooked
    if not _hooked:  # a hook cannot be taken off
        sys.addaudithook(_refuse)
        _hooked = True
    _protected[os.path.abspath(folder)] = number
    try:
        yield
    finally:
        _protected.pop(os.path.abspath(folder))
