"""What an earlier start left in a run's directory: to go on with, to leave alone, to put aside, or to refuse."""

from __future__ import annotations

import difflib
import itertools
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vem import records
from vem.errors import VemError, choice
from vem.version import VERSION

log = logging.getLogger("vem")

COMPUTED = (records.METRICS, records.CHECKPOINT)  # the first files of a run that cost something


class OtherConfig(VemError):
    """The directory holds a run of another config."""


def left_behind(directory: Path, config: dict[str, Any], sweeping: bool = False) -> dict[str, Any] | None:
    """What an earlier start left in the directory; with ``rerun=stale`` a run by other code or config is put aside.

    So is, in a sweep, a run of another config that failed: its config was mended.

    Raises:
        VemError: it holds a run of another config; the difference is shown.
    """
    again = choice(config.get("rerun") or "never", ("never", "stale"), "rerun") == "stale"
    try:
        earlier = earlier_run(directory, config)
    except OtherConfig:
        mended = sweeping and records.read_json(directory / records.RUN).get("status") == "failed"
        if not (again or mended):
            raise
        _put_aside(directory)
        return None
    made = by_other_code(earlier) if earlier is not None and earlier.get("status") == "done" else None
    if made and again:
        _put_aside(directory)
        return None
    if made:
        log.warning("%s %s: it counts as done, and rerun=stale runs it again.", directory, made)
    return earlier


def by_other_code(run: Mapping[str, Any]) -> str | None:
    """``was made by vem 0.1.0, commit …`` if that is not the code that runs now."""
    version, made = (run.get("versions") or {}).get("vem"), run.get("commit")
    now = commit()
    if version == VERSION and (made == now or made is None or now is None):
        return None
    return f"was made by vem {version}, commit {made}, and this is {VERSION}, {now}"


def _put_aside(directory: Path) -> None:
    """Move a run's files to ``earlier/001``, ``002``, …: what was computed is kept.

    Raises:
        VemError: the folder cannot be written.
    """
    parent = directory / records.ASIDE
    place = next(p for n in itertools.count(1) if not (p := parent / f"{n:03d}").exists())
    try:
        place.mkdir(parents=True)
        for path in sorted(directory.iterdir()):
            if path.name not in (records.ASIDE, records.LOG):
                path.rename(place / path.name)
    except OSError as error:
        raise records.unwritable(place, error) from error
    log.info("the earlier run is kept in %s", place)


def earlier_run(directory: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """What run.json says of a run of this config in the directory; None if there is none yet.

    Raises:
        OtherConfig: it holds a run of another config; the difference is shown.
    """
    if not (directory / records.RUN).exists():
        return None
    earlier = records.read_json(directory / records.RUN)
    if earlier.get("status") == records.REPEATS and not any((directory / name).exists() for name in COMPUTED):
        return None  # another folder had this job; now it is this one's
    if earlier.get("config_hash") == records.config_hash(config):
        return earlier
    begun = any((directory / name).exists() for name in COMPUTED)
    if earlier.get("status") == "failed" and not begun:
        return None  # it failed before it had computed anything: a mended command may take its place
    try:
        old = yaml.safe_load((directory / records.CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        old = {}
    changes = difference(old or {}, config)
    file = (
        f" (data.{records.FILE_HASH}: what the file data.path holds has changed.)"
        if records.FILE_HASH in changes
        else ""
    )
    raise OtherConfig(
        f"{directory} holds a run of another config, and a run's config does not change:\n{changes}\n"
        "Give the old values to go on with it, name a fresh hydra.run.dir (or hydra.sweep.dir), or say rerun=stale to "
        f"put it aside.{file}"
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The lines that differ between two configs, as far as the numbers of a run depend on them."""

    def lines(config: Mapping[str, Any]) -> list[str]:
        return [f"{key}={value}" for key, value in sorted(records.hashed_part(config).items())]

    changes = difflib.unified_diff(lines(old), lines(new), lineterm="", n=0)
    return "\n".join(f"  {line}" for line in changes if not line.startswith(("---", "+++", "@@")))


def commit() -> str | None:
    """The commit of the checkout that this package runs from, ``+`` appended if it was changed; else None."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    try:
        call = ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
