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

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from vem.errors import VemError
from vem.storage import folders, locks, records

FOLDER = folders.PLAN
BEAT = 5.0  # seconds between two signs of life
HELD = 5.0  # seconds for which a look at a file system's clock serves
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


# What run.json says (None: there is none), and whether the process gives signs of life → the state of the job.
# A run whose process is gone while run.json says "running" has left an error where it was asked to stop.
SEEN = {
    (None, True): JobState.RUNNING,
    (None, False): JobState.WAITING,
    ("running", True): JobState.RUNNING,
    ("running", False): JobState.LOST,
    ("interrupted", True): JobState.RUNNING,
    ("interrupted", False): JobState.STOPPED,
}


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
        commands = tuple(map(str, content["commands"]))
        current = tuple(map(str, content["current"]))
        return Sweep(directory, commands, str(content["launcher"]), jobs, current, str(content["start"]))
    except (VemError, KeyError, TypeError):
        return None


def plan(directory: Path, command: str, launcher: str, jobs: Sequence[Job], start: str) -> Sweep:
    """Write down what a start is about to do, beside what earlier ones did; ``start`` tells it from them.

    Raises:
        VemError: the folder cannot be written.
    """
    with _changing(directory):
        records.clear_leftovers(*(directory / FOLDER / part for part in (".", "claims", "outcomes")))
        earlier = read(directory)
        both = {job.folder: job for job in (*(earlier.jobs if earlier else ()), *jobs)}
        commands = tuple(dict.fromkeys((*(earlier.commands if earlier else ()), command)))
        sweep = Sweep(directory, commands, launcher, tuple(both.values()), tuple(job.folder for job in jobs), start)
        write(sweep)
    return sweep


@contextmanager
def _changing(directory: Path) -> Iterator[None]:
    """Of two who read and write the same file of the sweep, the second sees what the first has written."""
    records.make_folder(directory / FOLDER)
    with locks.held(directory / FOLDER / "lock"):
        yield


def write(sweep: Sweep) -> None:
    """Write the plan.

    Raises:
        VemError: the folder cannot be written.
    """
    records.make_folder(sweep.directory / FOLDER)
    content = {
        "commands": list(sweep.commands),
        "launcher": sweep.launcher,
        "start": sweep.start,
        "jobs": [{"folder": job.folder, "overrides": list(job.overrides)} for job in sweep.jobs],
        "current": list(sweep.current),
    }
    records.write_json(sweep.directory / FOLDER / "sweep.json", content)


def write_outcome(directory: Path, folder: str, start: str, outcome: Outcome) -> None:
    """Write down how a job ended; ``start`` says in which start of the sweep. A full disk must not end the sweep."""
    path = _outcome_path(directory, folder)
    with suppress(VemError):
        records.make_folder(path.parent)
        records.write_json(path, {"start": start, **outcome._asdict()})


def outcome(directory: Path, folder: str, start: str) -> Outcome | None:
    """How a job ended in this start; None if it has not ended in it."""
    try:
        found = records.read_json(_outcome_path(directory, folder))
    except VemError:
        return None
    return Outcome(str(found.get("status")), str(found.get("message"))) if found.get("start") == start else None


def _outcome_path(directory: Path, folder: str) -> Path:
    return directory / FOLDER / "outcomes" / f"{folder}.json"


def claim(directory: Path, digest: str, folder: str) -> str:
    """The folder whose run has this config hash: ``folder`` itself for the job that asks first.

    Raises:
        VemError: the folder cannot be written.
    """
    path = _claim_path(directory, digest)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(folder)
        return folder
    except FileExistsError:
        return _holder(path) or take_over(directory, digest, folder, "")
    except OSError as error:
        raise records.unwritable(path, error) from error


def take_over(directory: Path, digest: str, folder: str, holder: str) -> str:
    """Claim a config from a ``holder`` that will not run it; returns who has it now: another may have been faster.

    Raises:
        VemError: the folder cannot be written.
    """
    path = _claim_path(directory, digest)
    with _changing(directory):
        with suppress(OSError):
            now = path.read_text(encoding="utf-8")
            if now not in (holder, ""):
                return now
        records.write_text(path, folder)
    return folder


def _claim_path(directory: Path, digest: str) -> Path:
    path = directory / FOLDER / "claims" / digest
    records.make_folder(path.parent)
    return path


def _holder(path: Path) -> str:
    """Who holds a claim; the writer may be between creating the file and writing its name."""
    for _ in range(20):
        with suppress(OSError):
            if name := path.read_text(encoding="utf-8"):
                return name
        time.sleep(0.05)
    return ""


@contextmanager
def alive(directory: Path, folder: str) -> Iterator[None]:
    """Give a sign of life for this job every few seconds, until the block ends."""
    path = directory / FOLDER / "alive" / folder
    records.make_folder(path.parent)
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


@contextmanager
def alone(directory: Path, folder: str) -> Iterator[None]:
    """Be the only one at work in a job's folder while the block runs; wait for whoever is there already.

    Two trials of a search may have the same values, and two people may start the same sweep. The lock ends with its
    process, however that comes about.
    """
    path = directory / FOLDER / "locks" / folder
    records.make_folder(path.parent)
    with locks.held(path):
        yield


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
    path, recorded = directory / folder / records.RUN, None
    if path.exists():
        try:
            found = records.read_json(path)
        except VemError:
            return JobState.UNREADABLE
        recorded = str(found.get("status"))
        if recorded != JobState.RUNNING:
            return recorded
        recorded = "interrupted" if found.get("error") else recorded
    return SEEN[recorded, is_alive(directory, folder)]


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
        look = _files[path] = _Look(found.st_mtime_ns, time.monotonic() - _age(found.st_mtime, seconds, folder))
    return time.monotonic() - look.when < seconds


def _age(changed: float, seconds: float, folder: Path) -> float:
    age = now(folder) - changed
    if age >= seconds:  # the clock may have been set back since it was looked at
        age = now(folder, 0.1 * HELD) - changed
    return max(0.0, age)


def now(folder: Path, held: float = HELD) -> float:
    """The time by the clock of the folder's file system, seconds; by this machine's where nothing can be written.

    held: how old a look at that clock may be.
    """
    look = _clocks.get(folder)
    if look is None or time.monotonic() - look.when > held:
        look = _clocks[folder] = _Look(_told_by(folder), time.monotonic())
    return look.stamp + time.monotonic() - look.when


def _told_by(folder: Path) -> float:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".clock") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return time.time()
