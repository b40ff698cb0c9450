"""The sweep directory: what was planned, which jobs are alive, which are one run under two names.

::

    SWEEP/FOLDER/…             a run (see vem.storage.records), in a folder named by its overrides
    SWEEP/.sweep/sweep.json    the commands that were started here, and every job that they planned
    SWEEP/.sweep/alive/FOLDER  touched every few seconds while the job is at work
    SWEEP/.sweep/outcomes/FOLDER.json  how the job ended, and in which start of the sweep
    SWEEP/.sweep/locks/FOLDER  held by the process that is at work in the folder
    SWEEP/.sweep/lock          held while the plan or a claim is read, changed and written
    SWEEP/.sweep/stop.json     which start was told to stop, and by which signal
    SWEEP/.sweep/claims/HASH   the folder that runs the config of this hash; a second job with it points there

Plain files, so that it holds across the machines of a cluster that share a file system.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from vem.errors import VemError
from vem.storage import folders, locks, records

FOLDER = folders.PLAN
BEAT = 5.0  # seconds between two signs of life
HELD = 0.5  # seconds for which a look at a file system's clock serves
SILENCE = 60.0  # seconds without one after which a job is taken for dead
DETACHED = ("submitit_local", "submitit_slurm")  # launchers whose jobs may wait long, and outlive who waits for them


class JobState(StrEnum):
    """The state of a run in its run.json, and of a job of a sweep as it is seen from outside."""

    WAITING = "waiting"  # planned, and not begun
    RUNNING = "running"
    STOPPED = "stopped"  # it was asked to stop, and can be resumed
    LOST = "lost"  # its process is gone
    DONE = "done"
    FAILED = "failed"
    REPEATS = records.REPEATS  # another folder, named beside it, runs it
    UNREADABLE = "unreadable"  # run.json is damaged


class Outcome(NamedTuple):
    """How a job ended: done, failed, stopped, or a repeat (then ``message`` is the other folder)."""

    status: str
    message: str = ""


class Job(NamedTuple):
    """One job of a sweep: its folder, and the overrides that are its own."""

    folder: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What was started in a sweep directory; ``jobs`` are those of all its starts, ``current`` of the last one."""

    directory: Path
    commands: tuple[str, ...]
    launcher: str
    jobs: tuple[Job, ...]
    current: tuple[str, ...]  # folders
    start: str  # which start this is: the time when it began


def read(directory: Path) -> Sweep | None:
    """The plan of a sweep directory; None where there is none, or one that cannot be read."""
    try:
        content = records.read_json(directory / FOLDER / "sweep.json")
        jobs = tuple(Job(str(job["folder"]), tuple(map(str, job["overrides"]))) for job in content["jobs"])
        commands, current = (tuple(map(str, content[key])) for key in ("commands", "current"))
        return Sweep(directory, commands, str(content["launcher"]), jobs, current, str(content["start"]))
    except (VemError, KeyError, TypeError):
        return None


def plan(directory: Path, command: str, launcher: str, jobs: Sequence[Job], start: str) -> Sweep:
    """Write down what a start is about to do, beside what earlier ones did; ``start`` tells it from them."""
    with _changing(directory):
        records.clear_leftovers(*(directory / FOLDER / part for part in (".", "claims", "outcomes")))
        earlier = read(directory) or Sweep(directory, (), launcher, (), (), start)
        every = {job.folder: job for job in (*earlier.jobs, *jobs)}
        commands = tuple(dict.fromkeys((*earlier.commands, command)))
        sweep = Sweep(directory, commands, launcher, tuple(every.values()), tuple(job.folder for job in jobs), start)
        write(sweep)
    return sweep


def _changing(directory: Path) -> AbstractContextManager[bool]:
    """Of two who read and write the same file of the sweep, the second sees what the first has written."""
    return locks.held(records.make_folder(directory / FOLDER) / "lock")


def write(sweep: Sweep) -> None:
    """Write the plan."""
    content = {key: value for key, value in vars(sweep).items() if key != "directory"}
    path = records.make_folder(sweep.directory / FOLDER) / "sweep.json"
    records.write_json(path, content | {"jobs": [job._asdict() for job in sweep.jobs]})


def write_outcome(directory: Path, folder: str, start: str, outcome: Outcome) -> None:
    """Write down how a job ended; ``start`` says in which start of the sweep. A full disk must not end the sweep."""
    with suppress(VemError):
        path = records.make_folder(directory / FOLDER / "outcomes") / f"{folder}.json"
        records.write_json(path, {"start": start, **outcome._asdict()})


