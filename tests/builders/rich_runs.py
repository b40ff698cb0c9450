"""A sweep written by hand that has everything a report can show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from synthetic_runs import editing, estimate, gap, image_pictures, mixture_pictures, write_run

from vem.storage.records import write_csv

NUM_DATA = 40
AXES = np.linspace(-3, 3, 41)


def gaussian(axes: np.ndarray, mean: Sequence[float], scale: float) -> np.ndarray:
    z1, z2 = np.meshgrid(*axes)
    return np.exp(-0.5 * (((z1 - mean[0]) / scale) ** 2 + ((z2 - mean[1]) / scale) ** 2)) / (2 * np.pi * scale**2)


def posterior_arrays(num: int = 3, names: Sequence[str] = ("amortized", "diagonal_gaussian")) -> dict[str, Any]:
    axes = np.stack([np.stack([AXES, AXES])] * num)
    return {
        "posterior_x": np.random.default_rng(0).random((num, 8, 8)),
        "posterior_rows": np.arange(num) * 7,
        "posterior_axes": axes,
        "posterior_truth": np.stack([gaussian(a, (1, -0.5), 0.5) for a in axes]),
        "posterior_q": np.stack(
            [np.stack([gaussian(a, (0.6, -0.2 * q), 0.4) for a in axes]) for q in range(len(names))]
        ),
        "posterior_names": np.array(names),
        "posterior_gaps": np.arange(len(names) * num).reshape(len(names), num) / 7,
    }


def rich_run(
    directory: Path, strategy: str, latent: int, seed: int, overrides: Sequence[str] = (), **facts: Any
) -> Path:
    """A finished run with gaps, rows for each datum, all pictures and counted decoder evaluations."""
    rng = np.random.default_rng(1000 * latent + 10 * seed + len(strategy))
    mixture = strategy == "gmm"
    level = -110.0 if mixture else -100.0 + 4 * np.log(latent) - (0.0 if strategy == "local" else 1.5)
    level += 0.3 * float(rng.normal())
    pictures = mixture_pictures() if mixture else image_pictures(latent=latent)
    if latent == 2 and not mixture:
        pictures |= posterior_arrays()
    config = {} if mixture else {"latent_dim": latent, "model": {"latent_dim": latent}}
    settings = {"latent_dim": None if mixture else latent, **facts}
    run = write_run(
        directory, strategy, seed, elbo=float(level), epochs=30, config=config, pictures=pictures, **settings
    )
    (run / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
    _curves(run, level, strategy, rng)
    rows = _exact(run, level, rng) if mixture else _gaps(run, level, strategy, rng)
    _worst(run, pictures, rows, rng)
    return run


def _curves(run: Path, level: float, strategy: str, rng: np.random.Generator) -> None:
    pace = {"local": 0.5, "amortized": 0.15}.get(strategy, 0.02)
    rows = []
    for e in range(1, 31):
        for split, below in (("train", 0.0), ("valid", 2.0)):
            elbo = level - 60 * np.exp(-e / 4) - below + 0.1 * rng.normal()
            evaluations = 0 if strategy == "gmm" else 1500 * e * (5 if strategy == "local" else 1)
            rows.append({"epoch": e, "step": 15 * e, "seconds": pace * e, "decoder_evaluations": evaluations,
                         "split": split, "elbo": elbo})  # fmt: skip
    write_csv(run / "metrics.csv", rows)


def _gaps(run: Path, level: float, strategy: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Gaps of training and test data, in evaluation.json the means of what per_datum.csv holds."""
    with editing(run) as content:
        name, middle = ("optimization", 0.4) if strategy == "local" else ("amortization", 2.5)
        scale, rows = 1.0 + 0.2 * float(rng.normal()), []
        content["valid"] = {"num_data": 0}
        for split, above, more in (("train", 1.0, 0.0), ("test", 0.0, 0.5)):
            approximation, other = rng.exponential((scale, middle + more), size=(NUM_DATA, 2)).T
            elbo = _spread(level + above, rng)
            best = elbo + other
            lower = best + approximation
            content[split] |= {
                "num_data": NUM_DATA,
                "elbo": estimate(level + above),
                "log_marginal": {"lower": estimate(lower.mean()), "upper": None, "kind": "ais from q*"},
                "gaps": {"approximation": gap(approximation.mean()), name: gap(other.mean(), exact=True),
                         "inference": gap((lower - elbo).mean())},
                "checks": [{"name": "converged", "passed": True, "detail": ""}],
                "diagnostics": {"active_units": 2},
            }  # fmt: skip
            rows += _rows(split, elbo=elbo, best_elbo=best, log_marginal_lower=lower)
    write_csv(run / "per_datum.csv", rows)
    return rows


def _exact(run: Path, level: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Of a model whose q is the posterior: log p(x) is L[q], but for rounding."""
    with editing(run) as content:
        content["valid"], rows = {"num_data": 0}, []
        for split, above in (("train", 1.0), ("test", 0.0)):
            content[split]["num_data"] = NUM_DATA
            elbo = _spread(level + above, rng)
            marginal = elbo + 1e-6 * rng.random(NUM_DATA)
            rows += _rows(split, elbo=elbo, log_marginal_lower=marginal, log_marginal_upper=marginal)
    write_csv(run / "per_datum.csv", rows)
    return rows


def _spread(mean: float, rng: np.random.Generator) -> np.ndarray:
    """Numbers of single data with this mean."""
    values = 5 * rng.normal(size=NUM_DATA)
    return mean + values - values.mean()


def _rows(split: str, **numbers: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"split": split, "row": 3 * row, "label": row % 10, **{name: float(v[row]) for name, v in numbers.items()}}
        for row in range(NUM_DATA)
    ]


def _worst(run: Path, pictures: dict[str, Any], rows: list[dict[str, Any]], rng: np.random.Generator) -> None:
    test = [row for row in rows if row["split"] == "test"]
    exact = "log_marginal_upper" in test[0]
    worst = sorted(test, key=lambda row: row["elbo"] - (0.0 if exact else row["log_marginal_lower"]))[:8]
    arrays = {
        "worst_x": rng.random((8, 8, 8)).round(),
        "worst_reconstruction": rng.random((8, 8, 8)),
        "worst_split": np.array(["test"] * 8),
        "worst_row": np.array([row["row"] for row in worst]),
    }
    np.savez(run / "pictures.npz", **pictures, **arrays)


def rich_sweep(
    root: Path,
    strategies: Sequence[str] = ("local", "amortized", "gmm"),
    latents: Sequence[int] = (2, 10),
    seeds: int = 2,
) -> Path:
    """strategies × latents × seeds; a mixture, which has no latent_dim, runs for its seeds alone."""
    for strategy in strategies:
        for latent in latents[:1] if strategy == "gmm" else latents:
            for seed in range(seeds):
                typed = [f"strategy={strategy}", f"latent_dim={latent}", f"seed={seed}"]
                rich_run(root / ",".join(typed), strategy, latent, seed, typed)
    return root


def fail(run: Path, error: str) -> Path:
    """Make a run one that failed."""
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "status": "failed", "error": error}))
    (run / "evaluation.json").unlink()
    return run
