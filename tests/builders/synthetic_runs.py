"""Run directories written by hand, to the schema of vem.storage.records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from vem.report.read import findings
from vem.report.summary import terminal, write_tables
from vem.storage.records import write_csv


def report_text(root: Path, **options: Any) -> str:
    """What a report of ``root`` prints; its tables are written into it, and nothing is drawn."""
    found = findings([root], **options)
    write_tables(found, root)
    return "\n".join(terminal(found, root))


@contextmanager
def editing(run: Path) -> Iterator[dict[str, Any]]:
    """The content of a run's evaluation.json, which is written back."""
    path = run / "evaluation.json"
    content = json.loads(path.read_text())
    yield content
    path.write_text(json.dumps(content))


def estimate(mean: float, se: float = 0.3) -> dict[str, float]:
    return {"mean": mean, "se": se, "mc_se": 0.01}


def write_run(
    directory: Path,
    strategy: str = "local",
    seed: int = 0,
    elbo: float | dict[str, Any] = -100.0,
    epochs: int = 6,
    evaluated: bool = True,
    config: dict[str, Any] | None = None,
    pictures: dict[str, np.ndarray] | None = None,
    num_data: int = 50,
    **facts: Any,
) -> Path:
    """One run directory; ``elbo`` is the test ELBO, train lies 1 above."""
    directory.mkdir(parents=True)
    mixture = strategy == "gmm"
    run = {
        "status": "done", "error": None, "seed": seed, "strategy": strategy,
        "model": "mixture" if mixture else "deep", "family": None if mixture else "diagonal_gaussian",
        "data": "digits", "binarize": "threshold", "likelihood": "bernoulli", "latent_dim": None if mixture else 2,
        "num_parameters": 10, "epochs": epochs, "converged": False, "training_seconds": 10.0 + seed, "seconds": 12.0,
        "decoder_evaluations": 1000, "decoder_gradients": 900, "notes": [], "config_hash": f"{directory}", **facts,
    }  # fmt: skip
    (directory / "run.json").write_text(json.dumps(run))
    content = {"seed": seed, "device": "cpu", "strategy": {"_target_": f"vem.{strategy}"}, "data": {"seed": 0}}
    (directory / "config.yaml").write_text(yaml.safe_dump(content | (config or {})))
    level = elbo if isinstance(elbo, float) else -100.0
    rows = [
        {"epoch": e, "step": 10 * e, "seconds": 1.5 * e, "split": split, "elbo": level - 50 * np.exp(-e) - gap}
        for e in range(1, epochs + 1)
        for split, gap in (("train", 0.0), ("valid", 1.0))
    ]
    write_csv(directory / "metrics.csv", rows)
    if evaluated:
        parts = {}
        for split, gain in (("train", 1.0), ("valid", 0.0), ("test", 0.0)):
            value = estimate(elbo + gain) if isinstance(elbo, float) else elbo
            exact = {"lower": value, "upper": value, "kind": "exact"} if mixture else None
            parts[split] = {"num_data": num_data, "elbo": value, "reconstruction": estimate(-90.0),
                            "kl": estimate(10.0), "log_marginal": exact}  # fmt: skip
        (directory / "evaluation.json").write_text(json.dumps(parts))
    if pictures is not None:
        np.savez(directory / "pictures.npz", **pictures)
    return directory


def write_scored(
    directory: Path, scores: Mapping[str, np.ndarray], rows: np.ndarray | None = None, **fields: Any
) -> Path:
    """A run with one ELBO for each datum: split → scores; ``rows`` are the numbers of the data, 0, 1, … by default."""
    run = write_run(directory, elbo=float(scores["test"].mean()), **fields)
    with editing(run) as content:
        table = []
        for split, elbo in scores.items():
            numbers = np.arange(len(elbo)) if rows is None else rows
            se = elbo.std(ddof=1) / np.sqrt(len(elbo)) if len(elbo) > 1 else None
            content[split] |= {"num_data": len(elbo), "elbo": {"mean": float(elbo.mean()), "se": se, "mc_se": 0.01}}
            table += [{"split": split, "row": int(n), "elbo": float(v)} for n, v in zip(numbers, elbo, strict=True)]
        for split in {"train", "valid", "test"} - set(scores):
            content[split] = {"num_data": 0}
    write_csv(run / "per_datum.csv", table)
    return run


def image_pictures(latent: int = 2, labels: bool = True, event: tuple[int, ...] = (8, 8)) -> dict[str, np.ndarray]:
    """Arrays of a model with a continuous z."""
    rng = np.random.default_rng(0)
    arrays = {
        "latent_means": rng.normal(size=(60, latent)),
        "chosen_x": rng.random((12, *event)).round(),
        "reconstructions": rng.random((12, *event)),
        "samples": rng.random((25, *event)),
    }
    if labels:
        arrays["labels"] = rng.integers(4, size=60)
    if latent == 2:
        arrays |= {"decoded_grid": rng.random((5, 5, *event)), "grid_axis": np.linspace(-2, 2, 5)}
    return arrays


