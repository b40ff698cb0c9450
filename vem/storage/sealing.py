"""What run.json says of the files beside it: their sizes and hashes, so that one that was cut or swapped is seen.

run.json is written last. A run from before says nothing of its files, and nothing is found wrong with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vem.errors import VemError
from vem.storage import records
from vem.storage.ledger import JobState

OWN, FILES = "sha256", "files"  # keys of run.json: the hash of the rest of it, and what it says of the other files
MEASURED = (records.EVALUATION, records.PER_DATUM, records.PICTURES)  # python -m vem.evaluate writes them anew
LARGE = (records.CHECKPOINT, records.BEST_CHECKPOINT)  # may be gigabytes: hashed only where they are read
SEALED = (records.CONFIG, records.OVERRIDES, records.METRICS, *MEASURED, *LARGE)


def write_run(directory: Path, status: Mapping[str, Any], written: Collection[str] = SEALED) -> None:
    """Write run.json with its own hash and, where the run is done, the sizes and hashes of the files beside it.

    ``written``: the files that are new; of the others it goes on to say what it said, if anything. Every writer of
    run.json comes through here, after all other files.
    """
    content = unsealed(status)
    if content.get("status") == JobState.DONE:
        said = mapping(status.get(FILES))
        content[FILES] = {
            name: said[name] if name in said and name not in written else _entry(directory / name)
            for name in SEALED
            if (directory / name).exists() or (name in said and name not in written)
        }
    records.write_json(directory / records.RUN, {**content, OWN: _hash(content)})


def unsealed(status: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says, less what it says of files."""
    return {key: value for key, value in status.items() if key not in (OWN, FILES)}


def damage(
    directory: Path, status: Mapping[str, Any], names: Collection[str] = SEALED, deep: bool = False
) -> list[str]:
    """A sentence for each file that is not the one that run.json (``status``, as read) speaks of, with a remedy.

    Of run.json itself, too. ``names``: look at these files alone. Checkpoints are compared by their sizes, and by
    their hashes if ``deep``. Of a run from before, which says nothing, there is nothing to find.
    """
    own, said = status.get(OWN), status.get(FILES)
    if own is not None and own != _hash({key: value for key, value in status.items() if key != OWN}):
        return [f"{directory / records.RUN} is not as it was written: {_remedy(records.RUN, directory, status)}"]
    if status.get("status") != JobState.DONE or not isinstance(said, Mapping):
        return []
    wrong = {name: _wrong(directory / name, said.get(name), deep) for name in SEALED if name in names}
    return [f"{directory / name} {text}: {_remedy(name, directory, status)}" for name, text in wrong.items() if text]


def require(directory: Path, status: Mapping[str, Any], names: Collection[str] = SEALED, deep: bool = False) -> None:
    """Raise a VemError with the first sentence of :func:`damage`, if there is one."""
    for sentence in damage(directory, status, names, deep):
        raise VemError(sentence)


def _wrong(path: Path, said: Any, deep: bool) -> str | None:
    """What is wrong with a file of which run.json says ``said``."""
    entry = mapping(said)
    try:
        if not path.exists():
            return "is missing" if entry else None
        size = path.stat().st_size
        if not entry:
            return "is no file of this run: run.json does not speak of it"
        if size != entry.get("bytes"):
            return f"is not this run's any more: it has {size} bytes, and had {entry.get('bytes')} when the run ended"
        if (deep or path.name not in LARGE) and file_hash(path) != entry.get("sha256"):
            return "is not this run's any more: its content has changed since the run ended"
    except (OSError, VemError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return None


def measured_of(status: Mapping[str, Any]) -> str | None:
    """The run that was measured, where run.json is that of a measurement beside it."""
    found = mapping(status.get("evaluated")).get("of")
    return found if isinstance(found, str) else None


def _remedy(name: str, directory: Path, status: Mapping[str, Any]) -> str:
    if run := measured_of(status):
        return f"delete the folder and measure again: python -m vem.evaluate {run} --out {directory}."
    if "command" not in status:
        return "the same call of vem.measure measures again."  # that wrote it
    if name in MEASURED:
        return f"python -m vem.evaluate {directory} --again measures the run again."
    return "put it back, or run again in a fresh hydra.run.dir (or here with rerun=stale, which archives this run)."


def _entry(path: Path) -> dict[str, Any]:
    digest = file_hash(path)
    return {"bytes": path.stat().st_size, "sha256": digest}


def _hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content as JSON, whatever the layout of the file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_hash(path: Path, place: str = "") -> str:
    """SHA-256 of a file; raises VemError where it cannot be read. ``place`` is the key that names it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VemError(f"{place}{path} cannot be read: {error.strerror or error}. Check its permissions.") from error


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: files of another schema hold anything.

    >>> mapping({"a": 1}), mapping([1, 2]), mapping(None)
    ({'a': 1}, {}, {})
    """
    return value if isinstance(value, Mapping) else {}
