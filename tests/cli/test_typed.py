"""What is typed where it means nothing is met by what to type instead."""

from __future__ import annotations

import shlex

import pytest
from cli_support import TINY_GMM

from vem.cli import messages
from vem.cli.typed import misplaced


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["-m", "seed=0,1", "hydra.run.dir=runs/a"], ["hydra.run.dir=runs/a", "-m", "hydra.sweep.dir=runs/a"]),
        (["--multirun", "hydra.run.dir=a", "hydra.sweep.dir=b"], ["hydra.run.dir=a", "hydra.sweep.dir=a"]),
        (["hydra.mode=MULTIRUN", "++hydra.run.dir=a"], ["hydra.sweep.dir=a"]),
        (["seed=0", "hydra.sweep.dir=runs/a"], ["hydra.sweep.dir=runs/a", "-m", "hydra.run.dir=runs/a"]),
        (["hydra.run.dir=a", "+hydra.sweep.subdir=b"], ["+hydra.sweep.subdir=b", "hydra.run.dir=DIR"]),
        (["launcher=slurm", "seed=0"], ["launcher=slurm", "-m launcher=slurm"]),
        (["hydra.launcher.n_jobs=2"], ["-m hydra.launcher.n_jobs=2"]),
        (["sweeper=optuna"], ["-m sweeper=optuna"]),
        (["strategy=local", "-m", "seed=0,1"], ["-m goes before the overrides"]),
    ],
)
def test_what_would_be_ignored_is_refused(typed, words):
    said = str(misplaced(typed))
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "typed",
    [
        ["-m", "seed=0,1", "hydra.sweep.dir=a"],
        ["hydra.run.dir=a", "launcher=serial"],
        ["--cfg", "job", "hydra.sweep.dir=a"],
        ["-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "sweeper=optuna", "hydra.sweeper.n_trials=2"],
        ["training.epochs=3", "-m"],
        ["+sweep=3", "data.path=hydra.run.dir=a"],
    ],
)
def test_what_means_something_is_not(typed):
    assert misplaced(typed) is None


@pytest.mark.parametrize(
    "typed", ["seed=0,1,2", "seed=range(0,3)", "strategy=local,gmm", "training.rate=interval(0,1)"]
)
def test_several_values_without_m_are_met_by_it(here, vem_run, typed):
    ended = vem_run(*(o for o in TINY_GMM if not typed.startswith(o.partition("=")[0] + "=")), typed).bad()
    assert f"python -m vem.run -m {shlex.quote(typed)} " in ended.err and "--multirun" not in ended.err
    if typed == "seed=0,1,2":
        assert "'seed=[0,1,2]'" in ended.err
    assert not list(here.rglob("run.json"))


def test_several_values_of_a_measurement(here):
    from vem.errors import VemError

    with pytest.raises(VemError, match=r"evaluation\.draws=1,2 are several values, and one run has one"):
        messages.composed(["evaluation.draws=1,2"])
