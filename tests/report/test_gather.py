"""What became of each run: ledgers, lost and stopped processes, repeats, links, runs that never said what they are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time

import pytest
import yaml
from synthetic_runs import report_text, write_run

from vem.report.__main__ import signature
from vem.report.gather import gather
from vem.report.read import findings
from vem.report.summary import terminal
from vem.storage import ledger

CONFIG = {"strategy": {"_target_": "vem.local"}, "data": {"seed": 0}, "model": {"width": 3}}


def begun(directory, seed=1, **facts):
    """A run that has only just begun: run.json says neither strategy nor data."""
    directory.mkdir(parents=True)
    facts = {"status": "running", "seed": seed, "config_hash": str(directory), **facts}
    (directory / "run.json").write_text(json.dumps(facts))
    (directory / "config.yaml").write_text(yaml.safe_dump({"seed": seed, "device": "cpu", **CONFIG}))
    return directory


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def plan(root, *folders, seeds=None, launcher="serial"):
    pairs = zip(folders, seeds or range(len(folders)), strict=True)
    jobs = [ledger.Job(folder, (f"seed={seed}",)) for folder, seed in pairs]
    ledger.plan(root, "python -m vem.run -m seed=0,1", launcher, jobs, "2026-01-01")


def test_every_fate_of_a_sweep(tmp_path):
    plan(tmp_path, "done", "again", "failed", "running", "lost", "stopped", "waiting", "damaged")
    write_run(tmp_path / "done", seed=0, config=CONFIG)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "run.json").write_text('{"status": "repeats", "repeats": "done"}')
    write_run(tmp_path / "failed", seed=2, status="failed", error="step 3: NaN", evaluated=False, config=CONFIG)
    (tmp_path / "failed" / "run.log").write_text("".join(f"line {i}\n" for i in range(100)))
    begun(tmp_path / "running", seed=3)
    begun(tmp_path / "lost", seed=4)
    begun(tmp_path / "stopped", seed=5, error="stopped by SIGTERM")
    begun(tmp_path / "damaged")
    (tmp_path / "damaged" / "run.json").write_text('{"status": "do')
    with ledger.alive(tmp_path, "running"):
        while not ledger.is_alive(tmp_path, "running"):
            pass
        found = findings([tmp_path])
    fates = {run.directory: run.status for run in found.unfinished}
    assert fates == {"failed": "failed", "running": "running", "lost": "lost", "stopped": "stopped",
                     "waiting": "waiting", "damaged": "unreadable"}  # fmt: skip
    reasons = {run.directory: run.reason for run in found.unfinished}
    assert reasons["failed"] == "step 3: NaN" and "process is gone" in reasons["lost"]
    assert reasons["stopped"] == "stopped by SIGTERM" and "not begun" in reasons["waiting"]
    assert "run.json is not readable" in reasons["damaged"]
    logs = {run.directory: run.log for run in found.unfinished if run.log}
    assert list(logs) == ["failed"] and logs["failed"].startswith("line 85\n") and logs["failed"].endswith("line 99")
    assert {run.directory: run.who for run in found.unfinished}["waiting"] == "seed=6"
    assert found.progress == {"done": 2, "running": 1, "failed": 3, "waiting": 1, "stopped": 1}
    assert found.provenance.commands == ("python -m vem.run -m seed=0,1",)
    (group,) = found.tables[0].groups.to_dict("records")  # those that died young are its runs too, and the one to come
    assert group["seeds"] == 1 and group["runs"] == 6 and group["status"].endswith("1 of 6 not begun")


def test_a_sweep_that_is_only_planned(tmp_path):
    plan(tmp_path, "a", "b")
    found = findings([tmp_path])
    assert [run.status for run in found.unfinished] == ["waiting", "waiting"] and found.tables == ()
    assert found.progress["waiting"] == 2 and "waiting: planned" in report_text(tmp_path)


def quiet(root):
    """As if nothing had happened in the sweep for an hour."""
    for path in [*(root / ".sweep").rglob("*"), *root.glob("*/run.json")]:
        os.utime(path, (time.time() - 3600,) * 2)


def test_jobs_of_a_sweep_that_ended_do_not_wait(tmp_path):
    plan(tmp_path, "a", "b")
    write_run(tmp_path / "a", seed=0)
    assert findings([tmp_path]).unfinished[0].status == "waiting"
    by_command = findings([tmp_path], ended=True)
    quiet(tmp_path)
    for found in (by_command, findings([tmp_path])):
        (run,) = found.unfinished
        assert run.status == "stopped" and "the same command goes on with it" in run.reason
        assert found.progress == {"done": 1, "running": 0, "failed": 0, "waiting": 0, "stopped": 1}


def test_jobs_in_a_queue_wait_however_long_it_is_quiet(tmp_path):
    plan(tmp_path, "a", launcher="submitit_slurm")
    quiet(tmp_path)
    assert findings([tmp_path], ended=True).unfinished[0].status == "waiting"


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"host": socket.gethostname(), "pid": os.getpid()}, "running"),
        ({"host": socket.gethostname(), "pid": "gone"}, "lost"),
        ({"host": socket.gethostname(), "pid": "gone", "error": "stopped by Ctrl-C"}, "stopped"),
        ({"host": "another machine", "pid": "gone"}, "running"),  # nothing is known of it
        ({}, "running"),
    ],
)
def test_a_run_outside_a_sweep_is_judged_by_its_process(tmp_path, facts, status):
    facts = {key: gone() if value == "gone" else value for key, value in facts.items()}
    begun(tmp_path / "a", **facts)
    (run,) = findings([tmp_path]).unfinished
    assert run.status == status


def test_a_run_that_died_young_is_told_by_its_kin(tmp_path):
    write_run(tmp_path / "a", seed=0, config=CONFIG)
    begun(tmp_path / "b", seed=1)
    found = findings([tmp_path])
    (group,) = found.tables[0].groups.to_dict("records")
    assert (group["seeds"], group["runs"], group["family"]) == (1, 2, "diagonal_gaussian")
    assert found.unfinished[0].who == "local, seed 1"


def test_without_kin_its_config_tells(tmp_path):
    run = begun(tmp_path / "b", seed=4)
    chosen = {"strategy": "amortized", "model": "deep", "data": "mnist"}
    (run / "config.yaml").write_text(yaml.safe_dump({"seed": 4, "choices": chosen, "data": {"binarize": "static"}}))
    found = findings([tmp_path])
    assert found.tables[0].name == "mnist, binarize=static"
    assert found.unfinished[0].who == "amortized, seed 4"


def chosen(strategy, binarize="threshold", **model):
    choices = {"strategy": strategy, "model": "deep", "family": "diagonal_gaussian", "data": "digits"}
    return {"choices": choices, "data": {"binarize": binarize, "seed": 0}, "model": {"likelihood": "auto", **model}}


def died_while_built(directory, **model):
    """A run that failed before its model was built: it knows neither its likelihood nor its family."""
    run = begun(directory, seed=0, status="failed", error="latent_dim=-1 is too small: it must be at least 1.")
    config = chosen("amortized", **model) | {"strategy": {"_target_": "vem.x"}}
    (run / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "device": "cpu", **config}))


def finished(directory, strategy):
    write_run(directory, strategy, config=chosen(strategy, latent_dim=2))


@pytest.mark.parametrize("first", ["a", "z"])  # whichever is found first
def test_a_run_that_failed_while_it_was_built_joins_the_table_of_its_data(tmp_path, first):
    died_while_built(tmp_path / first, latent_dim=-1)
    finished(tmp_path / "m", "gmm")
    finished(tmp_path / "n", "amortized")
    found = findings([tmp_path])
    (table,) = found.tables
    assert table.name == "digits, binarize=threshold, likelihood=bernoulli" and found.apart == ()
    assert set(table.groups["label"]) == {"gmm", "amortized, latent_dim=2", "amortized, latent_dim=-1"}


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"binarize": "static"}, "data.binarize (static | threshold)"),
        ({"likelihood": "gaussian"}, "likelihood (gaussian | bernoulli)"),
    ],
)
def test_what_a_failed_run_does_not_know_is_no_difference(tmp_path, own, reason):
    died_while_built(tmp_path / "a", latent_dim=2, **own)
    finished(tmp_path / "b", "amortized")
    found = findings([tmp_path])
    assert len(found.tables) == 2
    assert found.apart == (f"The 2 tables on digits are not compared with each other: they differ in {reason}.",)


def test_a_repeat_of_what_is_not_there_is_named(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text('{"status": "repeats", "repeats": "c"}')
    (run,) = findings([tmp_path]).unfinished
    assert (run.directory, run.status, run.reason) == ("b", "unreadable", "it repeats c, which is not there")


def test_a_run_that_is_run_again_keeps_no_second_place(tmp_path):
    run = write_run(tmp_path / "a", elbo=-90.0, config_hash="new")
    write_run(run / "earlier" / "001", elbo=-100.0, config_hash="old")
    assert [r.directory.name for r in gather([tmp_path]).runs] == ["a"]


def test_two_sweeps_in_one_report(tmp_path):
    for name, data in (("one", "digits"), ("two", "mnist")):
        plan(tmp_path / name, "a", "b")
        write_run(tmp_path / name / "a", data=data)
    found = findings([tmp_path / "one", tmp_path / "two"])
    assert [table.name.partition(",")[0] for table in found.tables] == ["digits", "mnist"]
    assert found.progress == {"done": 2, "running": 0, "failed": 0, "waiting": 2}
    assert found.provenance.rebuild.startswith("python -m vem.report ") and found.title == "one, two"


# --- behind symbolic links


@pytest.fixture
def disks(tmp_path):
    """A sweep of three jobs at home, of which one lies on a scratch disk, and a whole sweep there."""
    for where, jobs in (("home/one", "01"), ("scratch/two", "345")):
        plan(tmp_path / where, *jobs, "9", seeds=(*jobs, "9"))
        for job in jobs:
            write_run(tmp_path / where / job, seed=int(job))
    write_run(tmp_path / "scratch/far", seed=9)
    (tmp_path / "home/one/9").symlink_to(tmp_path / "scratch/far")
    (tmp_path / "home/two").symlink_to(tmp_path / "scratch/two")
    (tmp_path / "home/again").symlink_to(tmp_path / "home/one/0")
    return tmp_path


def test_they_stand_where_they_were_planned(disks):
    gathered = gather([disks / "home"])
    assert [gathered.relative(run.directory) for run in gathered.runs] == [
        "one/0", "one/1", "one/9", "two/3", "two/4", "two/5"]  # fmt: skip
    assert gathered.repeats == {} and [gathered.relative(path) for path in gathered.waiting] == ["two/9"]
    found = findings([disks / "home"])
    assert found.progress["done"] == 6
    (group,) = found.tables[0].groups.to_dict("records")
    assert (group["seeds"], group["runs"]) == (6, 6)  # seed 9, which waits in two, is there
    assert "Counted once" not in "\n".join(terminal(found, disks))


def test_two_jobs_that_are_links_to_one_run(disks):
    (disks / "scratch/two/9").symlink_to(disks / "scratch/far")
    gathered = gather([disks / "home"])
    assert len(gathered.runs) == 6 and gathered.waiting == []


def test_the_watch_sees_what_changes_behind_a_link(disks):
    before = signature([disks / "home"])
    assert signature([disks / "home"]) == before
    (disks / "scratch/far/metrics.csv").write_text("epoch\n")
    between = signature([disks / "home"])
    assert between != before
    (disks / "scratch/two/3/run.json").write_text("{}")
    assert signature([disks / "home"]) != between
