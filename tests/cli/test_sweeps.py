"""``-m``: many runs from one command, each in a folder named by its overrides, and the comparison at the end."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
from pathlib import Path

import pytest
from cli_support import SMALL, TINY, TINY_GMM, contents, table
from run_folders import run_directories

from vem.cli.messages import LONGEST_FOLDER, folder_name
from vem.report import write_report
from vem.storage import ledger, records

SWEEP = ("-m", *SMALL, "evaluation.draws=2", "hydra.sweep.dir=s")
FEW = ("-m", "data=blobs", "data.num=40", "training.epochs=2", "strategy=gmm", "hydra.sweep.dir=s")


def statuses(folder) -> dict[str, str]:
    return {path.name: records.read_json(path / records.RUN)["status"] for path in run_directories([folder])}


def test_three_strategies_end_in_the_comparison(here, vem_run, drawn):
    vem_run(*SWEEP, "strategy=local,gmm").good()
    two = finished(here / "s")
    assert len(two) == 2

    # One more value: what is finished stays as it is, and one folder is added.
    sweep = (*SWEEP, "strategy=local,amortized,gmm")
    ended = vem_run(*sweep).good()
    three = finished(here / "s")
    assert len(three) == 3 and {name: three[name] for name in two} == two
    assert sorted(statuses(here / "s").values()) == ["done"] * 3
    rows = table(here / "s" / "summary.csv")
    assert {row["strategy"] for row in rows} == {"local", "amortized", "gmm"}
    text = ended.out.split("Data: blobs")[1]
    for word in ("local", "amortized", "gmm", "summary.csv", "Figures:"):
        assert word in text

    # The same folder again: nothing is run a second time.
    again = vem_run(*sweep).good()
    assert "3 of 3 done" in again.err
    assert finished(here / "s") == three


def finished(sweep: Path) -> dict[str, dict[str, bytes]]:
    """The name of each run's folder, and the bytes of its files."""
    return {path.name: contents(path) for path in run_directories([sweep])}


def test_a_failing_job_costs_only_itself(here, vem_run):
    ended = vem_run(*FEW, "model.components=2,999,3")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert "1 of 3 jobs are not done: 1 failed." in ended.err and f"hydra.sweep.dir={here / 's'}" in ended.err
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
    assert "ZeroDivisionError: an odd number" in ended.err
    log = (here / "s" / name / "run.log").read_text()
    assert log.count("Traceback") == 1 and "in _train_and_measure" in log


def test_a_job_that_does_not_compose_refuses_the_sweep(here, vem_run):
    ended = vem_run(*SWEEP, "strategy=gmm,amortised").bad()
    assert "did you mean 'amortized'?" in ended.err
    assert not list(here.rglob("run.json")) and not (here / "s" / ledger.FOLDER).exists()


def test_a_sign_of_life_from_an_earlier_start_is_none_of_this_one(here, vem_run):
    """A job was killed; a mistake in the next command is a mistake, and no launcher that broke off."""
    vem_run(*FEW, "model.components=2", "evaluation=quick").good()
    before = ledger.read(here / "s")
    (folder,) = before.current
    with subprocess.Popen(["true"]) as gone:
        pass
    sign = {"host": socket.gethostname(), "pid": gone.pid}
    (here / "s" / ledger.FOLDER / "alive" / folder).write_text(json.dumps(sign))
    ended = vem_run(*FEW, "model.components=2", "evaluation=quick,quikc").bad()
    assert "did you mean 'quick'?" in ended.err
    assert ledger.read(here / "s") == before


