"""One line of progress for a sweep: done, running, failed, time left. It reads the sweep directory alone."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TextIO

from vem import ledger, records
from vem.errors import VemError
from vem.sweep import plan, stopping

EVERY = 1.0  # seconds between two looks
QUIET = 60.0  # seconds between two lines where the output is no terminal


@contextmanager
def watched() -> Iterator[list[Jobs]]:
    """Show the line of a sweep that begins while the block runs, and obey the signals to it.

    Gives a list, empty if no sweep began.
    """
    sweeps: list[Jobs] = []
    with ExitStack() as stack:

        def begin(sweep: ledger.Sweep) -> None:
            if sweeps:
                return  # a launcher that is started again
            sweeps.append(Jobs(sweep))
            stack.enter_context(Line(sweeps[0]))
            stack.enter_context(stopping.obeyed(sweeps[0]))

        plan.new_start()
        plan.listeners.append(begin)
        stack.callback(plan.listeners.remove, begin)
        yield sweeps


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


class Line:
    """Shows the line while the block runs: in place on a terminal, else a line now and then."""

    def __init__(self, jobs: Jobs, stream: TextIO | None = None) -> None:
        self.jobs, self.stream = jobs, stream or sys.stderr
        self.began = time.monotonic()
        self._already = Counter(jobs.states().values())["done"]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, name="vem-progress", daemon=True)
        self._told: set[str] = set()
        self._last = ("", 0.0)

    def __enter__(self) -> Line:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._write(final=True)

    def _show(self) -> None:
        while not self._ended.wait(EVERY):
            self._write()

    def _write(self, final: bool = False) -> None:
        states = self.jobs.states()
        if not self.jobs.begun():
            return  # the sweep may still be refused
        if self.jobs.sweep.launcher in ledger.DETACHED and not final:  # a job that the cluster took off queues again
            states = {folder: "waiting" if state == "lost" else state for folder, state in states.items()}
        self._tell_failures(states)
        text = summary(states, self._left(states))
        before, when = self._last
        if self.stream.isatty():
            end = "\n" if final else ""
            print(f"\r{text:<{len(before)}}", end=end, file=self.stream, flush=True)
        elif text != before and (final or time.monotonic() - when > QUIET):
            print(text, file=self.stream, flush=True)
        else:
            return
        self._last = (text, time.monotonic())

    def _tell_failures(self, states: dict[str, str]) -> None:
        """A line of its own for each job that failed, as soon as it is seen."""
        for folder, state in states.items():
            told = self.jobs.outcome(folder)
            if state == "failed" and told is not None and told.status == "failed" and folder not in self._told:
                self._told.add(folder)
                start = "\r" if self.stream.isatty() else ""
                print(f"{start}failed: {folder}: {' '.join(told.message.split())}", file=self.stream, flush=True)

    def _left(self, states: dict[str, str]) -> float | None:
        """Seconds, from the jobs that this start has finished; None before the first."""
        ended = sum(state in ("done", "failed") for state in states.values()) - self._already
        left = sum(state in ("waiting", "running") for state in states.values())
        return (time.monotonic() - self.began) / ended * left if ended > 0 and left else None


def summary(states: dict[str, str], left: float | None = None) -> str:
    """The line.

    >>> summary({"a": "done", "b": "running", "c": "waiting"}, 90.0)
    'sweep: 1 of 3 done, 1 running, about 2 min left'
    >>> summary({"a": "done", "b": "failed"})
    'sweep: 1 of 2 done, 1 failed'
    """
    counts = Counter(states.values())
    parts = [f"{counts['done']} of {len(states)} done"]
    parts += [f"{counts[s]} {s}" for s in ("running", "stopped", "failed", "lost") if counts[s]]
    parts += [f"about {duration(left)} left"] if left is not None else []
    return "sweep: " + ", ".join(parts)


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> duration(8), duration(90), duration(3 * 3600 + 600)
    ('8 s', '2 min', '3 h 10 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
