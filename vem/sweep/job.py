"""One job of a sweep: what its process is given, what it gives back, and what run.json says where it failed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vem.errors import VemError
from vem.storage import ledger, records, sealing


@dataclass(frozen=True)
class Work:
    """What a child needs to know. ``start`` says which start of the sweep this is."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    directory: Path
    sweep: Path
    start: str
    logging: Mapping[str, Any]


class JobResult(NamedTuple):
    """What a child says at its end: its outcome, and the validation ELBO (NaN where there is none)."""

    outcome: ledger.Outcome
    value: float = math.nan


def record(directory: Path) -> dict[str, Any]:
    """What run.json says; empty where it cannot be read."""
    try:
        return records.read_json(directory / records.RUN)
    except VemError:
        return {}


def write_failure(directory: Path, message: str, start: str, seed: Any = None) -> None:
    """Make run.json say ``failed``; what else it says is kept, and so is everything that the run computed.

    What is done stays done, and a damaged file stays as it is, for people to look at.
    """
    status = record(directory)
    if status.get("status") in ("done", records.REPEATS) or (not status and (directory / records.RUN).exists()):
        return
    status = status or {"config_hash": None, "seed": seed}
    with suppress(VemError):  # a full disk: the line on the terminal says so, too
        sealing.write_run(directory, {**status, "status": "failed", "error": message, "start": start})
