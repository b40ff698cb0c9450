"""The states of a sweep's jobs, read from its directory."""

from __future__ import annotations

from collections.abc import Sequence

from vem.errors import VemError
from vem.storage import ledger, records


class Jobs:
    """The states of a sweep's jobs; what is final is not read again."""

    def __init__(self, sweep: ledger.Sweep) -> None:
        self.sweep = sweep
        self._final: dict[str, ledger.Outcome] = {}

    def folders(self) -> Sequence[str]:
        """The planned folders; where a sweeper plans as it goes, those of which this start has an outcome."""
        if self.sweep.current:
            return self.sweep.current
        found = (self.sweep.directory / ledger.FOLDER / "outcomes").glob("*.json")
        ended = {path.stem for path in found if self.outcome(path.stem) is not None}
        alive = {path.name for path in (self.sweep.directory / ledger.FOLDER / "alive").glob("*")}
        return sorted(ended | {folder for folder in alive if ledger.is_alive(self.sweep.directory, folder)})

    def outcome(self, folder: str) -> ledger.Outcome | None:
        """How the job ended in this start."""
        if folder not in self._final:
            found = ledger.outcome(self.sweep.directory, folder, self.sweep.start)
            if found is None:
                return None
            self._final[folder] = found
        return self._final[folder]

    def states(self) -> dict[str, str]:
        """``waiting``, ``running``, ``done``, ``failed``, ``stopped`` or ``lost`` for each folder.

        A job that was done before this start is done until its turn tells otherwise; one that failed before waits for
        its turn; a repeat is what its original is.
        """
        return {folder: self._state(folder) for folder in self.folders()}

    def _state(self, folder: str) -> str:
        told = self.outcome(folder)
        if told is not None and told.status == records.REPEATS:
            told = self.outcome(told.message)
            return told.status if told is not None else self._look(self._final[folder].message)
        return told.status if told is not None else self._look(folder)

    def _look(self, folder: str) -> str:
        state = ledger.state(self.sweep.directory, folder)
        if state in ("lost", "stopped") and not self.ran(folder):
            return "waiting"
        return state if state in ("done", "running", "lost", "stopped") else "waiting"

    def ran(self, folder: str) -> bool:
        """Whether this start has run it, to an end or not."""
        try:
            return records.read_json(self.sweep.directory / folder / records.RUN).get("start") == self.sweep.start
        except VemError:
            return False

    def begun(self) -> bool:
        """Whether this start has begun any job. A job that was killed in an earlier one has left its sign of life."""
        sweep = self.sweep.directory
        return any(self.outcome(f) or ledger.is_alive(sweep, f) or self.ran(f) for f in self.folders())
