"""Two jobs of a sweep with the same config hash are one run: it runs once, the other folder points to it.

So a value that the chosen model does not use (``latent_dim`` of a mixture) can be swept beside models that use it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vem import ledger, records
from vem.errors import VemError


def holder_of(config: Mapping[str, Any], sweep: Path, directory: Path) -> Path | None:
    """The folder of the run that another job of this sweep has for the same config; None if it is this job's own."""
    digest, folder = records.config_hash(config), directory.name
    if _status(directory, digest) == "done":
        return None  # from a time before the claims
    holder = ledger.claim(sweep, digest, folder)
    if holder == folder or _will_have_run(sweep, holder):
        return None if holder == folder else sweep / holder
    ledger.take_over(sweep, digest, folder)
    return None


def _will_have_run(sweep: Path, folder: str) -> bool:
    """Whether the holder is done, at work, or among the jobs of this start, which will see to it."""
    if ledger.state(sweep, folder) in ("done", "running"):
        return True
    plan = ledger.read(sweep)
    return plan is not None and folder in plan.current


def _status(directory: Path, digest: str) -> str | None:
    try:
        found = records.read_json(directory / records.RUN)
    except VemError:
        return None
    return str(found.get("status")) if found.get("config_hash") == digest else None


def write_repeat(
    config: Mapping[str, Any], overrides: Sequence[str], directory: Path, holder: Path, start: str
) -> None:
    """The files of a job that another one does: its config, what was typed, and run.json, which names the other."""
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    records.write_text(directory / records.CONFIG, text)
    records.write_text(directory / records.OVERRIDES, yaml.safe_dump(list(overrides), allow_unicode=True))
    status = {
        "status": records.REPEATS,
        "repeats": holder.name,
        "error": None,
        "config_hash": records.config_hash(config),
        "seed": config["seed"],
        "start": start,
        "command": shlex.join(["python", "-m", "vem.run", *overrides]),
    }
    records.write_json(directory / records.RUN, status)
