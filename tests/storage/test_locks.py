"""Locks between processes, and the file systems that have none."""

from __future__ import annotations

import errno
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vem.errors import VemError
from vem.report.writing import staged
from vem.storage import ledger, locks
from vem.sweep import gpus

fcntl = pytest.importorskip("fcntl", reason="no file locks on this system")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_has_one_holder(tmp_path, kind):
    path = tmp_path / "lock" if kind == "file" else tmp_path
    with locks.held(path) as locked:
        assert locked
        with pytest.raises(locks.Taken, match=str(path)), locks.held(path, wait=False):
            pass
    with locks.held(path, wait=False) as locked:
        assert locked


def test_who_waits_comes_after(tmp_path):
    inside, most = [], []

    def work(number: int) -> None:
        with locks.held(tmp_path / "lock"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.005)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def test_a_lock_that_cannot_be_made_is_one_message(tmp_path):
    with pytest.raises(VemError, match="cannot be written"), locks.held(tmp_path / "no folder" / "lock"):
        pass


@pytest.fixture
def refused(monkeypatch):
    """flock answers with this error; gives the number of open files before and after."""

    def refuse(number: int) -> None:
        def flock(file: int, how: int) -> None:
            raise OSError(number, os.strerror(number))

        locks._say.cache_clear()
        monkeypatch.setattr(fcntl, "flock", flock)

    yield refuse
    locks._say.cache_clear()


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EBADF", "EIO"])
def test_without_locks_the_work_goes_on_and_the_log_says_so_once(tmp_path, refused, caplog, name):
    refused(getattr(errno, name))
    entered = []
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with caplog.at_level(logging.WARNING, "vem"):
        for _ in range(3):
            with locks.held(tmp_path / "lock", wait=False) as locked:
                entered.append(locked)
        with ledger.alone(tmp_path, "job"):
            entered.append(None)
        with gpus.slot(("GPU-a",), 1, tmp_path / "gpus") as number:
            entered.append(number)
        with staged(tmp_path / "report") as folder:
            (folder / "report.md").write_text("read me")
    assert entered == [False] * 3 + [None] * 2 and (tmp_path / "report" / "report.md").exists()
    assert [r.getMessage().startswith("the file system has no locks") for r in caplog.records] == [True]
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_another_error_is_not_taken_for_a_lack_of_locks(tmp_path, refused):
    refused(errno.EINTR)
    with pytest.raises(OSError, match=os.strerror(errno.EINTR)), locks.held(tmp_path / "lock"):
        pass
