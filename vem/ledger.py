"""The sweep directory: what was planned, which jobs are alive, which are one run under two names.

::

    SWEEP/FOLDER/…             a run (see vem.records), in a folder named by its overrides
    SWEEP/.sweep/sweep.json    the commands that were started here, and every job that they planned
    SWEEP/.sweep/alive/FOLDER  touched every few seconds while the job is at work
    SWEEP/.sweep/claims/HASH   the folder that runs the config of this hash; a second job with it points there

Plain files, so that it holds across the machines of a cluster that share a file system.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from vem import records
from vem.errors import VemError

FOLDER = ".sweep"
BEAT = 5.0  # seconds between two signs of life
SILENCE = 60.0  # seconds without one after which a job is taken for dead


class Job(NamedTuple):
    """One job of a sweep: its folder, and the overrides that are its own."""

    folder: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What was started in a sweep directory; ``jobs`` are those of all its starts."""

    directory: Path
    commands: tuple[str, ...]
    launcher: str
    jobs: tuple[Job, ...]
    started: str


def read(directory: Path) -> Sweep | None:
    """The plan of a sweep directory; None where there is none, or one that cannot be read."""
    try:
        content = records.read_json(directory / FOLDER / "sweep.json")
        jobs = tuple(Job(str(job["folder"]), tuple(map(str, job["overrides"]))) for job in content["jobs"])
        commands = tuple(map(str, content["commands"]))
        return Sweep(directory, commands, str(content["launcher"]), jobs, str(content["started"]))
    except (VemError, KeyError, TypeError):
        return None


def plan(directory: Path, command: str, launcher: str, jobs: Sequence[Job]) -> Sweep:
    """Write down what a start is about to do, beside what earlier ones did.

    Raises:
        VemError: the folder cannot be written.
    """
    earlier = read(directory)
    both = {job.folder: job for job in (*(earlier.jobs if earlier else ()), *jobs)}
    commands = tuple(dict.fromkeys((*(earlier.commands if earlier else ()), command)))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    _make(directory / FOLDER)
    content = {
        "commands": list(commands),
        "launcher": launcher,
        "started": started,
        "jobs": [{"folder": job.folder, "overrides": list(job.overrides)} for job in both.values()],
    }
    records.write_json(directory / FOLDER / "sweep.json", content)
    return Sweep(directory, commands, launcher, tuple(both.values()), started)


def claim(directory: Path, digest: str, folder: str) -> str:
    """The folder whose run has this config hash: ``folder`` itself for the job that asks first.

    A claim of a folder that is gone is taken over.

    Raises:
        VemError: the folder cannot be written.
    """
    path = directory / FOLDER / "claims" / digest
    _make(path.parent)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(folder)
        return folder
    except FileExistsError:
        pass
    except OSError as error:
        raise records.unwritable(path, error) from error
    holder = _holder(path)
    if holder and holder != folder and (directory / holder / records.RUN).exists():
        return holder
    records.write_text(path, folder)
    return folder


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
    _make(path.parent)
    ended = threading.Event()

    def beat() -> None:
        while True:
            with suppress(OSError):  # a disk that is full for a while must not end the job
                path.write_text(json.dumps({"host": os.uname().nodename, "pid": os.getpid()}))
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, name="vem-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            path.unlink(missing_ok=True)


def is_alive(directory: Path, folder: str) -> bool:
    """Whether the job has lately given a sign of life."""
    try:
        age = time.time() - (directory / FOLDER / "alive" / folder).stat().st_mtime
    except OSError:
        return False
    return age < SILENCE


def state(directory: Path, folder: str) -> str:
    """``waiting``, ``running``, ``lost`` (its process is gone), or the status in run.json (``repeats`` among them).

    ``unreadable`` where run.json is damaged.
    """
    path = directory / folder / records.RUN
    if not path.exists():
        return "running" if is_alive(directory, folder) else "waiting"
    try:
        status = records.read_json(path).get("status")
    except VemError:
        return "unreadable"
    if status == "running" and not is_alive(directory, folder):
        return "lost"
    return str(status)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise records.unwritable(folder, error) from error