def mixture_pictures(event: tuple[int, ...] = (8, 8)) -> dict[str, np.ndarray]:
    """Arrays of a mixture."""
    rng = np.random.default_rng(1)
    arrays = {
        "component_means": rng.random((6, *event)),
        "component_weights": np.array([1, 2, 3, 4, 5, 6]) / 21,
    }
    x = {"chosen_x": rng.random((12, *event)).round(), "reconstructions": rng.random((12, *event))}
    z = {"latent_means": rng.dirichlet(np.ones(6), size=40), "labels": rng.integers(4, size=40)}
    return arrays | x | z | {"samples": rng.random((25, *event))}


# --- gaps

BAD = {"name": "best_above_q", "passed": False, "detail": "mean L[q*] − L[q] = -1 nats"}
GOOD = {"name": "converged", "passed": True, "detail": "0.0%"}


def gap(mean: float, half: float = 0.2, exact: bool = False) -> dict:
    ends = [mean - half, mean + half]
    return {**estimate(mean, half / 2), "ci95": ends, "identified": [mean, mean if exact else None]}


def write_gaps(directory, strategy="amortized", approximation=1.5, middle=3.5, exact=False, checks=(GOOD,), **fields):
    """A run whose evaluation.json and per_datum.csv hold gaps; test lies 1 nat above train in the middle one."""
    run = write_run(directory, strategy, **fields)
    name = "optimization" if strategy == "local" else "amortization"
    with editing(run) as content:
        rng = np.random.default_rng(0)
        rows = []
        for split, more in (("train", 0.0), ("valid", 1.0), ("test", 1.0)):
            low = estimate(-88.0)
            content[split] |= {
                "log_marginal": {"lower": low, "upper": low if exact else None,
                                 "kind": "exact" if exact else "ais from q*"},
                "gaps": {"approximation": gap(approximation, exact=exact), name: gap(middle + more, exact=True),
                         "inference": gap(approximation + middle + more, exact=exact)},
                "checks": list(checks) if split == "test" else [GOOD],
                "diagnostics": {"active_units": 21},
            }  # fmt: skip
            one, other = rng.exponential(size=(30, 2)).T
            best = -approximation * one
            elbo = best - (middle + more) * other
            lift = content[split]["elbo"].get("mean", -94.0) - elbo.mean()  # the rows have the mean of evaluation.json
            content[split]["num_data"] = len(elbo)
            rows += [
                {"split": split, "row": row, "elbo": elbo[row] + lift, "best_elbo": best[row] + lift,
                 "log_marginal_lower": lift} | ({"log_marginal_upper": lift} if exact else {})
                for row in range(len(elbo))
            ]  # fmt: skip
    write_csv(run / "per_datum.csv", rows)
    return run


def doctored(run, change):
    with editing(run) as content:
        change(content["test"])
    return run


def add_families(run, gain=0.4, generalization=0.7):
    """A second family and the difference between splits."""
    with editing(run) as content:
        content["test"]["families"] = {
            "diagonal_gaussian": {"own": True, "best_elbo": estimate(-89.5), "approximation": gap(1.5),
                                  "converged": 1.0},
            "full_gaussian": {"own": False, "best_elbo": estimate(-89.5 + gain), "approximation": gap(1.5 - gain),
                              "converged": 0.975, "gain_over_own": gap(gain, exact=True)},
        }  # fmt: skip
        found = {"valid": {"value": None, "reason": "not sought"}, "test": gap(generalization, exact=True)}
        content["across_splits"] = {split: {"amortization_generalization": entry} for split, entry in found.items()}


def add_bounds(run, importance_ess=400.0):
    """Two lower bounds beside the one that the gaps are taken from; the naive one fails, as it is meant to."""
    with editing(run) as content:
        content["test"]["others"] = {
            "importance": {"lower": estimate(-88.5), "upper": None, "kind": "importance, K=5000",
                           "ess": {"median": importance_ess, "min": 3.0}, "trustworthy": importance_ess > 10},
            "prior": {"lower": estimate(-140.0), "upper": None, "kind": "prior, K=5000",
                      "ess": {"median": 1.2, "min": 1.0}, "trustworthy": False},
        }  # fmt: skip


QUICK = {"num_data": 10000, "draws": 10, "best": None, "annealing": None}


def say(run, settings, **parts):
    """Write down how a run was measured; its config says what was asked for."""
    with editing(run) as content:
        content["settings"] = settings
        for split, part in parts.items():
            content[split] |= part
    return run


def said(root, kind=None, **options):
    (table,) = findings([root], **options).tables
    return [s.text.replace("−", "-") for s in table.answer if kind in (None, s.kind)]


def write_seeds(root, strategy, elbos, **fields):
    for seed, elbo in enumerate(elbos):
        write_run(root / f"{strategy}{seed}_{fields.get('latent_dim', '')}", strategy, seed=seed, elbo=elbo, **fields)


# --- numbers of each datum

NUM = 60  # data of each split


def _entry(mean, se, ends):
    return {"mean": float(mean), "se": float(se), "mc_se": 0.0, "ci95": list(ends), "identified": [float(mean)] * 2}


def paired_entry(values):
    mean, se = values.mean(), stats.sem(values)
    return _entry(mean, se, stats.t.interval(0.95, len(values) - 1, mean, se))


def between(one, other):
    ends = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return _entry(one.mean() - other.mean(), np.hypot(stats.sem(one), stats.sem(other)), ends)


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
