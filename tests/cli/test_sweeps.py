"""``-m``: many runs from one command, each in a folder named by its overrides, and the comparison at the end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest
from cli_support import CHECKOUT, SMALL, TINY, contents, table

from vem import records
from vem.command import LONGEST_FOLDER, folder_name

SWEEP = ("-m", *SMALL, "evaluation.draws=2", "hydra.sweep.dir=s")
FEW = ("-m", "data=blobs", "data.num=40", "training.epochs=2", "strategy=gmm", "hydra.sweep.dir=s")


def statuses(folder) -> dict[str, str]:
    return {path.name: records.read_json(path / records.RUN)["status"] for path in records.run_directories([folder])}


def test_three_strategies_end_in_the_comparison(here, vem_run):
    sweep = ("-m", *SMALL, "evaluation.draws=2", "hydra.sweep.dir=s", "strategy=local,amortized,gmm")
    ended = vem_run(*sweep).good()
    assert sorted(statuses(here / "s").values()) == ["done"] * 3
    rows = table(here / "s" / "summary.csv")
    assert {row["strategy"] for row in rows} == {"local", "amortized", "gmm"}
    text = ended.out.split("Data: blobs")[1]
    for word in ("local", "amortized", "gmm", "summary.csv", "Figures:"):
        assert word in text

    # The same folder again: nothing is run a second time.
    before = {path.name: contents(path) for path in records.run_directories([here / "s"])}
    again = vem_run(*sweep).good()
    assert again.out.count("left alone") == 3
    assert {path.name: contents(path) for path in records.run_directories([here / "s"])} == before

    # One more value: the finished folders keep their names.
    vem_run(*sweep[:-1], "strategy=exact_em,local,amortized,gmm", "model=linear_gaussian")
    assert {name for name in before if name in statuses(here / "s")} == set(before)


def test_a_failing_job_costs_only_itself(here, vem_run):
    ended = vem_run(*FEW, "model.components=2,999,3")
    assert ended.code == 1 and "Traceback" not in ended.text
    found = statuses(here / "s")
    assert sorted(found.values()) == ["done", "done", "failed"]
    (name,) = (name for name, status in found.items() if status == "failed")
    assert "model.components=999" in name
    failed = records.read_json(here / "s" / name / records.RUN)
    assert "999" in failed["error"]
    below = ended.out.split("not finished:")[1]
    assert name in below and "failed" in below and "999" in below


def test_an_unforeseen_error_of_a_job_is_in_its_log_alone(here, vem_run):
    (here / "sweep_module.py").write_text(
        "from vem.evaluation.settings import Evaluation\n"
        "class Odd(Evaluation):\n"
        "    @property\n"
        "    def num_data(self):\n"
        "        raise ZeroDivisionError('an odd number')\n"
        "    @num_data.setter\n"
        "    def num_data(self, value):\n"
        "        pass\n"
        "def make(odd=False, **k):\n"
        "    return Odd.__new__(Odd) if odd else Evaluation(**k)\n"
    )
    ended = vem_run(
        *SWEEP, "allow_targets=[sweep_module]", "evaluation._target_=sweep_module.make", "strategy=gmm",
        "+evaluation.odd=false,true", "model.components=2",
    )  # fmt: skip
    assert ended.code == 1 and "Traceback" not in ended.text
    found = statuses(here / "s")
    assert sorted(found.values()) == ["done", "failed"]
    (name,) = (name for name, status in found.items() if status == "failed")
    assert "ZeroDivisionError: an odd number" in ended.out
    log = (here / "s" / name / "run.log").read_text()
    assert log.count("Traceback") == 1 and "in _train_and_measure" in log


def test_a_job_that_does_not_compose_refuses_the_sweep(here, vem_run):
    ended = vem_run(*SWEEP, "strategy=gmm,amortised").bad()
    assert "did you mean 'amortized'?" in ended.err
    assert not list(here.rglob("run.json"))


def test_a_signal_stops_the_sweep_after_a_checkpoint(here):
    """Ctrl-C is a wish of the user's, not a fault of one job: the jobs that wait are not begun."""
    command = [sys.executable, "-m", "vem.run", "-m", *TINY, "training.epochs=100000", "training.records=1000"]
    command += ["seed=0,1", "hydra.sweep.dir=s"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            deadline = time.monotonic() + 60
            while not list(here.rglob(records.METRICS)) and time.monotonic() < deadline:
                time.sleep(0.05)
            run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 1 and "Traceback" not in out + err
    assert err.startswith("vem: stopped by SIGINT") and "the checkpoint" in err
    (directory,) = records.run_directories([here / "s"])
    assert (directory / records.CHECKPOINT).exists()
    assert records.read_json(directory / records.RUN)["status"] == "running"
    assert "running: stopped by SIGINT" in out


def test_the_latent_size_is_swept_across_strategies(here, vem_run):
    """A mixture has no latent size: its two jobs are one run, shown once."""
    ended = vem_run(*SWEEP, "strategy=amortized,gmm", "latent_dim=2,3").good()
    assert len(statuses(here / "s")) == 4
    hashes = [records.read_json(p / records.RUN)["config_hash"] for p in records.run_directories([here / "s"])]
    assert len(set(hashes)) == 3
    assert "Counted once, because the config is the same" in ended.out
    assert len(table(here / "s" / "runs.csv")) == 3


def test_folder_names_are_those_of_the_overrides(here, vem_run):
    vem_run("-m", *TINY, "evaluation=none", "hydra.sweep.dir=s", "seed=1,0").good()
    names = set(statuses(here / "s"))
    assert len(names) == 2
    vem_run("-m", *TINY, "evaluation=none", "hydra.sweep.dir=s", "seed=7,0,1").good()
    assert len(statuses(here / "s")) == 3 and names < set(statuses(here / "s"))


# What a person may sweep over; every pair must have folders of its own, each a name that any file system takes.
OVERRIDES = [
    "", "a=1", "a=1,b=2", "b=2,a=1", "a=-1", "a=--1", "a=/1", "a= 1", "a=_1", "a=[1,2]", "a=(1,2)", "a=1-2",
    "data.path=a/b.npy", "data.path=a-b.npy", "data.path=a\\b.npy", "data.path=a b.npy", "data.path=ä.npy",
    "data.path=a:b", "+a=1", "~a",
    "a='1'", "a=.", "a=..", "a=" + "x" * 300, "a=" + "x" * 301, "a=x" + "-" * 90, "a=x" + "/" * 90,
]  # fmt: skip


def test_folder_names_never_collide():
    names = [folder_name(overrides) for overrides in OVERRIDES]
    clashes = [(a, b) for (a, m), (b, n) in itertools.combinations(zip(OVERRIDES, names, strict=True), 2) if m == n]
    assert clashes == []


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_folder_names_are_names(overrides):
    name = folder_name(overrides)
    assert name not in ("", ".", "..") and len(name) <= LONGEST_FOLDER and not set(name) & set('/\\:*?"<>| ')
