"""The tables of the study: what each algorithm reaches, and after how much work."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from study import Run, markdown, over_seeds, shown

from vem.config import build
from vem.models.factor_likelihood import principal_components, scatter

Groups = Mapping[tuple[int | None, str], list[Run]]
NEAR = 0.1  # nats within which a bound counts as there
ALGORITHMS = {
    "exact_em": "exact EM",
    "alternating": "Algorithm 7: whole passes of λ, then of θ",
    "local": "Algorithm 8: λ and θ in every batch",
    "prior": "Algorithm 8, λ from the prior",
    "amortized": "Algorithm 9: an encoder",
}
COSTS = ("epoch", "decoder_evaluations")


@cache
def _truth(items: tuple[tuple[str, Any], ...], latent: int) -> float:
    data = build.make_data(dict(items))
    found = scatter(data.train.x.flatten(1), lambda part: part.double())
    return principal_components(found, latent, floor=0.0).log_marginal


def truth(groups: Groups) -> float:
    """The largest mean log p(x) of the training data that any θ of the tractable model has, nats per datum."""
    run = next(found[0] for (size, _), found in groups.items() if size is None)
    return _truth(tuple(run.config["data"].items()), run.config["latent_dim"])


def cost_to_reach(run: Run, bound: float) -> dict[str, float]:
    """What it had cost when the training ELBO of an epoch first reached ``bound``; NaN where it never did."""
    for row in run.curve("train"):
        if row["elbo"] >= bound:
            return {name: row[name] for name in COSTS}
    return dict.fromkeys(COSTS, float("nan"))


def _row(part: str, name: str, found: list[Run], numbers: Mapping[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"part": part, "algorithm": name, "num_train": found[0].facts["num_train"]}
    row["seeds"] = len(found)
    for quantity, values in numbers.items():
        row[quantity], row[f"{quantity}_se"] = over_seeds(values)
    return row


def _with_error(row: Mapping[str, Any], digits: int, *names: str) -> list[str]:
    return [shown((row[name], row[f"{name}_se"]), digits) for name in names]


def tractable(groups: Groups) -> tuple[list[dict[str, Any]], str]:
    """Where the truth is known: the distance to it, and the work until it is within a tenth of a nat."""
    best = truth(groups)
    rows = [_tractable_row(name, groups[None, name], best) for name in ALGORITHMS if (None, name) in groups]
    lines = [
        [
            ALGORITHMS[row["algorithm"]],
            *_with_error(row, 3, "train_loss", "train_likelihood_loss", "test_elbo"),
            *(_or_never(row[f"{cost}_to_near"], row[f"{cost}_to_near_se"]) for cost in COSTS),
        ]
        for row in rows
    ]
    header = ["algorithm", "train: truth − ELBO", "train: truth − log p(x)", "test ELBO",
              f"epochs to within {NEAR} nats", "decoder evaluations"]  # fmt: skip
    first = f"The largest possible mean log p(x) of the training data is {shown((best, np.nan), 3)} nats.\n\n"
    return rows, first + markdown(header, lines)


def _tractable_row(name: str, found: list[Run], best: float) -> dict[str, Any]:
    costs = [cost_to_reach(run, best - NEAR) for run in found]
    numbers = {
        "train_loss": [best - run.mean("train", "elbo") for run in found],
        "train_likelihood_loss": [best - run.mean("train", "log_marginal", "lower") for run in found],
        "test_elbo": [run.mean("test", "elbo") for run in found],
        "epochs": [run.facts["epochs"] for run in found],
    }
    return _row("tractable", name, found, numbers | {f"{cost}_to_near": [c[cost] for c in costs] for cost in COSTS})


def _or_never(value: float, error: float) -> str:
    return "not by every seed" if np.isnan(value) else shown((value, error), 0)


def deep(groups: Groups) -> tuple[list[dict[str, Any]], str]:
    """Where exact EM is impossible: the bound at the end by training-set size."""
    sizes = sorted({size for size, _ in groups if size is not None})
    rows = [_deep_row(name, groups[size, name]) for size in sizes for name in ALGORITHMS if (size, name) in groups]
    lines = [
        [
            f"{row['num_train']:,}", f"{row['epochs']:,.0f}", ALGORITHMS[row["algorithm"]],
            *_with_error(row, 2, "quarter_elbo", "train_elbo", "test_elbo"),
            f"{row['decoder_evaluations']:,.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    header = ["training data", "visits of each", "algorithm", "running ELBO after a quarter", "train ELBO",
              "test ELBO", "decoder evaluations"]  # fmt: skip
    return rows, markdown(header, lines)


def _deep_row(name: str, found: list[Run]) -> dict[str, Any]:
    return _row("deep", name, found, {
        "train_elbo": [run.mean("train", "elbo") for run in found],
        "test_elbo": [run.mean("test", "elbo") for run in found],
        "quarter_elbo": [_at_share(run, 0.25) for run in found],
        "epochs": [run.facts["epochs"] for run in found],
        "decoder_evaluations": [run.facts["decoder_evaluations"] for run in found],
    })  # fmt: skip


def _at_share(run: Run, share: float) -> float:
    """The training ELBO of the first record at or after this share of the planned epochs."""
    planned = run.config["training"]["epochs"]
    curve = run.curve("train")
    return next((row["elbo"] for row in curve if row["epoch"] >= share * planned), curve[-1]["elbo"])


def both(groups: Groups) -> tuple[list[dict[str, Any]], str]:
    """All rows, and both tables."""
    first, second = tractable(groups), deep(groups)
    return first[0] + second[0], f"## The tractable model\n\n{first[1]}\n## The deep decoder\n\n{second[1]}"
