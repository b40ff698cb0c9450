"""A report takes the place of the one before as a whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vem.storage import locks
from vem.storage.ledger import gone
from vem.storage.records import Unwritable, make_folder, unwritable, write_json

STAGING = ".report."  # and the process that writes there: its machine, a dot, its number
FILES = ".report.json"  # the names of what the last report wrote: what the next one does not write again goes


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder below ``out``; when the block ends well, what it holds takes its place in ``out``.

    Everything is written before anything is replaced, and if a file cannot be replaced, those that were are put
    back: a full disk or Ctrl-C leaves the earlier report as it was. Files of other origin stay. Of two processes that
    write one report (the end of a sweep and ``--watch``) the second waits until the files of the first are in place.

    Raises:
        VemError: the disk is full or ``out`` cannot be written.
    """
    folder = out / f"{STAGING}{socket.gethostname()}.{os.getpid()}"
    try:
        make_folder(out)
        _clear_leftovers(out)
        make_folder(folder)
        yield folder
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        write_json(folder / FILES, {"files": names})
        with locks.held(out):  # on the folder itself: no file stays
            _publish(folder, out, [*names, FILES])
    except Unwritable as error:
        told = error.told.replace(f"{folder.name}/", "").replace(f"/{folder.name}", "")
        told = told.replace("nothing was overwritten", _kept(out))
        raise Unwritable(told, error.full).advising("--out DIR", "python -m vem.report RUNS --out DIR") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kept(out: Path) -> str:
    return "the earlier report is kept" if (out / FILES).exists() else "nothing was overwritten"


def _publish(folder: Path, out: Path, names: Sequence[str]) -> None:
    """Move the files to their places; undone where one of them cannot be."""
    backup = folder / "before"
    gone = [name for name in _earlier(out) if name not in names]
    before = [name for name in (*names, *gone) if (out / name).exists()]
    try:
        for name in before:
            _second_name(out / name, backup / name)
        for name in names:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out / name, error) from error
    done: list[str] = []
    try:
        for name in names:
            os.replace(folder / name, out / name)
            done.append(name)
        for name in gone:
            (out / name).unlink(missing_ok=True)
    except BaseException as error:
        _undo(backup, out, {*done, *gone})
        if isinstance(error, OSError):
            raise unwritable(out / name, error) from error
        raise


def _undo(backup: Path, out: Path, names: set[str]) -> None:
    for name in names:
        with suppress(OSError):
            if (backup / name).exists():
                os.replace(backup / name, out / name)
            else:
                (out / name).unlink(missing_ok=True)


def _second_name(path: Path, other: Path) -> None:
    """Another name for the same content, which stays when the first is taken over."""
    other.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, other)
    except OSError:  # a file system without hard links
        shutil.copy2(path, other)


def _earlier(out: Path) -> list[str]:
    """The files of the report before, as far as they lie in ``out``."""
    try:
        names = json.loads((out / FILES).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    known = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return [name for name in known if not Path(name).is_absolute() and ".." not in Path(name).parts]


def _clear_leftovers(out: Path) -> None:
    """Remove what a report that was killed on this machine has left."""
    for folder in out.glob(f"{STAGING}*"):
        host, _, pid = folder.name.removeprefix(STAGING).rpartition(".")
        if not folder.is_dir() or not pid.isdigit():
            continue
        mine = host == socket.gethostname() and int(pid) == os.getpid()  # left by an earlier report of this process
        if mine or gone(host, int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