def test_ctrl_c_while_the_report_is_written_is_one_line(here, vem_run, monkeypatch):
    from vem.cli import messages

    def report(directory: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(messages, "report", report)
    ended = vem_run(*FEW, "model.components=2")
    assert ended.code == 1 and "Traceback" not in ended.text
    assert f"vem: stopped before the report was whole: python -m vem.report {here / 's'} writes it." in ended.err


def test_folders_are_the_planned_ones_and_named_by_the_overrides(here, vem_run):
    sweep = ("-m", *TINY, "evaluation=none", "hydra.sweep.dir=s", "threads=1")
    vem_run(*sweep, "seed=1,0").good()
    names = set(statuses(here / "s"))
    assert {job.folder for job in ledger.read(here / "s").jobs} == names and len(names) == 2
    assert not any("threads" in name for name in names)
    vem_run(*sweep, "seed=7,0,1").good()
    assert len(statuses(here / "s")) == 3 and names < set(statuses(here / "s"))


def test_a_folder_naming_of_ones_own_is_refused(here, vem_run):
    ended = vem_run(*SWEEP, "seed=0,1", "hydra.sweep.subdir=${hydra.job.num}").bad()
    assert "hydra.sweep.subdir" in ended.err


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


@pytest.mark.parametrize("overrides", [("seed=0,0",), ("seed=0", "threads=1,2"), ("device=cpu,auto",)])
def test_two_jobs_of_one_folder_are_refused(here, vem_run, overrides):
    ended = vem_run(*SWEEP, "strategy=gmm", *overrides).bad()
    assert "two jobs of this sweep" in ended.err and not list(here.rglob("run.json"))


def test_a_refused_job_is_an_exit_code(here, vem_run):
    """The yaml behind the sweep has changed: its finished runs are those of another config."""
    (here / "conf" / "experiment").mkdir(parents=True)
    yaml = here / "conf" / "experiment" / "mine.yaml"
    sweep = ("--config-dir", "conf", *SWEEP, "strategy=gmm", "experiment=mine", "seed=0,1")
    yaml.write_text("# @package _global_\nmodel: {components: 2}\n")
    vem_run(*sweep).good()
    yaml.write_text("# @package _global_\nmodel: {components: 3}\n")
    ended = vem_run(*sweep)
    assert ended.code == 1 and ended.err.count("holds a run of another config") == 2
    assert "2 of 2 jobs are not done: 2 failed." in ended.err
    assert sorted(statuses(here / "s").values()) == ["done", "done"]
    # Under names of their own they are run, and are no repeats of what the refused jobs had claimed.
    vem_run(*sweep, "model.components=3").good()
    assert sorted(statuses(here / "s").values()) == ["done"] * 4
    vem_run(*sweep, "rerun=stale").good()
    assert [p.name for p in (here / "s").rglob(f"{records.ASIDE}/*")] == ["001", "001"]


def test_a_report_that_breaks_hides_no_run(here, vem_run, monkeypatch):
    from vem.cli import messages

    monkeypatch.setattr(messages, "report", lambda directory: 1 / 0)
    ended = vem_run(*FEW, "model.components=2,999")
    assert ended.code == 1 and "no report: ZeroDivisionError" in ended.err
    assert "1 of 2 jobs are not done: 1 failed." in ended.err
    assert "Traceback" in (here / "s" / ledger.FOLDER / "report.log").read_text()


def test_brief_gaps_stand_in_the_table_and_in_the_answer(here, vem_run):
    """As the README's first command has it: the ELBO of all test data, the gaps of some of them."""
    brief = ("evaluation=brief", "evaluation.gap_data=6", "evaluation.best.draws=20", "evaluation.best.rounds=3")
    vem_run(*TINY, *brief, "latent_dim=3", "hydra.run.dir=s/amortized").good()
    vem_run(*TINY_GMM, *brief, "hydra.run.dir=s/gmm").good()
    for name, number in {"amortized": 6, "gmm": 10}.items():
        test = records.read_json(here / "s" / name / records.EVALUATION)["test"]
        assert test["num_data"] == 10 and test.get("gap_data", 10) == number
        cells = [
            row["best_elbo"] != "" for row in table(here / "s" / name / records.PER_DATUM) if row["split"] == "test"
        ]
        assert cells.count(True) == number
        assert test["gaps"]["inference"]["mean"] == pytest.approx(
            test["log_marginal"]["lower"]["mean"] - test["elbo"]["mean"], abs=1e-9
        )
    out = " ".join(write_report([here / "s"], here / "s").split())
    assert "Gaps in numbers: Group Data Approximation Amortization" in out and "gmm loses nothing" in out
    assert "amortized loses" in out or "amortized: no loss is shown" in out


def test_jobs_take_the_keys_they_have_and_one_that_has_none_of_those_swept_runs_once(here, vem_run):
    sweep = (*SWEEP, "evaluation=none", "strategy=amortized,gmm", "model.components=2,3")
    ended = vem_run(*sweep).good()
    assert "4 of 4 done" in ended.err and len(table(here / "s" / "runs.csv")) == 3  # two jobs are one run, shown once
    assert "sweep: model.components=2,3 is taken by strategy=gmm; strategy=amortized has no such key" in ended.err
    assert sorted(statuses(here / "s").values()) == ["done", "done", "done", "repeats"]
    before = done(here / "s")
    assert "4 of 4 done" in vem_run(*sweep).good().err and done(here / "s") == before


def done(sweep: Path) -> dict[str, dict[str, bytes]]:
    """Of the runs that are no repeats, which are written anew for each start."""
    return {name: files for name, files in finished(sweep).items() if statuses(sweep)[name] == "done"}
