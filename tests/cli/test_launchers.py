"""Launchers: one word each; the numbers do not depend on them; one that is not installed says how it would be."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from cli_support import SMALL, contents
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from run_folders import run_directories

from vem.cli.messages import config_directory, jobs_at_once
from vem.storage import ledger, records

SWEEP = ("-m", *SMALL, "evaluation.draws=2", "strategy=amortized,local,gmm")
EXTRAS = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": "submitit", "slurm": "submitit"}


def numbers(run: Path) -> dict[str, Any]:
    """Everything that a run computed, less what a clock said."""
    with open(run / records.METRICS, encoding="utf-8", newline="") as file:
        rows = [{key: cell for key, cell in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    assert rows
    checkpoint = torch.load(run / records.CHECKPOINT, weights_only=True)
    return {
        "metrics": rows,
        "evaluation": json.loads((run / records.EVALUATION).read_text(encoding="utf-8")),
        "per_datum": (run / records.PER_DATUM).read_bytes(),
        "checkpoint": dict(tensors(checkpoint)),
    }


def tensors(node: Any, place: str = "") -> Any:
    """(place, bytes) of every tensor below."""
    if isinstance(node, torch.Tensor):
        yield place, node.numpy().tobytes()
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from tensors(child, f"{place}.{key}")
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from tensors(child, f"{place}[{i}]")


@pytest.mark.slow
def test_the_numbers_of_a_run_do_not_depend_on_the_launcher(here, vem_run, vem_process):
    """Bit for bit: serial, joblib, submitit, and one run by itself."""
    for module in EXTRAS.values():
        pytest.importorskip(module, reason="its extra is not installed")
    found = {}
    for launcher in ("serial", "joblib", "submitit_local"):
        vem_process(*SWEEP, f"launcher={launcher}", f"hydra.sweep.dir={launcher}").good()
        runs = run_directories([here / launcher])
        found[launcher] = {run.name: numbers(run) for run in runs}
        assert len(runs) == 3 and all(len(run["checkpoint"]) > 3 for run in found[launcher].values())
        assert {records.read_json(run / records.RUN)["threads"] for run in runs} == {1}
    assert found["serial"] == found["joblib"] == found["submitit_local"]

    runs = run_directories([here / "serial"])
    (alone,) = (run for run in runs if records.read_json(run / records.RUN)["strategy"] == "amortized")
    vem_process(*SMALL, "evaluation.draws=2", "strategy=amortized", "threads=1", "hydra.run.dir=alone").good()
    single = numbers(here / "alone")
    for name in ("metrics", "evaluation", "per_datum"):
        assert single[name] == found["serial"][alone.name][name]

    # What one launcher did, another finds done: a folder's name says nothing of launcher and threads.
    before = {run.name: contents(run) for run in run_directories([here / "joblib"])}
    vem_run(*SWEEP, "threads=1", "hydra.sweep.dir=joblib").good()
    assert {run.name: contents(run) for run in run_directories([here / "joblib"])} == before


@pytest.mark.parametrize(
    ("option", "plugin", "extra"),
    [
        ("launcher=joblib", ("launcher", "joblib"), "joblib"),
        ("launcher=slurm", ("launcher", "submitit_slurm"), "slurm"),
        ("launcher=submitit_local", ("launcher", "submitit_local"), "slurm"),
        ("launcher=ray", ("launcher", "ray"), "ray"),
        ("sweeper=optuna", ("sweeper", "optuna"), "optuna"),
    ],
)
def test_one_that_is_not_installed_says_how_it_would_be(option, plugin, extra, vem_run, monkeypatch):
    vem_run("--info", "plugins").good()  # Hydra has now looked for its plugins
    group, name = plugin
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"][group], f"{name}.yaml", raising=False)
    ended = vem_run("-m", *SMALL, option, "seed=0,1").bad()
    assert option in ended.err and f"pip install 'vem[{extra}]'" in ended.err
    assert f"pip install -c constraints.txt -e '.[{extra}]'" in ended.err
    assert not Path("runs").exists()


def test_an_unknown_launcher_is_met_with_the_known_ones(vem_run):
    ended = vem_run("-m", *SMALL, "launcher=slrum").bad()
    assert "did you mean 'slurm'?" in ended.err and "joblib" in ended.err


def test_a_mistake_in_a_sweep_for_a_queue_is_met_at_once(here, vem_run):
    pytest.importorskip(EXTRAS["submitit_local"], reason="its extra is not installed")
    ended = vem_run("-m", *SMALL, "strategy=gmm,amortised", "launcher=submitit_local", "hydra.sweep.dir=s").bad()
    assert "did you mean 'amortized'?" in ended.err
    assert not (here / "s" / ledger.FOLDER).exists()


def test_a_queue_that_takes_no_job_is_met_at_once(here, vem_run, monkeypatch):
    pytest.importorskip(EXTRAS["slurm"], reason="its extra is not installed")
    for name in ("srun", "sbatch"):
        program = here / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.environ['PATH']}")
    ended = vem_run("-m", *SMALL, "strategy=gmm", "seed=0,1", "launcher=slurm", "hydra.sweep.dir=s")
    assert ended.code == 1 and "Traceback" not in ended.text and ended.err.count("vem: ") == 1
    assert "could hand no job over" in ended.err and "no such partition" in ended.err
    assert not (here / "s" / ledger.FOLDER).exists()


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = compose("config", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config.hydra


@pytest.mark.parametrize(("cores", "threads", "jobs"), [(8, None, 8), (8, 3, 2), (2, 16, 1), (1, 1, 1)])
def test_jobs_and_their_threads_fill_the_cores_and_no_more(cores, threads, jobs, monkeypatch):
    pytest.importorskip(EXTRAS["joblib"], reason="its extra is not installed")
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert jobs_at_once(threads) == jobs
    launcher = composed("launcher=joblib", f"threads={'null' if threads is None else threads}").launcher
    assert launcher.n_jobs == jobs and launcher.pre_dispatch == str(jobs)


def test_slurm_gives_a_job_the_cores_of_its_threads():
    pytest.importorskip(EXTRAS["slurm"], reason="its extra is not installed")
    assert composed("launcher=slurm").launcher.cpus_per_task is None
    launcher = composed("launcher=slurm", "threads=3", "hydra.launcher.partition=gpu").launcher
    assert launcher.cpus_per_task == 3 and launcher.partition == "gpu"
