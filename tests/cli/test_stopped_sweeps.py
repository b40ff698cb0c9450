"""A sweep, or a part of it, that is told to stop or is killed, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
from cli_support import TINY
from run_folders import run_directories
from warm import Forked, Warm

from vem.storage import ledger, records

ENDLESS = (*TINY, "training.epochs=100000", "training.records=1000", "seed=0,1")


def statuses(folder) -> dict[str, str]:
    return {path.name: records.read_json(path / records.RUN)["status"] for path in run_directories([folder])}


@pytest.fixture
def sweeping(here: Path, warm: Warm) -> Callable[..., AbstractContextManager[Forked | subprocess.Popen]]:
    """An endless sweep in a process group of its own, once so many runs have recorded something."""

    @contextmanager
    def sweep(*overrides: str, into: str | None = "s", at_once: int = 1) -> Iterator[Forked | subprocess.Popen]:
        place = () if into is None else (f"hydra.sweep.dir={into}",)
        run = warm.start("-m", "vem.run", "-m", *ENDLESS, *place, *overrides, cwd=here, session=True)
        try:
            wait_until(lambda: len(list(here.rglob(records.METRICS))) >= at_once)
            yield run
        finally:
            run.kill()
            run.wait()

    return sweep


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def send(run: Forked | subprocess.Popen, number: int) -> None:
    """To the process, or, as a terminal does with Ctrl-C, to it and all that it has started here."""
    (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_sweep_after_a_checkpoint(here, sweeping, number):
    """Ctrl-C is a wish of the user's, not a fault of one job: the jobs that wait are not begun."""
    with sweeping() as run:
        send(run, number)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 1 and "Traceback" not in out + err
    assert f"vem: stopped by {number.name}" in err and "the checkpoint" in err
    assert "2 of 2 jobs are not done: 1 stopped, 1 not begun." in err
    (directory,) = run_directories([here / "s"])
    assert (directory / records.CHECKPOINT).exists()
    assert records.read_json(directory / records.RUN)["status"] == "running"
    assert f"stopped by {number.name}" in out and (here / "s" / "report.html").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_jobs_that_are_at_work_after_their_checkpoints(here, sweeping, number):
    """joblib kills its workers and their children at once: the jobs are told before."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib is not installed")
    joblib = ("seed=0,1,2", "launcher=joblib", "hydra.launcher.n_jobs=2")
    with sweeping(*joblib, at_once=2) as run:
        pids = [sign["pid"] for sign in signs_of_life(here / "s")]
        send(run, number)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 1 and "Traceback" not in out + err
    assert "vem: stopped" in err and "3 of 3 jobs are not done: 2 stopped, 1 not begun." in err
    directories = run_directories([here / "s"])
    assert len(directories) == len(pids) == 2
    for directory in directories:
        assert (directory / records.CHECKPOINT).exists()
        status = records.read_json(directory / records.RUN)
        assert status["status"] == "running" and f"stopped by {number.name}" in status["error"]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_ctrl_c_ends_no_worker_that_has_nothing_to_do(here, sweeping):
    """Of such a worker joblib would take the death for a breakdown, and kill the others and their jobs."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib is not installed")
    joblib = ("seed=0", "training.epochs=2,100000", "launcher=joblib", "hydra.launcher.n_jobs=4")
    with sweeping(*joblib, at_once=2) as run:
        wait_until(lambda: len(signs_of_life(here / "s")) == 1)
        (job,) = (sign["pid"] for sign in signs_of_life(here / "s"))
        (idle,) = set(workers_of(run.pid)) - {parent(parent(job))}
        time.sleep(1)  # its result is on its way
        os.kill(idle, signal.SIGINT)
        time.sleep(2)
        assert run.poll() is None and Path(f"/proc/{job}").exists()
        send(run, signal.SIGINT)
        _, err = run.communicate(timeout=300)
    assert "1 of 2 jobs are not done: 1 stopped." in err


def workers_of(command: int) -> list[int]:
    """The workers of joblib that a command has started."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if b"popen_loky" in read(path)]
    return [int(path.name) for path in found if parent(int(path.name)) == command]


def read(path: Path) -> bytes:
    """Nothing where the process is gone by now."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_signal_to_one_job_costs_only_itself(here, sweeping):
    with sweeping("seed=0", "training.epochs=100000,2") as run:
        (sign,) = signs_of_life(here / "s")
        os.kill(sign["pid"], signal.SIGTERM)
        _, err = run.communicate(timeout=300)
    assert run.returncode == 1 and "1 of 2 jobs are not done: 1 stopped." in err
    assert sorted(statuses(here / "s").values()) == ["done", "running"]


def test_a_sweep_that_is_killed_leaves_no_process_and_a_checkpoint(here, sweeping):
    with sweeping() as run:
        (directory,) = run_directories([here / "s"])
        pid = records.read_json(directory / records.RUN)["pid"]
        run.kill()
        run.wait()
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert (directory / records.CHECKPOINT).exists()
    assert "stopped by SIGTERM" in records.read_json(directory / records.RUN)["error"]


def test_a_worker_that_is_killed_costs_nothing(here, sweeping):
    """Of two workers of joblib one is killed: the launcher breaks off, and is started again for what is left.

    The folder of the sweep has the time in its name, and stays the same.
    """
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib is not installed")
    joblib = ("seed=0,1,2", "training.epochs=150", "launcher=joblib", "hydra.launcher.n_jobs=2")
    with sweeping(*joblib, into=None) as run:
        (sweep,) = (path.parent for path in here.rglob(ledger.FOLDER))
        workers = {parent(parent(sign["pid"])) for sign in signs_of_life(sweep)}
        assert run.pid not in workers
        os.kill(min(workers), signal.SIGKILL)
        out, err = run.communicate(timeout=300)
    assert run.returncode == 0, out + err
    assert "the launcher joblib broke off" in err and "started again" in err
    assert sorted(statuses(sweep).values()) == ["done"] * 3
    assert [path.parent for path in here.rglob(ledger.FOLDER)] == [sweep]


def signs_of_life(sweep: Path) -> list[dict[str, int]]:
    return [json.loads(path.read_text()) for path in (sweep / ledger.FOLDER / "alive").iterdir()]


def parent(pid: int) -> int:
    """Who started the process: of a job its fork server, of that the launcher's worker."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
