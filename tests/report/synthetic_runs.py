"""Run directories written by hand, to the schema of vem.storage.records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vem.report.read import findings
from vem.report.summary import terminal, write_tables
from vem.storage.records import write_csv


def report_text(root: Path, **options: Any) -> str:
    """What a report of ``root`` prints; its tables are written into it, and nothing is drawn."""
    found = findings([root], **options)
    write_tables(found, root)
    return "\n".join(terminal(found, root))


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
        "status": "done",
        "error": None,
        "seed": seed,
        "strategy": strategy,
        "model": "mixture" if mixture else "deep",
        "family": None if mixture else "diagonal_gaussian",
        "data": "digits",
        "binarize": "threshold",
        "likelihood": "bernoulli",
        "latent_dim": None if mixture else 2,
        "num_parameters": 10,
        "epochs": epochs,
        "converged": False,
        "training_seconds": 10.0 + seed,
        "seconds": 12.0,
        "decoder_evaluations": 1000,
        "decoder_gradients": 900,
        "notes": [],
        "config_hash": f"{directory}",
        **facts,
    }
    (directory / "run.json").write_text(json.dumps(run))
    content = {
        "seed": seed,
        "device": "cpu",
        "strategy": {"_target_": f"vem.{strategy}"},
        "data": {"seed": 0},
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(content | (config or {})))
    level = elbo if isinstance(elbo, float) else -100.0
    rows = [
        {
            "epoch": e,
            "step": 10 * e,
            "seconds": 1.5 * e,
            "split": split,
            "elbo": level - 50 * np.exp(-e) - gap,
        }
        for e in range(1, epochs + 1)
        for split, gap in (("train", 0.0), ("valid", 1.0))
    ]
    write_csv(directory / "metrics.csv", rows)
    if evaluated:
        parts = {}
        for split, gain in (("train", 1.0), ("valid", 0.0), ("test", 0.0)):
            value = estimate(elbo + gain) if isinstance(elbo, float) else elbo
            exact = {"lower": value, "upper": value, "kind": "exact"} if mixture else None
            parts[split] = {
                "num_data": num_data,
                "elbo": value,
                "reconstruction": estimate(-90.0),
                "kl": estimate(10.0),
                "log_marginal": exact,
            }
        (directory / "evaluation.json").write_text(json.dumps(parts))
    if pictures is not None:
        np.savez(directory / "pictures.npz", **pictures)
    return directory


def write_scored(
    directory: Path, scores: Mapping[str, np.ndarray], rows: np.ndarray | None = None, **fields: Any
) -> Path:
    """A run with one ELBO for each datum: split → scores; ``rows`` are the numbers of the data, 0, 1, … by default."""
    run = write_run(directory, elbo=float(scores["test"].mean()), **fields)
    content = json.loads((run / "evaluation.json").read_text())
    table = []
    for split, elbo in scores.items():
        numbers = np.arange(len(elbo)) if rows is None else rows
        se = elbo.std(ddof=1) / np.sqrt(len(elbo)) if len(elbo) > 1 else None
        content[split] |= {"num_data": len(elbo), "elbo": {"mean": float(elbo.mean()), "se": se, "mc_se": 0.01}}
        table += [{"split": split, "row": int(n), "elbo": float(v)} for n, v in zip(numbers, elbo, strict=True)]
    for split in {"train", "valid", "test"} - set(scores):
        content[split] = {"num_data": 0}
    (run / "evaluation.json").write_text(json.dumps(content))
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
