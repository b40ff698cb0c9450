"""The ELBO of a split with its errors, datum by datum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.contracts import Batch, GenerativeModel, Strategy, TractableModel
from vem.errors import at_least
from vem.noise import fill, generator
from vem.numerics import mean_and_se
from vem.objectives.elbo import ELBO
from vem.records import number

ONE_DATUM = "a mean over one datum, or one that is not finite, has no known error"


class SplitScores(NamedTuple):
    """One row per evaluated datum, nats, on the host; None where the method has no such number."""

    rows: Tensor  # [N] row numbers in the split
    elbo: Tensor | None  # [N]
    reconstruction: Tensor | None  # [N]
    kl: Tensor | None  # [N]
    mc_variance: Tensor | None  # [N] variance of elbo over the draws, of the mean over draws
    log_marginal: Tensor | None  # [N] exact, where the model is tractable
    reason: str | None  # why there is no ELBO


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode: no dropout, no moving batch statistics; the earlier mode comes back."""
    was_training = getattr(model, "training", False)
    if hasattr(model, "eval"):
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def spread(num: int, total: int) -> Tensor:
    """``num`` row numbers spread evenly over ``total``: files sorted by class give every class its share.

    >>> spread(4, 8)
    tensor([0, 2, 4, 6])
    """
    if num >= total:
        return torch.arange(total)
    return (torch.arange(num, dtype=torch.float64) * total / num).long()


@torch.no_grad()
def score(
    model: GenerativeModel,
    strategy: Strategy,
    x: Tensor,
    rows: Tensor,
    *,
    training_rows: bool,
    draws: int,
    seed: int,
    name: str,
    batch_size: int = 500,
) -> SplitScores:
    """The ELBO, reconstruction and KL of q for the data x [N, *X] (all of a split), at ``rows`` of them.

    ``training_rows``: the strategy sees the row numbers (and answers with stored rows, if it has them);
    otherwise the data are held out. The noise depends only on ``seed``, ``name`` and the batch, so that the
    same call gives the same numbers; q is found on one stream and scored on another.
    """
    at_least(draws, 1, "evaluation.draws")
    found, scored = generator(x.device, seed, name, "find"), generator(x.device, seed, name, "score")
    # Sampled: near the posterior, where training ends, less noisy than the closed form; at it without noise.
    objective = ELBO(draws, "sampled")
    parts: list[dict[str, Tensor]] = []
    with evaluating(model):
        for index in rows.to(x.device).split(batch_size):
            batch = Batch(x[index], index if training_rows else None)
            part: dict[str, Tensor] = {}
            if strategy.no_elbo is None:
                noise = fill(strategy.noise(len(index), held_out=not training_rows), found, x.dtype)
                posterior = strategy.infer(model, batch, noise)
                part = _draw_scores(model, objective, batch.x, posterior, scored)
            if isinstance(model, TractableModel):
                part["log_marginal"] = model.log_marginal(batch.x)
            parts.append({k: v.double().cpu() for k, v in part.items()})

    def joined(key: str) -> Tensor | None:
        return torch.cat([p[key] for p in parts]) if parts and key in parts[0] else None

    return SplitScores(
        rows.cpu(), joined("elbo"), joined("reconstruction"), joined("kl"), joined("mc_variance"),
        joined("log_marginal"), strategy.no_elbo,
    )  # fmt: skip


def _draw_scores(model: Any, objective: ELBO, x: Tensor, posterior: Any, stream: torch.Generator) -> dict[str, Tensor]:
    """Scores averaged over single draws, with the variance of that average."""
    spec = posterior.noise(1)
    if spec is None:  # q enumerates: exact in one go
        bound = objective(model, x, posterior, None)
        return {"elbo": bound.value, **bound.terms, "mc_variance": torch.zeros_like(bound.value)}
    totals = torch.zeros(4, len(x), device=x.device, dtype=torch.float64)
    for _ in range(objective.num_draws):
        # One draw at a time: the memory does not grow with the number of draws.
        bound = ELBO(1, objective.kl)(model, x, posterior, fill({"z": spec}, stream, x.dtype)["z"])
        value = bound.value.double()
        totals += torch.stack(
            [value, bound.terms["reconstruction"].double(), bound.terms["kl"].double(), value.square()]
        )
    m = objective.num_draws
    elbo, reconstruction, kl, square = totals / m
    variance = (square - elbo.square()).clamp_min(0) / (m - 1) if m > 1 else torch.full_like(elbo, torch.nan)
    return {"elbo": elbo, "reconstruction": reconstruction, "kl": kl, "mc_variance": variance}


def summary(scores: SplitScores) -> dict[str, Any]:
    """The numbers of one split as they stand in ``evaluation.json``.

    ``se`` is over data; ``mc_se`` is over the draws of q, None with a reason if one draw was made.
    """
    out: dict[str, Any] = {"num_data": len(scores.rows)}
    if scores.elbo is None:
        out["elbo"] = {"value": None, "reason": scores.reason}
    else:
        assert scores.reconstruction is not None and scores.kl is not None and scores.mc_variance is not None
        mean, se = mean_and_se(scores.elbo)
        mc_se = float(scores.mc_variance.sum().sqrt()) / len(scores.elbo)
        spread_reason = "one draw has no spread: set evaluation.draws > 1"
        out["elbo"] = {"mean": number(mean), "se": number(se, ONE_DATUM), "mc_se": number(mc_se, spread_reason)}
        for key in ("reconstruction", "kl"):
            mean, se = mean_and_se(getattr(scores, key))
            out[key] = {"mean": number(mean), "se": number(se, ONE_DATUM)}
    out["log_marginal"] = None
    if scores.log_marginal is not None:
        mean, se = mean_and_se(scores.log_marginal)
        exact = {"mean": number(mean), "se": number(se, ONE_DATUM), "mc_se": 0.0}
        out["log_marginal"] = {"lower": exact, "upper": exact, "kind": "exact"}
    return out
