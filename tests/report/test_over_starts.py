"""Exact EM over seeds that agree, and which rule of convergence was set; what is said of others: the golden reports."""

from __future__ import annotations

from synthetic_runs import said, write_run

from vem.report.starts import rule

EXACT = {"_target_": "vem.strategies.exact_em.ExactEM", "tolerance": 1e-6}
PPCA = {"_target_": "vem.models.linear_gaussian.LinearGaussian", "noise": "isotropic"}


def test_seeds_of_ppca_that_agree(tmp_path):
    for seed, elbo in enumerate((-12.0, -12.004, -12.0)):
        config = {"strategy": EXACT, "model": PPCA, "training": {"epochs": 6, "stop": {"tolerance": None}}}
        write_run(tmp_path / f"{seed}", "exact_em", seed=seed, elbo=elbo, config=config, converged=True)
    text = " ".join(said(tmp_path))
    assert not any(told in text for told in ("one optimum", "over starts", "before it had converged"))


def test_which_rule_was_set():
    exact = {"strategy._target_": EXACT["_target_"], "strategy.tolerance": "1e-06"}
    assert rule(exact) == "strategy.tolerance=1e-06"
    assert rule({**exact, "strategy.tolerance": "0.0"}) is None
    assert rule({**exact, "data.binarize": "stochastic"}) is None
    local = {"strategy._target_": "vem.strategies.local.Local", "strategy.tolerance": "0.01"}
    assert rule({**local, "training.stop.tolerance": "null"}) is None
    assert rule({**local, "training.stop.tolerance": "0.1"}) == "training.stop.tolerance=0.1"
