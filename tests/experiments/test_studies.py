"""The three studies, from their one command, at a size that shows that everything works."""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from vem.cli import messages

CHECKOUT = Path(__file__).resolve().parents[2]
STUDIES = {  # the figures, and the rows of the table, of the smoke test
    "latent_plane": (("planes.png", "grids.png"), 6),
    "em_to_vae": (("tractable.png", "deep.png", "sizes.png"), 8),
    "inference_gaps": (("gaps.png",), 10),
}


def start(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, str(CHECKOUT / "experiments" / name / "run.py"), *arguments]
    return subprocess.run(call, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


LONG = pytest.mark.skipif(not os.environ.get("VEM_STUDIES"), reason="takes a minute: set VEM_STUDIES=1 to run it")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n if n == "latent_plane" else pytest.param(n, marks=LONG) for n in STUDIES])
def test_a_study_reruns_from_its_command(name: str, tmp_path: Path) -> None:
    done = start(name, "--quick", "--sweep", "runs", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    figures, rows = STUDIES[name]
    assert all((tmp_path / "out" / figure).stat().st_size > 5000 for figure in figures)
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == rows
    assert "| --- |" in (tmp_path / "out" / "table.md").read_text()
    first = (tmp_path / "out" / "summary.csv").read_bytes()
    again = start(name, "--quick", "--collect", "--sweep", "runs", "--out", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "summary.csv").read_bytes() == first


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_committed_belongs_to_the_study(name: str) -> None:
    """The table and the figures are there and small; the config's head names its command."""
    folder = CHECKOUT / "experiments" / name
    figures, _ = STUDIES[name]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for figure in figures:
        assert (folder / figure).stat().st_size < 300_000 and figure in readme
    assert f"python experiments/{name}/run.py" in readme
    config = (CHECKOUT / "conf" / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"# python experiments/{name}/run.py\n" in config
    assert (folder / "summary.csv").exists() and (folder / "table.md").exists()


def test_the_gaps_are_those_of_the_published_design() -> None:
    """784-200-200-50 with ELU, batch 100, static binarization, a decoder that starts as PyTorch leaves it."""
    config = OmegaConf.create(messages.composed(["experiment=inference_gaps"]))
    assert config.model.decoder.widths == config.strategy.encoder.widths == [200, 200]
    assert config.model.decoder.activation == config.strategy.encoder.activation == "elu"
    assert config.model.latent_dim == 50
    assert config.data.binarize == "static" and config.training.batch_size == 100 and not config.model.data_start
    assert config.evaluation.annealing is not None and config.evaluation.best is not None


class Enough(Exception):
    pass


class Gate:
    """Lets a contender of the benchmark take one step."""

    def __init__(self):
        self.notes = {}

    def wait(self):
        pass

    def __call__(self):
        raise Enough


@pytest.mark.parametrize("overrides", ["AMORTIZED", "VEM_DEFAULT", "VEM_E_THEN_M"])
def test_vem_takes_a_step_in_the_benchmark(overrides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CHECKOUT / "experiments" / "speed")
    names = ("contenders", "data", "worker", "with_vem")
    contenders, _, worker, with_vem = map(importlib.import_module, names)
    for name in names:  # other studies have modules of these names
        monkeypatch.delitem(sys.modules, name)
    found = getattr(contenders, overrides)
    typed = found[0].options["overrides"] if overrides == "AMORTIZED" else found
    gate, task = Gate(), worker.Task(100, 1, torch.get_num_threads(), "cpu", 50, (4,), 2)
    with pytest.raises(Enough):
        with_vem.run(task, gate, typed)
    assert gate.notes["decoder_passes"] >= 1 and ("table_bytes" in gate.notes) == (overrides != "AMORTIZED")
