"""One line of progress for a sweep: done, running, failed, time left. It reads the sweep directory alone."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from vem import ledger, records
from vem.errors import VemError
from vem.sweep import plan

EVERY = 1.0  # seconds between two looks
QUIET = 60.0  # seconds between two lines where the output is no terminal


class Stopped(KeyboardInterrupt):
    """SIGTERM to a sweep."""


@contextmanager
def watched() -> Iterator[list[Jobs]]:
    """Show the line of a sweep that begins while the block runs; SIGTERM then ends it as Ctrl-C does.

    Gives a list, empty if no sweep began.
    """
    sweeps: list[Jobs] = []
    with ExitStack() as stack:

        def begin(sweep: ledger.Sweep) -> None:
            if sweeps:
                return  # a launcher that is started again
            sweeps.append(Jobs(sweep))
            stack.enter_context(Line(sweeps[0]))
            stack.enter_context(_terminable())

        plan.new_start()
        plan.listeners.append(begin)
        stack.callback(plan.listeners.remove, begin)
        yield sweeps


@contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Jobs:
    """The states of a sweep's jobs; what is final is not read again."""

    def __init__(self, sweep: ledger.Sweep) -> None:
        self.sweep = sweep
        self._final: dict[str, str] = {}
        self.ran: set[str] = set()  # begun by this start

    def folders(self) -> Sequence[str]:
        """The planned folders; where a sweeper plans as it goes, those that are there."""
        if self.sweep.current:
            return self.sweep.current
        return sorted(path.parent.name for path in self.sweep.directory.glob(f"*/{records.RUN}"))

    def states(self) -> dict[str, str]:
        """``waiting``, ``running``, ``done``, ``failed``, ``stopped`` or ``lost`` for each folder.

        A job that failed in an earlier start waits for its turn in this one; a repeat is what its original is.
        """
        found = {folder: self._final.get(folder) or self._look(folder) for folder in self.folders()}
        return {folder: self._of_the_original(folder) if s == records.REPEATS else s for folder, s in found.items()}

    def begun(self) -> bool:
        """Whether this start has begun any job, or found one done."""
        return bool(set(self.states().values()) - {"waiting"})

    def _look(self, folder: str) -> str:
        state = ledger.state(self.sweep.directory, folder)
        if state == "waiting":
            return state
        try:
            status = records.read_json(self.sweep.directory / folder / records.RUN)
        except VemError:
            return state
        if status.get("start") == self.sweep.start:
            self.ran.add(folder)
            if state in ("done", "failed"):
                self._final[folder] = state
            return state
        return state if state in ("done", records.REPEATS, "running") else "waiting"

    def _of_the_original(self, folder: str) -> str:
        try:
            status = records.read_json(self.sweep.directory / folder / records.RUN)
        except VemError:
            return "waiting"
        return self._look(str(status.get("repeats")))


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
        if set(states.values()) <= {"waiting"}:
            return  # the sweep may still be refused
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
            if state == "failed" and folder in self.jobs.ran and folder not in self._told:
                self._told.add(folder)
                reason = _reason(self.jobs.sweep.directory / folder)
                start = "\r" if self.stream.isatty() else ""
                print(f"{start}failed: {folder}: {reason}", file=self.stream, flush=True)

    def _left(self, states: dict[str, str]) -> float | None:
        """Seconds, from the jobs that this start has finished; None before the first."""
        ended = sum(state in ("done", "failed") for state in states.values()) - self._already
        left = sum(state in ("waiting", "running") for state in states.values())
        return (time.monotonic() - self.began) / ended * left if ended > 0 and left else None


def _reason(directory: Path) -> str:
    try:
        return " ".join(str(records.read_json(directory / records.RUN).get("error")).split())
    except VemError as error:
        return str(error)


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
