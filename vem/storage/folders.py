"""Every real folder below some others, symbolic links followed: where runs and sweeps are looked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

RUN = "run.json"
PLAN = ".sweep"  # of a sweep directory
ASIDE = "earlier"  # finished runs that were run again


class Folder(NamedTuple):
    """A folder under the first name by which it is reached, and what lies in it."""

    path: Path
    names: frozenset[str]

    @property
    def is_run(self) -> bool:
        """Whether it is the directory of a run."""
        return RUN in self.names


def below(roots: Iterable[Path]) -> list[Folder]:
    """The folders at or below ``roots``, each real one (device and inode) once, which also ends cycles of links.

    Nothing below a run is searched, and nothing that was put aside, under whatever name a link leads there. A folder
    that lies below a root itself keeps that name, and links are followed last. What cannot be read is left out.
    """
    starts = [Path(root).resolve() for root in roots]
    seen: set[tuple[int, int]] = set()
    out: list[Folder] = []
    folders, links = deque(starts), deque[Path]()
    while folders or links:
        path = folders.popleft() if folders else links.popleft()
        place = identity(path)
        if place is None or place in seen or (path.is_symlink() and _leads_aside(path, starts)):
            continue
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            continue
        seen.add(place)
        folder = Folder(path, frozenset(entry.name for entry in entries))
        out.append(folder)
        if folder.is_run and PLAN not in folder.names:
            continue
        for entry in entries:
            if entry.name not in (ASIDE, PLAN):
                if entry.is_symlink():
                    links.append(Path(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
    return out


def identity(path: Path) -> tuple[int, int] | None:
    """What tells one real folder from another, whatever it is called; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _leads_aside(link: Path, roots: Iterable[Path]) -> bool:
    """Whether a link ends at or below a folder of runs put aside, which is none that a root lies in."""
    real = link.resolve()
    return all(ASIDE in real.parts[len(Path(os.path.commonpath((real, root))).parts) :] for root in roots)


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with its ``~`` replaced; as it is where there is no such user here.

    >>> expanded("~nobody of that name/x.npy").as_posix()
    '~nobody of that name/x.npy'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
