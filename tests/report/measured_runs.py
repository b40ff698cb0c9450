"""Runs of encoders whose log p(x) is exact, from numbers of each datum."""

from __future__ import annotations

import json

import numpy as np
from scipy import stats
from synthetic_runs import write_run

from vem.storage.records import write_csv

NUM = 60  # data of each split


def paired_entry(values):
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    mean = float(values.mean())
    return {"mean": mean, "se": float(stats.sem(values)), "mc_se": 0.0, "ci95": [low, high], "identified": [mean, mean]}


def between(one, other):
    test = stats.ttest_ind(one, other, equal_var=False)
    low, high = test.confidence_interval(0.95)
    mean, se = float(one.mean() - other.mean()), float(np.hypot(stats.sem(one), stats.sem(other)))
    return {"mean": mean, "se": se, "mc_se": 0.0, "ci95": [low, high], "identified": [mean, mean]}


def write_data(directory, amortization, approximation, log_marginal, strategy="amortized", **fields):
    """A run of an encoder whose log p(x) is exact, from numbers of each datum by split."""
    run = write_run(directory, strategy, **fields)
    content, rows, kept = {"valid": {"num_data": 0}}, [], {}
    for split in ("train", "test"):
        best = log_marginal[split] - approximation[split]
        elbo, kept[split] = best - amortization[split], best
        bound = paired_entry(log_marginal[split])
        content[split] = {
            "num_data": len(elbo),
            "elbo": paired_entry(elbo),
            "log_marginal": {"lower": bound, "upper": bound, "kind": "exact"},
            "gaps": {
                "approximation": paired_entry(approximation[split]),
                "amortization": paired_entry(amortization[split]),
                "inference": paired_entry(approximation[split] + amortization[split]),
            },
            "checks": [],
        }
        rows += [
            {"split": split, "row": i, "elbo": e, "best_elbo": b, "log_marginal_lower": m}
            for i, (e, b, m) in enumerate(zip(elbo, best, log_marginal[split], strict=True))
        ]
    content["across_splits"] = {
        "test": {
            "amortization_generalization": between(amortization["test"], amortization["train"]),
            "model_generalization": {
                "best_elbo": between(kept["train"], kept["test"]),
                "log_marginal": between(log_marginal["train"], log_marginal["test"]),
            },
        }
    }
    (run / "evaluation.json").write_text(json.dumps(content))
    write_csv(run / "per_datum.csv", rows)
    return run


def on_both(make):
    return {"train": make(), "test": make()}


def spread(rng, mean, se):
    """Numbers with this mean and this standard error of the mean."""
    return mean + se * np.sqrt(NUM) * stats.zscore(rng.normal(size=NUM), ddof=1)
