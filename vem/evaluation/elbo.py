"""The ELBO of the data points of a split, with its errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.contracts import Batch, GenerativeModel, Inference, Posterior, TractableModel
from vem.errors import at_least
from vem.models.modes import evaluating
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO

BATCH = 500  # data for which q is found and scored together


class SplitScores(NamedTuple):
    """The data points of a split that were evaluated, nats, on the host; None where the method has no such number."""

    rows: Tensor  # [N] row numbers in the split
    elbo: Tensor | None = None  # [N]
    reconstruction: Tensor | None = None  # [N]
    kl: Tensor | None = None  # [N]
    mc_variance: Tensor | None = None  # [N] variance of elbo over the draws, of the mean over draws
    log_marginal: Tensor | None = None  # [N] exact, where the model is tractable
    reason: str | None = None  # why there is no ELBO
    prior_elbo: Tensor | None = None  # [N] the ELBO of the prior as q, E_p(z)[log p(x | z)]: the floor for any q
    prior_variance: Tensor | None = None  # [N] variance of prior_elbo over its draws, of their mean


def spread(num: int, total: int) -> Tensor:
    """``num`` row numbers spread evenly over ``total``: files sorted by class give every class its share.

    >>> spread(4, 8)
    tensor([0, 2, 4, 6])
    """
    if num >= total:
        return torch.arange(total)
    return (torch.arange(num, dtype=torch.float64) * total / num).long()


class Inferred(NamedTuple):
    """q of some data of a split."""

    rows: Tensor  # [B] row numbers in the split
    batch: Batch
    posterior: Posterior


def inferred(
    model: GenerativeModel, strategy: Inference, x: Tensor, rows: Tensor, *, training_rows: bool, seed: int, name: str,
    batch_size: int = BATCH, first: int = 0,
) -> Iterator[Inferred]:  # fmt: skip
    """q for ``rows`` of the data x [N, *X] of a split, batch by batch; nothing for a method that has no ELBO.

    ``training_rows``: the strategy sees the row numbers (and answers with the λ of training data, if it has them);
    otherwise the data are held out. The noise depends only on ``seed``, ``name``, the number of the batch (from
    ``first``) and its size: the same call finds the same q, and work that was cut off can go on.
    """
    if strategy.no_elbo is not None:
        return
    for number, index in enumerate(torch.split(rows.to(x.device), batch_size), first):
        batch = Batch(x[index], index if training_rows else None)
        stream = generator(x.device, seed, name, "find", number)
        noise = fill(strategy.noise(len(index), held_out=not training_rows), stream, x.dtype)
        yield Inferred(index, batch, strategy.infer(model, batch, noise))


@torch.no_grad()
def score(
    model: GenerativeModel, strategy: Inference, x: Tensor, rows: Tensor, *, training_rows: bool, draws: int, seed: int,
    name: str, batch_size: int = BATCH,
) -> SplitScores:  # fmt: skip
    """The ELBO, reconstruction and KL of q for the data x [N, *X] (all of a split), at ``rows`` of them.

    q is found as :func:`inferred` says, on one stream of noise, and scored on another.
    """
    at_least(draws, 1, "draws")
    exact = None
    with evaluating(model):
        found = inferred(
            model, strategy, x, rows, training_rows=training_rows, seed=seed, name=name, batch_size=batch_size
        )
        parts = [scored(model, q.batch.x, q.posterior, draws, seed, name, n) for n, q in enumerate(found)]
        if isinstance(model, TractableModel):
            batches = torch.split(rows.to(x.device), batch_size)
            exact = torch.cat([model.log_marginal(x[index]).double().cpu() for index in batches])
    return joined(rows, parts, exact, strategy.no_elbo)


def scored(
    model: GenerativeModel, x: Tensor, posterior: Posterior, draws: int, seed: int, name: str, number: int,
    prior_draws: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """ELBO, reconstruction, KL and the Monte Carlo variance of the ELBO for one batch, each [B], on the host.

    With ``prior_draws`` also the ELBO of the prior as q, where the model can draw from it.
    """
    part = _draw_scores(model, x, posterior, draws, generator(x.device, seed, name, "score", number))
    if prior_draws and model.latent != "index" and getattr(model, "can_sample", True):
        part |= prior_scores(model, x, prior_draws, generator(x.device, seed, name, "prior as q", number))
    return {key: value.double().cpu() for key, value in part.items()}


@torch.no_grad()
def prior_scores(model: GenerativeModel, x: Tensor, draws: int, stream: torch.Generator) -> dict[str, Tensor]:
    """``prior_elbo`` [B] = E_p(z)[log p(x | z)], the ELBO of a q that does not look at x, and ``prior_variance``.

    Its KL is 0. Draws are independent across data; the variance is that of their mean, NaN for one draw.
    """
    values = [model.log_likelihood(x, draws_of_prior(model, x, 1, stream))[0].double() for _ in range(draws)]
    mean, variance = _mean_and_variance(sum(values), sum(value.square() for value in values), draws)
    return {"prior_elbo": mean, "prior_variance": variance}


def _mean_and_variance(total: Any, square: Any, draws: int) -> tuple[Tensor, Tensor]:
    """Mean [B] of some draws from their sum and the sum of their squares, and its variance; NaN for one draw."""
    mean: Tensor = total / draws
    if draws == 1:
        return mean, torch.full_like(mean, torch.nan)
    return mean, (square / draws - mean.square()).clamp_min(0) / (draws - 1)


def draws_of_prior(model: GenerativeModel, x: Tensor, num: int, stream: torch.Generator) -> Tensor:
    """``num`` draws of the prior for each of the data x [B, *X], in their type: [num, B, H]."""
    if model.prior_kind == "standard_normal":
        shape = (num, len(x), model.latent_size)
        return torch.randn(shape, generator=stream, device=stream.device, dtype=x.dtype)
    return model.sample(fill(model.sample_noise(num * len(x)), stream, x.dtype))[0].reshape(num, len(x), -1)


def joined(rows: Tensor, parts: list[dict[str, Tensor]], exact: Tensor | None, reason: str | None) -> SplitScores:
    """The batches of a split as one."""
    columns = {key: torch.cat([part[key] for part in parts]) for key in (parts[0] if parts else ())}
    return SplitScores(rows.cpu(), **columns, log_marginal=exact, reason=reason)


def merged(one: SplitScores, other: SplitScores) -> SplitScores:
    """The scores of two disjoint sets of rows of a split, in the order of the rows; what one lacks is left out."""
    order = torch.cat([one.rows, other.rows]).argsort()

    def both(name: str) -> Tensor | None:
        parts = getattr(one, name), getattr(other, name)
        return None if any(part is None for part in parts) else torch.cat(parts)[order]

    columns = {name: both(name) for name in SplitScores._fields if name != "reason"}
    return SplitScores(**columns, reason=one.reason)  # type: ignore[arg-type]  # rows are always there


def _draw_scores(model: Any, x: Tensor, posterior: Any, draws: int, stream: torch.Generator) -> dict[str, Tensor]:
    """Scores averaged over single draws, with the variance of that average."""
    # Sampled: near the posterior, where training ends, less noisy than the closed form; at it without noise.
    objective, spec = ELBO(1, "sampled"), posterior.noise(1)
    if spec is None:  # q enumerates: exact in one go
        bound = objective(model, x, posterior, None)
        return {"elbo": bound.value, **bound.terms, "mc_variance": torch.zeros_like(bound.value)}
    totals = torch.zeros(4, len(x), device=x.device, dtype=torch.float64)
    for _ in range(draws):
        # One draw at a time: the memory does not grow with the number of draws.
        bound = objective(model, x, posterior, fill({"z": spec}, stream, x.dtype)["z"])
        value, terms = bound.value.double(), bound.terms
        totals += torch.stack([terms["reconstruction"].double(), terms["kl"].double(), value, value.square()])
    reconstruction, kl = totals[:2] / draws
    elbo, variance = _mean_and_variance(totals[2], totals[3], draws)
    return {"elbo": elbo, "reconstruction": reconstruction, "kl": kl, "mc_variance": variance}
