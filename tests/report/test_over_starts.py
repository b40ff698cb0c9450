"""What the report says of exact EM over seeds, and of training that did not converge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import said, write_run

from vem.report.read import findings
from vem.report.starts import rule
from vem.report.summary import terminal

EXACT = {"_target_": "vem.strategies.exact_em.ExactEM", "tolerance": 1e-6}
PPCA = {"_target_": "vem.models.linear_gaussian.LinearGaussian", "noise": "isotropic"}
MIXTURE = {"_target_": "vem.models.mixture.Mixture", "components": 3}


def write(root: Path, elbos: list[float], model: dict[str, Any], name: str = "exact_em", **facts: Any) -> None:
    for seed, elbo in enumerate(elbos):
        config = {"strategy": EXACT, "model": model, "training": {"epochs": 6, "stop": {"tolerance": None}}}
        write_run(root / f"{name}{seed}", name, seed=seed, elbo=elbo, config=config, **facts)


def cautions(root: Path) -> str:
    return " ".join(said(root, "caution"))


def told(root: Path) -> str:
    """What the terminal tells, too."""
    found = findings([root])
    text = " ".join(" ".join(terminal(found, root)).split()).replace("−", "-")
    assert all(sentence in text for sentence in said(root, "finding"))
    return " ".join(said(root, "finding"))


@pytest.mark.parametrize(("spread", "warned"), [(0.02, True), (0.004, False)])
def test_seeds_of_ppca_must_agree(tmp_path: Path, spread: float, warned: bool) -> None:
    write(tmp_path, [-12.0, -12.0 - spread, -12.0], PPCA, converged=True)
    assert ("one optimum, and its seeds differ by 0.020 nats" in told(tmp_path)) == warned
    assert "over starts" not in told(tmp_path) and "before it had converged" not in cautions(tmp_path)


def test_factor_analysis_and_mixtures_may_differ_and_mixtures_over_starts(tmp_path: Path) -> None:
    write(tmp_path / "a", [-12.0, -13.0], {**PPCA, "noise": "diagonal"}, converged=True)
    assert "one optimum" not in told(tmp_path / "a")
    write(tmp_path / "b", [-12.0, -13.5, -12.5], MIXTURE, "gmm", converged=True)
    text = told(tmp_path / "b")  # train lies 1 above
    assert (
        "over 3 starts the training ELBO ranges from -12.50 to -11.00 nats per data point, the best that of seed 0"
        in text
    )
    assert "Its means and errors are over starts" in text and "one optimum" not in text


def test_training_that_ended_by_its_epochs_is_named(tmp_path: Path) -> None:
    write(tmp_path, [-12.0, -12.0], PPCA, converged=False)
    text = cautions(tmp_path)
    assert "Training of exact_em ended by its number of epochs, before it had converged (strategy.tolerance=" in text
    assert "(2 runs)" in text


def test_which_rule_was_set() -> None:
    exact = {"strategy._target_": EXACT["_target_"], "strategy.tolerance": "1e-06"}
    assert rule(exact) == "strategy.tolerance=1e-06"
    assert rule({**exact, "strategy.tolerance": "0.0"}) is None
    assert rule({**exact, "data.binarize": "stochastic"}) is None
    local = {"strategy._target_": "vem.strategies.local.Local", "strategy.tolerance": "0.01"}
    assert rule({**local, "training.stop.tolerance": "null"}) is None
    assert rule({**local, "training.stop.tolerance": "0.1"}) == "training.stop.tolerance=0.1"
