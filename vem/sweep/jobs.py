"""The jobs of a sweep: what the process of one is given and gives back, and the states of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vem.errors import VemError
from vem.storage import ledger, records, sealing
from vem.storage.ledger import JobState


@dataclass(frozen=True)
class Work:
    """What a child needs to know. ``start`` says which start of the sweep this is."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    directory: Path
    sweep: Path
    start: str
    logging: Mapping[str, Any]


class Ended(NamedTuple):
    """How a job ended, its validation ELBO (NaN where there is none), and the signal for which no other may begin."""

    outcome: ledger.Outcome
    value: float = math.nan
    signal: str | None = None


def write_failure(directory: Path, message: str, start: str, seed: Any = None) -> None:
    """Make run.json say ``failed``; what else it says is kept, and so is everything that the run computed.

    What is done stays done, and a damaged file stays as it is, for people to look at.
    """
    status = records.read_run(directory)
    if status.get("status") in (JobState.DONE, JobState.REPEATS) or (not status and (directory / records.RUN).exists()):
        return
    status = status or {"config_hash": None, "seed": seed}
    with suppress(VemError):  # a full disk: the line on the terminal says so, too
        sealing.write_run(directory, {**status, "status": JobState.FAILED, "error": message, "start": start})


class Jobs:
    """The states of a sweep's jobs; what is final is not read again."""

    def __init__(self, sweep: ledger.Sweep) -> None:
        self.sweep = sweep
        self._final: dict[str, ledger.Outcome] = {}

    def folders(self) -> Sequence[str]:
        """The planned folders; where a sweeper plans as it goes, those that have ended in this start or are alive."""
        if self.sweep.current:
            return self.sweep.current
        place = self.sweep.directory / ledger.FOLDER
        ended = {path.stem for path in (place / "outcomes").glob("*.json") if self.outcome(path.stem)}
        return sorted(ended | {path.name for path in (place / "alive").glob("*") if self.is_alive(path.name)})

    def is_alive(self, folder: str) -> bool:
        """Whether it has lately given a sign of life."""
        return ledger.is_alive(self.sweep.directory, folder)

    def outcome(self, folder: str) -> ledger.Outcome | None:
        """How the job ended in this start."""
        if folder not in self._final and (found := ledger.outcome(self.sweep.directory, folder, self.sweep.start)):
            self._final[folder] = found
        return self._final.get(folder)

    def states(self) -> dict[str, str]:
        """``waiting``, ``running``, ``done``, ``failed``, ``stopped`` or ``lost`` for each folder.

        A job that was done before this start is done until its turn tells otherwise; one that failed before waits for
        its turn; a repeat is what its original is.
        """
        return {folder: self._state(folder) for folder in self.folders()}

    def _state(self, folder: str) -> str:
        told = self.outcome(folder)
        if told is not None and told.status == JobState.REPEATS:
            folder = told.message
            told = self.outcome(folder)
        if told is not None:
            return told.status
        state = ledger.state(self.sweep.directory, folder)
        of_this_start = state in (JobState.LOST, JobState.STOPPED) and self.ran(folder)
        return state if of_this_start or state in (JobState.DONE, JobState.RUNNING) else JobState.WAITING

    def ran(self, folder: str) -> bool:
        """Whether this start has run it, to an end or not."""
        return records.read_run(self.sweep.directory / folder).get("start") == self.sweep.start

    def begun(self) -> bool:
        """Whether this start has begun any job. A job that was killed in an earlier one has left its sign of life."""
        return any(self.outcome(f) or self.is_alive(f) or self.ran(f) for f in self.folders())
