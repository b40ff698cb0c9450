"""A sweep's jobs on the GPUs of one machine: never more than were asked for on one, and a dead job holds nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from vem.errors import VemError
from vem.sweep import gpus

PRETENDED = ("GPU-a", "GPU-b")
context = multiprocessing.get_context("spawn")


def _job(folder: Path, events: Queue, seconds: float) -> None:
    with gpus.slot(PRETENDED, 2, folder) as number:
        events.put((time.monotonic(), +1, number))
        time.sleep(seconds)
        events.put((time.monotonic(), -1, number))


def test_racing_jobs_fill_the_places_and_never_share_one(tmp_path: Path) -> None:
    """Eight processes race for two GPUs with two places each."""
    events = context.Queue()
    jobs = [context.Process(target=_job, args=(tmp_path, events, 0.5)) for _ in range(8)]
    for job in jobs:
        job.start()
    told = [events.get(timeout=60) for _ in range(2 * len(jobs))]
    for job in jobs:
        job.join(timeout=30)
    assert [job.exitcode for job in jobs] == [0] * len(jobs)
    now, most, begun = Counter(), Counter(), Counter()
    for _, change, number in sorted(told):
        now[number] += change
        begun[number] += change > 0
        most[number] = max(most[number], now[number])
    assert set(begun) == {0, 1} and begun.total() == 8
    assert max(most.values()) <= 2


def test_every_place_is_used_and_a_killed_holder_frees_its_own(tmp_path: Path) -> None:
    events = context.Queue()
    holders = [context.Process(target=_job, args=(tmp_path, events, 600.0)) for _ in range(4)]
    late = context.Process(target=_job, args=(tmp_path, events, 0.0))
    try:
        for holder in holders:
            holder.start()
        taken = Counter(events.get(timeout=60)[2] for _ in holders)
        assert taken == {0: 2, 1: 2}  # all at once, and none waits
        late.start()
        time.sleep(3 * gpus.POLL)
        assert events.empty() and late.is_alive()
        os.kill(holders[2].pid, signal.SIGKILL)
        late.join(timeout=60)
        assert late.exitcode == 0 and events.get(timeout=10)[1] == +1
    finally:
        for process in (*holders, late):
            with suppress(ValueError, AttributeError):
                process.kill()
                process.join()


def test_jobs_spread_before_they_share(tmp_path: Path) -> None:
    with gpus.slot(PRETENDED, 2, tmp_path) as first, gpus.slot(PRETENDED, 2, tmp_path) as second:
        assert (first, second) == (0, 1)
        with gpus.slot(PRETENDED, 2, tmp_path) as third:
            assert third == 0
    with gpus.slot(("GPU-b",), 1, tmp_path) as only:  # a queue showed this job the second GPU alone
        assert only == 0


def test_two_sweeps_of_a_user_share_the_gpus_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place is the machine's, not the sweep's: neither names a folder, and the second does not take GPU 0 again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with gpus.slot(PRETENDED, 1) as first, gpus.slot(PRETENDED, 1) as second:
        assert (first, second) == (0, 1)
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"GPU-a-0", "GPU-b-0"} and folder.stat().st_mode & 0o77 == 0


def test_a_folder_for_places_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VemError, match="TMPDIR"), gpus.slot(PRETENDED, 1, tmp_path / "file" / "gpus"):
        pass


def test_without_gpus_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    with gpus.slot((), 1, tmp_path) as number:
        assert number is None
    assert gpus.visible("cpu") == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [0, -1, 1.5, "two", None])
def test_a_number_per_gpu_that_is_none_is_refused(tmp_path: Path, number: object) -> None:
    with pytest.raises(VemError, match="jobs_per_gpu"), gpus.slot(PRETENDED, number, tmp_path):  # type: ignore[arg-type]
        pass
