"""The sweep directory's own files: who holds a config, who is alive, what state a job is in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vem.storage import ledger, records


def status(directory: Path, folder: str, **content) -> None:
    (directory / folder).mkdir(parents=True, exist_ok=True)
    records.write_json(directory / folder / records.RUN, content)


def test_a_plan_keeps_the_jobs_of_earlier_starts(tmp_path):
    one, two, three = (ledger.Job(f"seed={n}", (f"seed={n}",)) for n in range(3))
    first = ledger.plan(tmp_path, "python -m vem.run -m seed=0,1", "basic", [one, two], "monday")
    second = ledger.plan(tmp_path, "python -m vem.run -m seed=1,2", "joblib", [two, three], "tuesday")
    read = ledger.read(tmp_path)
    assert read == second
    assert [job.folder for job in read.jobs] == ["seed=0", "seed=1", "seed=2"]
    assert read.current == ("seed=1", "seed=2") and len(read.commands) == 2
    assert (first.start, read.start) == ("monday", "tuesday")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"jobs": 1}', '{"jobs": [{"folder": 1}], "commands": []}'])
def test_a_damaged_plan_is_no_plan(tmp_path, text):
    (tmp_path / ledger.FOLDER).mkdir()
    (tmp_path / ledger.FOLDER / "sweep.json").write_text(text)
    assert ledger.read(tmp_path) is None


def test_one_of_many_gets_the_claim(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        for digest in map(str, range(20)):
            holders = set(pool.map(lambda n, d=digest: ledger.claim(tmp_path, d, f"job {n}"), range(16)))
            assert len(holders) == 1
            assert ledger.claim(tmp_path, digest, "late") in holders
            (holder,) = holders
            assert (
                ledger.take_over(tmp_path, digest, "late", holder) == ledger.claim(tmp_path, digest, "other") == "late"
            )


def test_one_of_many_takes_a_claim_over(tmp_path):
    """Repeats of a dead holder ask at once: one of them runs, the others learn who."""
    with ThreadPoolExecutor(16) as pool:
        for digest in map(str, range(20)):
            ledger.claim(tmp_path, digest, "dead")
            told = list(pool.map(lambda n, d=digest: ledger.take_over(tmp_path, d, f"job {n}", "dead"), range(16)))
            assert len(set(told)) == 1 and set(told) == {ledger.claim(tmp_path, digest, "late")}


def test_plans_of_two_starts_at_once_keep_the_jobs_of_both(tmp_path, monkeypatch):
    write = ledger.write

    def slow(sweep):
        time.sleep(0.02)
        write(sweep)

    monkeypatch.setattr(ledger, "write", slow)
    with ThreadPoolExecutor(6) as pool:
        jobs = [ledger.Job(f"seed={n}", ()) for n in range(6)]
        list(pool.map(lambda job: ledger.plan(tmp_path, job.folder, "basic", [job], job.folder), jobs))
    assert sorted(job.folder for job in ledger.read(tmp_path).jobs) == [job.folder for job in jobs]


def test_a_job_is_alive_while_its_block_runs(tmp_path):
    assert not ledger.is_alive(tmp_path, "a")
    with ledger.alive(tmp_path, "a"):
        deadline = time.monotonic() + 10
        while not ledger.is_alive(tmp_path, "a") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ledger.is_alive(tmp_path, "a")
    assert not ledger.is_alive(tmp_path, "a")


def sign(tmp_path: Path, folder: str, host: str, pid: int, age: float = 0.0) -> None:
    path = tmp_path / ledger.FOLDER / "alive" / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": host, "pid": pid}))
    os.utime(path, (time.time() - age,) * 2)


def test_a_process_that_is_gone_is_seen_at_once_on_this_machine_and_later_on_another(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    sign(tmp_path, "unburied", socket.gethostname(), child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and waits to be buried
    assert not ledger.is_alive(tmp_path, "unburied")
    child.wait()
    sign(tmp_path, "gone", socket.gethostname(), child.pid)
    assert not ledger.is_alive(tmp_path, "gone")
    sign(tmp_path, "elsewhere", "another.host", child.pid)
    assert ledger.is_alive(tmp_path, "elsewhere")
    sign(tmp_path, "silent", "another.host", child.pid, age=2 * ledger.SILENCE)
    assert not ledger.is_alive(tmp_path, "silent")


@pytest.mark.parametrize(
    ("content", "alive", "state"),
    [
        (None, False, "waiting"),
        (None, True, "running"),
        ({"status": "running", "error": None}, True, "running"),
        ({"status": "running", "error": None}, False, "lost"),
        ({"status": "running", "error": "stopped by SIGINT"}, False, "stopped"),
        ({"status": "done", "error": None}, False, "done"),
        ({"status": "failed", "error": "why"}, False, "failed"),
        ({"status": "repeats", "repeats": "b"}, False, "repeats"),
    ],
)
def test_the_state_of_a_job(tmp_path, content, alive, state):
    if content is not None:
        status(tmp_path, "a", **content)
    if alive:
        sign(tmp_path, "a", socket.gethostname(), os.getpid())
    assert ledger.state(tmp_path, "a") == state


def test_a_damaged_record_is_unreadable(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / records.RUN).write_text('{"status": "do')
    assert ledger.state(tmp_path, "a") == "unreadable"


def test_one_at_a_time_is_at_work_in_a_folder(tmp_path):
    inside, most = [], []

    def work(number: int) -> None:
        with ledger.alone(tmp_path, "a"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


def test_the_lock_ends_with_its_process(tmp_path):
    code = (
        f"from vem.storage import ledger; from pathlib import Path\nwith ledger.alone(Path({str(tmp_path)!r}), 'a'):\n"
    )
    code += "    print('in', flush=True)\n    import time; time.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "in\n"
        holder.kill()
        with ledger.alone(tmp_path, "a"):
            assert holder.wait() != 0
