"""Ctrl-C and SIGTERM to a sweep whose jobs are at work in the processes of a launcher: a file tells them to stop.

Such a launcher (joblib) answers Ctrl-C by killing its workers and all that they have started. So the jobs are told
first, and have time for their checkpoints.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from vem.errors import VemError
from vem.storage import ledger, records
from vem.sweep.jobs import Jobs

GRACE = 60.0  # seconds that jobs which were asked to stop may take for their checkpoints
SERIAL = "basic"  # Hydra's own launcher: its jobs are waited for in the process that gets the signal


class Stopped(KeyboardInterrupt):
    """A signal to a sweep."""


@contextmanager
def obeyed(jobs: Jobs) -> Iterator[None]:
    """While the block runs, SIGTERM ends the sweep as Ctrl-C does: after the checkpoints; the second ends it at once.

    The jobs of a cluster are not told: they go on without the process that waits for them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told = jobs.sweep.launcher in (SERIAL, *ledger.DETACHED)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            _tell(jobs.sweep, signal.Signals(number).name)
            wait_while_running(jobs)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_while_running(jobs: Jobs) -> None:
    """Until no job is at work, or the time is over."""
    deadline = time.monotonic() + GRACE
    while ledger.JobState.RUNNING in jobs.states().values() and time.monotonic() < deadline:
        time.sleep(0.2)


def _tell(sweep: ledger.Sweep, name: str) -> None:
    """Ask every job of this start to stop, and those that wait not to begin."""
    with suppress(VemError):  # a full disk: the launcher ends them
        records.write_json(_path(sweep.directory), {"start": sweep.start, "signal": name})


def told(directory: Path, start: str) -> str | None:
    """The signal for which the jobs of this start are to stop; None if they are not."""
    try:
        found = records.read_json(_path(directory))
    except VemError:
        return None
    return str(found.get("signal")) if found.get("start") == start else None


def _path(directory: Path) -> Path:
    return directory / ledger.FOLDER / "stop.json"


def leave_the_terminal_to_the_command() -> None:
    """In a worker of joblib: Ctrl-C reaches it, too. The command, for which it is meant, tells the jobs.

    It would kill a worker that waits for a job: joblib then kills the others, or, where the worker was just handing a
    result over, waits without an end.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
