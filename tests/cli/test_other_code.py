"""A run is made by the code that it was made by: the user's own, edited between two starts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import SMALL, contents

import vem
from vem.storage import ledger
from vem.storage.records import read_json
from vem.sweep import ending
from vem.sweep.jobs import Jobs

DECODER = """
from torch import nn
from mylayers import SCALE

class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, z):
        if FAILS:
            raise KeyboardInterrupt
        return SCALE * self.layer(z)

FAILS = False
"""
OWN = (
    *SMALL,
    *("~model.decoder", "+model.decoder={_target_: mynets.Decoder}", "allow_targets=[mynets]"),
    *("strategy/encoder=mlp", "strategy.encoder.widths=[4]", "evaluation=none", "training.checkpoint_seconds=0"),
)


@pytest.fixture
def nets(here: Path) -> Callable[..., None]:
    """Write the user's modules, as an editor does between two starts."""

    def write(scale: float = 1.0, decoder: str = DECODER) -> None:
        (here / "mynets.py").write_text(decoder)
        (here / "mylayers.py").write_text(f"SCALE = {scale}\n# {'x' * int(10 * scale)}\n")
        for name in ("mynets", "mylayers"):
            sys.modules.pop(name, None)

    write()
    return write


def test_a_run_by_other_code_counts_with_a_warning_and_is_run_again_where_it_is_asked_for(nets, here, vem_run, caplog):
    vem_run(*OWN, "hydra.run.dir=r").good()
    first = read_json(here / "r" / "run.json")
    assert set(first["code"]["modules"]) == {"mynets", "mylayers"}
    kept = contents(here / "r")
    assert "other code" not in vem_run(*OWN, "hydra.run.dir=r").good().text

    nets(scale=3.0)
    again = vem_run(*OWN, "hydra.run.dir=r").good()
    assert (
        "r was made by other code of your own (mylayers has changed): it counts as done, and rerun=stale" in again.text
    )
    assert contents(here / "r") == kept

    with caplog.at_level(logging.WARNING, "vem"):
        vem.load(here / "r")
    assert "was made by other code of your own (mylayers has changed)" in caplog.text

    vem_run(*OWN, "hydra.run.dir=r", "rerun=stale").good()
    assert (here / "r" / "earlier" / "001" / "run.json").exists()
    second = read_json(here / "r" / "run.json")
    assert second["code"]["modules"]["mylayers"] != first["code"]["modules"]["mylayers"]
    assert second["code"]["modules"]["mynets"] == first["code"]["modules"]["mynets"]


def test_measuring_again_under_other_code_is_said_and_recorded(nets, here, vem_run, caplog):
    from vem.cli.evaluate import evaluate

    vem_run(*OWN, "hydra.run.dir=r").good()
    made = read_json(here / "r" / "run.json")["code"]
    evaluate(here / "r", ["evaluation=quick", "evaluation.num_data=5", "progress=false"])
    assert "code" not in read_json(here / "r" / "run.json")["evaluated"]
    nets(scale=3.0)
    with caplog.at_level(logging.WARNING, "vem"):
        evaluate(here / "r", ["evaluation=quick", "evaluation.num_data=6", "progress=false"])
    assert "other code of your own (mylayers has changed)" in caplog.text
    found = read_json(here / "r" / "run.json")
    assert found["code"] == made and found["evaluated"]["code"]["modules"]["mylayers"] != made["modules"]["mylayers"]


def test_an_unfinished_run_does_not_go_on_under_other_code(nets, here, vem_run, monkeypatch):
    def unfinished(name: str) -> Path:
        from vem.training.fit import Loop

        whole, seen = Loop._record, []

        def once(self: Any, *arguments: Any) -> None:
            if seen:  # as a kill would leave it, run.json knows the code
                assert "mynets" in read_json(here / name / "run.json")["code"]["modules"]
                raise KeyboardInterrupt
            seen.append(True)
            whole(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "_record", once)
            assert vem_run(*OWN, f"hydra.run.dir={name}").code == 1
        assert read_json(here / name / "run.json")["status"] == "running" and (here / name / "checkpoint.pt").exists()
        return here / name

    directory = unfinished("r")
    kept = contents(directory)
    nets(scale=3.0)
    ended = vem_run(*OWN, "hydra.run.dir=r").bad()
    assert "r was begun by other code of your own" in ended.err and "mylayers has changed" in ended.err
    assert "rerun=stale" in ended.err and contents(directory) == kept

    nets()  # the remedies: the old code
    vem_run(*OWN, "hydra.run.dir=r").good()
    unfinished("s")
    nets(scale=3.0)
    vem_run(*OWN, "hydra.run.dir=s", "rerun=stale").good()  # begun again
    assert (here / "s" / "earlier" / "001" / "checkpoint.pt").exists()
    vem_run(*OWN, "hydra.run.dir=t").good()  # another folder


def test_a_run_that_had_computed_nothing_is_mended(nets, here, vem_run):
    nets(decoder=DECODER.replace("nn.Linear(2, 3)", "nn.Linear(2, 4)"))
    vem_run(*OWN, "hydra.run.dir=r").bad()
    nets()
    vem_run(*OWN, "hydra.run.dir=r").good()


def test_a_sweep_says_which_of_its_runs_an_edit_left_behind(nets, here, vem_run):
    sweep = ledger.plan(here / "s", "vem", "joblib", [ledger.Job("a", ()), ledger.Job("b", ())], "now")
    vem_run(*OWN, "hydra.run.dir=s/a", "seed=0").good()
    nets(scale=3.0)
    vem_run(*OWN, "hydra.run.dir=s/b", "seed=1").good()
    for folder in "ab":
        ledger.write_outcome(here / "s", folder, "now", ledger.Outcome("done"))
    code, said = ending.verdict(Jobs(sweep))
    assert code == 0 and said.startswith("1 of the finished runs: each was made by ")
    assert "other code of your own (mylayers has changed). They count as done" in said
    first, second = (read_json(path)["code"]["modules"] for path in sorted((here / "s").glob("*/run.json")))
    assert first["mylayers"] != second["mylayers"] and first["mynets"] == second["mynets"]
