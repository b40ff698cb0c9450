"""One line of progress for a sweep: done, running, failed, time left. It reads the sweep directory alone."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

from vem.storage import ledger
from vem.storage.ledger import JobState
from vem.sweep import plan, stopping
from vem.sweep.jobs import Jobs

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
            if not sweeps:  # else a launcher that is started again
                sweeps.append(Jobs(sweep))
                stack.enter_context(Line(sweeps[0]))
                stack.enter_context(stopping.obeyed(sweeps[0]))

        plan.current = plan.Start(begin)
        stack.callback(setattr, plan.current, "listener", None)
        yield sweeps


class Line:
    """Shows the line while the block runs: in place on a terminal, else a line now and then."""

    def __init__(self, jobs: Jobs, stream: TextIO | None = None) -> None:
        self.jobs, self.stream = jobs, stream or sys.stderr
        self.began = time.monotonic()
        self._already = Counter(jobs.states().values())[JobState.DONE]
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
            states = {folder: JobState.WAITING if state == JobState.LOST else state for folder, state in states.items()}
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
        for folder in states:
            told = self.jobs.outcome(folder)
            if told is not None and told.status == JobState.FAILED and folder not in self._told:
                self._told.add(folder)
                start = "\r" if self.stream.isatty() else ""
                print(f"{start}failed: {folder}: {' '.join(told.message.split())}", file=self.stream, flush=True)

    def _left(self, states: dict[str, str]) -> float | None:
        """Seconds, from the jobs that this start has finished; None before the first."""
        ended = sum(state in (JobState.DONE, JobState.FAILED) for state in states.values()) - self._already
        left = sum(state in (JobState.WAITING, JobState.RUNNING) for state in states.values())
        return (time.monotonic() - self.began) / ended * left if ended > 0 and left else None


def summary(states: dict[str, str], left: float | None = None) -> str:
    """The line.

    >>> summary({"a": "done", "b": "running", "c": "waiting"}, 90.0)
    'sweep: 1 of 3 done, 1 running, about 2 min left'
    >>> summary({"a": "done", "b": "failed"})
    'sweep: 1 of 2 done, 1 failed'
    """
    counts = Counter(states.values())
    parts = [f"{counts[JobState.DONE]} of {len(states)} done"]
    shown = (JobState.RUNNING, JobState.STOPPED, JobState.FAILED, JobState.LOST)
    parts += [f"{counts[state]} {state}" for state in shown if counts[state]]
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