def outcome(directory: Path, folder: str, start: str) -> Outcome | None:
    """How a job ended in this start; None if it has not ended in it."""
    try:
        found = records.read_json(directory / FOLDER / "outcomes" / f"{folder}.json")
    except VemError:
        return None
    return Outcome(str(found.get("status")), str(found.get("message"))) if found.get("start") == start else None


def take_over(directory: Path, digest: str, folder: str, holder: str) -> str:
    """Claim the config of this hash from a ``holder`` that will not run it; returns who has it now.

    Another may have been faster, or it is one who asked first: ``holder`` is then none.
    """
    path = records.make_folder(directory / FOLDER / "claims") / digest
    with _changing(directory):
        now = ""
        with suppress(OSError):
            now = path.read_text(encoding="utf-8")
        if now not in (holder, ""):
            return now
        records.write_text(path, folder)
    return folder


claim = functools.partial(take_over, holder="")  # the folder itself for the job that asks first


@contextmanager
def alive(directory: Path, folder: str) -> Iterator[None]:
    """Give a sign of life for this job every few seconds, until the block ends."""
    path = records.make_folder(directory / FOLDER / "alive") / folder
    ended = threading.Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # a disk that is full for a while must not end the job
                path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, name="vem-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError, ValueError):  # another process may wait for this one, and give signs of its own
            if json.loads(path.read_text(encoding="utf-8")).get("pid") == os.getpid():
                path.unlink(missing_ok=True)


def alone(directory: Path, folder: str) -> AbstractContextManager[bool]:
    """Be the only one at work in a job's folder while the block runs; wait for whoever is there already.

    Two trials of a search may have the same values, and two people may start the same sweep. The lock ends with its
    process, however that comes about.
    """
    return locks.held(records.make_folder(directory / FOLDER / "locks") / folder)


def is_alive(directory: Path, folder: str) -> bool:
    """Whether the job has lately given a sign of life, and its process is there as far as can be seen from here."""
    path = directory / FOLDER / "alive" / folder
    try:
        said = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return False
    return not gone(said.get("host"), said.get("pid")) and lately(path, SILENCE, directory / FOLDER)


def gone(host: object, pid: object) -> bool:
    """Whether that process of this machine has exited or is a zombie; of other machines nothing is known."""
    if host != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # the latter: no system counts so far
        return True
    except OSError:
        return False  # another user's
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def state(directory: Path, folder: str) -> str:
    """The :class:`JobState` of a job by its run.json and its signs of life; another status as run.json has it."""
    path = directory / folder / records.RUN
    try:
        run = records.read_json(path) if path.exists() else None
    except VemError:
        return JobState.UNREADABLE
    if run is not None and run.get("status") != JobState.RUNNING:
        return str(run.get("status"))
    if is_alive(directory, folder):
        return JobState.RUNNING
    if run is None:
        return JobState.WAITING
    return JobState.STOPPED if run.get("error") else JobState.LOST  # one that was asked to stop has left an error


class _Look(NamedTuple):
    """What this process saw of a file, or of a clock."""

    stamp: float
    when: float  # on this process's monotonic clock


_files: dict[Path, _Look] = {}  # its time of change (ns), and when it was changed
_clocks: dict[Path, _Look] = {}


def lately(path: Path, seconds: float, folder: Path) -> bool:
    """Whether a file was changed in the last ``seconds``; False where there is none.

    Its time is held against the clock that gave it, that of its file system, which a ``folder`` in it tells; while it
    stays as it is, it ages on a clock that nobody sets. What has a time to come may just have been written, before the
    clock was set back: that counts as a change now.
    """
    try:
        found = path.stat()
    except OSError:
        _files.pop(path, None)
        return False
    look = _files.get(path)
    if look is None or look.stamp != found.st_mtime_ns:
        age = max(0.0, now(folder) - found.st_mtime)
        look = _files[path] = _Look(found.st_mtime_ns, time.monotonic() - age)
    return time.monotonic() - look.when < seconds


def now(folder: Path) -> float:
    """The time by the clock of the folder's file system, seconds; by this machine's where nothing can be written."""
    look = _clocks.get(folder)
    if look is None or time.monotonic() - look.when > HELD:
        look = _clocks[folder] = _Look(_told_by(folder), time.monotonic())
    return look.stamp + time.monotonic() - look.when


def _told_by(folder: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".clock") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
