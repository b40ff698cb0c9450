"""The run directory: names, schema, atomic writes. ``vem.run`` writes it, ``vem.report`` reads it.

One run is one directory::

    config.yaml       the resolved config
    overrides.yaml    what was typed
    run.json          status running|done|failed|repeats, error, config hash, seed, commit, versions, device, …;
                      written last, by vem.storage.sealing, with the hashes of the other files
    metrics.csv       one row per record
    evaluation.json   per split, nats per datum, with errors; earlier ones in evaluations/
    per_datum.csv     one row per evaluated datum
    pictures.npz      arrays that the figures are drawn from
    checkpoint.pt     everything needed to go on bit for bit
    figures/          png
    run.log

A file is written to a temporary name and renamed, so that a reader never sees half of one and a full
disk costs only the new version. A missing or infinite number is ``null`` with a reason, never NaN.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from vem.errors import VemError
from vem.storage import folders

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
RUN = folders.RUN
METRICS = "metrics.csv"
EVALUATION = "evaluation.json"
EARLIER = "evaluations"  # earlier results of a run that was measured again
PER_DATUM = "per_datum.csv"
PICTURES = "pictures.npz"
CHECKPOINT = "checkpoint.pt"
BEST_CHECKPOINT = "best.pt"
FIGURES = "figures"
LOG = "run.log"

REPEATS = "repeats"  # status of a job of a sweep that another folder, named beside it, runs
ASIDE = folders.ASIDE
BY_COLUMN = "gaussian (a scale for each column)"  # likelihood of a run whose learned σ_i are each column's own

SPLITS = ("train", "valid", "test")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Raises:
        VemError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    # The process id keeps two writers apart; the suffix stays, since numpy appends one that is missing.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with writing(path):
            yield temporary
            with open(temporary, "rb") as f:
                os.fsync(f.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):  # a folder that is gone or read-only must not hide the error above
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """While the block writes ``path``, an error of the system becomes the message of :func:`unwritable`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def clear_leftovers(*folders: Path) -> None:
    """Remove the temporary files that a killed writer has left; to be called by the only one at work in the folders."""
    for path in (path for folder in folders for path in folder.glob(".*.*")):
        if re.fullmatch(r"\..+\.\d+(\.\w+)?", path.name) and path.is_file():
            with suppress(OSError):
                path.unlink(missing_ok=True)


ANOTHER_FOLDER = (
    "Make its folder writable, or name one that is (of a run with hydra.run.dir=DIR, of a sweep with "
    "hydra.sweep.dir=DIR)."
)
FREE_SPACE = "Free some space and start the same command again."
PUT_BACK = "Put it back under its name, and the same command goes on; without it, the same command begins again."


class Unwritable(VemError):
    """A file that could not be written: what happened, and the remedies of ``python -m vem.run``."""

    def __init__(self, told: str, full: bool = False, remedy: str | None = None) -> None:
        super().__init__(told, full, remedy)  # all of them, for the copy that another process gets
        self.told, self.full = told, full
        self.remedy = remedy or (FREE_SPACE if full else ANOTHER_FOLDER)

    def __str__(self) -> str:
        return f"{self.told} {self.remedy}"

    def advising(self, option: str, command: str = "") -> VemError:
        """The same of a command that takes another folder by ``option``."""
        first = "Free some space and start the same command again" if self.full else "Make its folder writable"
        elsewhere = "one on another disk" if self.full else "another one"
        return VemError(f"{self.told} {first}, or name {elsewhere} with {option}{command and f': {command}'}.")


def unwritable(path: Path, error: OSError) -> Unwritable:
    """The message for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        kept = "the earlier version is kept" if path.exists() else "nothing was overwritten"
        what = "the disk is full" if error.errno == errno.ENOSPC else "your quota on this disk is used up"
        return Unwritable(f"{what}: {path} was not written ({kept}).", full=True)
    if error.errno in (errno.ENOENT, errno.ESTALE) and not path.parent.is_dir():
        return Unwritable(f"{path} cannot be written: its folder is gone, removed or renamed.", remedy=PUT_BACK)
    return Unwritable(f"{path} cannot be written: {error.strerror or error}.")


def make_folder(folder: Path) -> Path:
    """Create a folder and those above it; raises :class:`Unwritable`."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def try_writing(directory: Path) -> None:
    """Refuse a folder that takes no files before something long is computed for it; raises :class:`Unwritable`."""
    with writing(directory), tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"vem")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def number(value: float | None, reason: str | None = None) -> dict[str, Any] | float:
    """A finite number as itself; anything else as ``{"value": None, "reason": …}``.

    >>> number(1.5), number(float("inf"), "q has no density")
    (1.5, {'value': None, 'reason': 'q has no density'})
    """
    if value is not None and math.isfinite(value):
        return float(value)
    return {"value": None, "reason": reason or f"the number is {value}"}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: a number in it is NaN or infinite (give it to :func:`number` with the reason).
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file.

    Raises:
        VemError: the file is missing or broken.
    """
    again = "delete the run's directory and run it again."
    content = _read(path, json.loads, "JSON", again)
    if not isinstance(content, dict):
        raise VemError(f"{path} holds {type(content).__name__}, not an object: {again}")
    return content


def read_run(directory: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none, or one that cannot be read."""
    try:
        return read_json(directory / RUN)
    except VemError:
        return {}


def read_yaml(path: Path, remedy: str = "run it again in a fresh hydra.run.dir.") -> Any:
    """Read a yaml file; raises VemError as :func:`read_json` does."""
    return _read(path, yaml.safe_load, "YAML", remedy)


def _read(path: Path, parse: Callable[[str], Any], kind: str, remedy: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VemError(f"{path} is missing: is {path.parent} the directory of a run?") from None
    except OSError as error:
        raise VemError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # also too many digits, lists nested too deep
        raise VemError(f"{path} is not readable {kind} ({error}): {remedy}") from None


def write_config(directory: Path, config: Mapping[str, Any], overrides: Sequence[str] | None = None) -> None:
    """Write config.yaml and, where they are given, the overrides that were typed."""
    write_text(directory / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    if overrides is not None:
        write_text(directory / OVERRIDES, yaml.safe_dump(list(overrides), allow_unicode=True))


def valid_elbo(directory: Path) -> float:
    """The validation ELBO that a finished run wrote, for a sweeper; NaN if it wrote none."""
    if not (directory / EVALUATION).exists():
        return math.nan
    elbo = read_json(directory / EVALUATION).get("valid", {}).get("elbo", {})
    value = elbo.get("mean") if isinstance(elbo, dict) else None
    return float(value) if isinstance(value, int | float) else math.nan


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV atomically; the columns are those of all rows, in order of appearance.

    A missing or non-finite number is an empty cell.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    write_text(path, text.getvalue())


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else value
