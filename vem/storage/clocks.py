"""Whether a file was touched lately, where clocks disagree.

Two machines and their file server have one each, and one may be set while the work goes on.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HELD = 5.0  # seconds for which a look at a file system's clock serves


class _Look(NamedTuple):
    """What this process saw of a file, or of a clock."""

    stamp: float
    when: float  # on this process's monotonic clock


_files: dict[Path, _Look] = {}  # its time of change (ns), and when it was changed
_clocks: dict[Path, _Look] = {}


def lately(path: Path, seconds: float, folder: Path) -> bool:
    """Whether a file was changed in the last ``seconds``; False where there is none.

    Its time is held against the clock that gave it, that of its file system, which a ``folder`` in it tells; while it
    stays as it is, it ages on a clock that nobody sets. What has a time to come may just have been written, before the
    clock was set back: that counts as a change now.
    """
    try:
        found = path.stat()
    except OSError:
        _files.pop(path, None)
        return False
    look = _files.get(path)
    if look is None or look.stamp != found.st_mtime_ns:
        look = _files[path] = _Look(found.st_mtime_ns, time.monotonic() - _age(found.st_mtime, seconds, folder))
    return time.monotonic() - look.when < seconds


def _age(changed: float, seconds: float, folder: Path) -> float:
    age = now(folder) - changed
    if age >= seconds:  # the clock may have been set back since it was looked at
        age = now(folder, 0.1 * HELD) - changed
    return max(0.0, age)


def now(folder: Path, held: float = HELD) -> float:
    """The time by the clock of the folder's file system, seconds; by this machine's where nothing can be written.

    held: how old a look at that clock may be.
    """
    look = _clocks.get(folder)
    if look is None or time.monotonic() - look.when > held:
        look = _clocks[folder] = _Look(_told_by(folder), time.monotonic())
    return look.stamp + time.monotonic() - look.when


def _told_by(folder: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".clock") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
