"""Where the data of a run lie after its project was moved, or came home from a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

from vem.data.dataset import Data
from vem.data.files import nothing_fetched
from vem.errors import VemError
from vem.storage import same_data
from vem.storage.folders import expanded
from vem.storage.identity import FILE_HASH
from vem.storage.sealing import file_hash, mapping

KEY = "paths"  # of run.json
KEYS = ("path", "root")  # of the data section: the user's own file, or the folder of published ones
TOLD = 6  # places that a message names
HEX = 64  # digits of a SHA-256; where there was no file, the config says so in its place

Section = Mapping[str, Any]


def typed(section: Section, overrides: Sequence[str], directory: Path) -> dict[str, str]:
    """What ``run.json`` says of paths: those of the data as typed, and the run's directory from where that was."""
    words: dict[str, str] = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    keys = [key for key in KEYS if isinstance(section.get(key), str)]
    # The jobs of a sweep are given absolute paths.
    paths = {f"data.{key}": words.get(f"data.{key}", str(section[key])).strip("'\"") for key in keys}
    place = str(directory)
    with suppress(ValueError):  # another drive
        place = os.path.relpath(directory)
    return {**paths, "run": place}


def found(
    section: Section,
    status: Mapping[str, Any],
    directory: Path,
    given: str | os.PathLike[str] | None,
    other_data: bool,
    make: Callable[[Section], Data],
) -> tuple[Section, Data]:
    """The data of a run and its config section, with the place where they lie now.

    Looked for where they were, then below the working directory, then below each parent folder of the run; the first
    place whose content is the run's is taken. ``given``: look there alone. ``other_data``: take other data, too.

    Raises:
        VemError: they are nowhere, or what lies there is something else; both digests, and what was tried.
    """
    key = _key(section) or (None if given is None else _key(section, unset=True))
    if key is None:
        if given is not None:
            raise VemError(f"data={given}: the data of {directory} have neither data.path nor data.root to be set.")
        return section, make(section)
    if given is None:
        places = list(candidates(section[key], mapping(status.get(KEY)).get(f"data.{key}"), directory))
    else:
        places = [expanded(given).absolute()]
        if not places[0].exists():
            raise VemError(f"data.{key}={given}: there is no such file or folder.")
        section = {**section, key: str(places[0])}
    if key == "path" and len(str(section.get(FILE_HASH))) == HEX:
        place, content = _file(places, section, directory, other_data)
        section = {**section, key: str(place), FILE_HASH: content}
    elif recorded := mapping(status.get(same_data.KEY)):
        for place in filter(Path.exists, places):
            moved = {**section, key: str(place)}
            with suppress(VemError):
                with nothing_fetched():
                    data = make(moved)
                if not same_data.differences(recorded, same_data.digests(data))[0]:
                    return moved, data
    return section, make(section)


def _key(section: Section, unset: bool = False) -> str | None:
    """The key that says where the data lie; ``unset``: the one that could."""
    return next((key for key in KEYS if (key in section if unset else isinstance(section.get(key), str))), None)


def candidates(recorded: str, as_typed: Any, directory: Path) -> Iterator[Path]:
    """Where a file may lie that once lay at ``recorded``, nearest first.

    As it was; as it was typed, in the home folder of here, from the working directory and from each parent folder of
    the run; and the end of the path, as much as possible of it, below each of them.
    """
    seen = set()
    parents = [Path.cwd(), *directory.absolute().parents, *directory.resolve().parents]
    path = expanded(recorded)
    typed_in = [expanded(word) for word in (as_typed, recorded) if isinstance(word, str)]
    short = [place for place in typed_in if not place.is_absolute()]
    # A run of a Windows machine has backslashes between its folders.
    parts = PureWindowsPath(recorded).parts if "\\" in recorded and not path.is_absolute() else path.parts
    ends = [Path(*parts[n:]) for n in range(1, len(parts))]
    below = [parent / name for name in (*short, *ends) for parent in parents]
    for place in (path, *(place for place in typed_in if place.is_absolute()), *below):
        if (plain := os.path.normpath(place)) not in seen:
            seen.add(plain)
            yield Path(plain)


def _file(places: list[Path], section: Section, directory: Path, other_data: bool) -> tuple[Path, str]:
    """The first of the places with the section's file, and its hash; of other data the first with a file."""
    digest, other = str(section[FILE_HASH]), dict[Path, str]()
    for place in places:
        with suppress(OSError, VemError):
            if place.is_file():
                if (content := file_hash(place)) == digest:
                    return place, digest
                other[place] = content
    if other and other_data:
        return next(iter(other.items()))
    had = digest[: same_data.SHOWN]
    if other:
        place, content = next(iter(other.items()))
        raise VemError(
            f"{place} has changed since {directory} was trained on it: it has the digest {content[: same_data.SHOWN]}, "
            f"and had {had}. Put the old file back. {remedies(directory, section)}"
        )
    more = f" and {len(places) - TOLD} more places, all below the run's parent folders" if len(places) > TOLD else ""
    tried = ", ".join(map(str, places[:TOLD])) + more
    raise VemError(
        f"the data of {directory} are not found: no file with the digest {had} at {tried}. "
        f"{remedies(directory, section, differ=False)}"
    )


def remedies(directory: Path, section: Section, differ: bool = True) -> str:
    """What to do where data are not found, or are found and ``differ``."""
    load, command = f"vem.load({str(directory)!r}, ", f"python -m vem.evaluate {directory}"
    if key := _key(section) or _key(section, unset=True):
        where = f"Say where they lie: {load}data=PATH), or {command} data.{key}=PATH."
    else:
        where = "A function that draws its data at random has to draw the same ones each time, from a seed of its own."
    other = f" Or take them all the same: {load}other_data=True), or {command} --other-data --out DIR."
    return where + (other if differ else "")
