"""ELBO surgery: the KL term as mutual information and marginal KL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, PathPosterior, Posterior
from vem.evaluation.elbo import Inferred
from vem.families.gaussian import LOG_2PI, DiagonalGaussianPosterior, FullGaussianPosterior
from vem.noise import fill
from vem.numerics import mean_and_se
from vem.storage.records import number

NEAR_CAP = 0.5  # nats below log N at which the information found is the cap's rather than the code's
ONE_POINT = "a mean over one point, or one that is not finite, has no known error"
BLOCK = 2**22  # numbers in one block of densities, 32 MB in float64


class Points(NamedTuple):
    """M points z_m ~ q(z | x_n), n = owner_m; float64 where q is a Gaussian of this package."""

    owner: Tensor  # [M] place of the data point among the N
    z: Tensor  # [M, H]
    log_q: Tensor  # [M] log q(z_m | x_n) of its own data point
    log_prior: Tensor  # [M]
    reconstruction: Tensor  # [M] log p(x_n | z_m)


def surgery(
    model: GenerativeModel, x: Tensor, batches: Sequence[Inferred], num: int, stream: torch.Generator
) -> dict[str, Any]:
    """ELBO surgery: L = E[log p(x | z)] − I_q(n; z) − KL(q(z) ‖ p(z)), with q(z) = (1/N) Σ_n q(z | x_n) of all N data.

    I_q(n; z) = E[log q(z | x_n) − log q(z)] and KL(q(z) ‖ p(z)) = E[log q(z) − log p(z)], over M points
    z_m ~ q(z | x_n) whose n are spread over the data. The mixture runs over all N components, so that each estimate
    is unbiased for these N data; over a minibatch of B it would find log B nats at most.

    I ≤ log N (``cap``) whatever q is. ``near_cap`` says that less than 0.5 nats (or two errors) are missing: then the
    data are told apart, and more of them would show more information. ``se`` is over the points; since their n are
    spread evenly, it is a little too large rather than too small.

    Source: Hoffman and Johnson, 2016.
    """
    unknown = next((b.posterior for b in batches if not isinstance(b.posterior, PathPosterior)), None)
    if unknown is not None:
        return {"value": None, "reason": f"{type(unknown).__name__} has no frozen_log_q: log q(z | x) at another z"}
    p = _draw_points(model, x, batches, num, stream)
    log_aggregate = aggregate_log_q([b.posterior for b in batches], p.z, p.owner, p.log_q)
    return surgery_terms(
        sum(len(b.rows) for b in batches),
        num,
        reconstruction=mean_and_se(p.reconstruction),
        mutual_information=mean_and_se(p.log_q - log_aggregate),
        marginal_kl=mean_and_se(log_aggregate - p.log_prior),
        elbo=mean_and_se(p.reconstruction + p.log_prior - p.log_q),
    )


def surgery_terms(num_data: int, num_points: int | None, **terms: tuple[float, float]) -> dict[str, Any]:
    """The surgery as written to ``evaluation.json``, from (mean, se) of each term."""
    cap = math.log(num_data)
    information, error = terms["mutual_information"]
    known = math.isfinite(information) and num_data > 1  # one data point has nothing to tell it from
    margin = max(NEAR_CAP, 2 * error) if math.isfinite(error) else NEAR_CAP
    return {
        "num_data": num_data,
        "points": num_points,
        "cap": cap,
        "near_cap": cap - information < margin if known else None,
        **{name: {"mean": number(mean), "se": number(se, ONE_POINT)} for name, (mean, se) in terms.items()},
    }


def _draw_points(
    model: GenerativeModel, x: Tensor, batches: Sequence[Inferred], num: int, stream: torch.Generator
) -> Points:
    """M points, the m-th from the q of data point ⌊(m + u_m) N / M⌋, u_m ~ U(0, 1): spread, yet all as likely."""
    total = sum(len(b.rows) for b in batches)
    jitter = torch.rand(num, generator=stream, device=x.device, dtype=torch.float64)
    owner = ((torch.arange(num, device=x.device) + jitter) * total / num).long().clamp_max(total - 1)
    repeat = torch.arange(num, device=x.device) - torch.searchsorted(owner, owner)  # 0, 1, … for the same data point
    parts, low = [], 0
    for rows, _, posterior in batches:
        here = (owner >= low) & (owner < low + len(rows))
        place = owner[here] - low
        low += len(rows)
        if not len(place):
            continue
        q = _wide(posterior)
        spec = q.noise(int(repeat[here].max()) + 1)
        assert spec is not None  # a continuous q does not enumerate
        draws = q.draws(fill({"z": spec}, stream, q.mean().dtype)["z"])
        z, log_q = draws.z[repeat[here], place], draws.log_q[repeat[here], place]
        narrow = z.to(x.dtype)[None]
        reconstruction = model.log_likelihood(x[rows[place]], narrow)[0]
        parts.append(Points(owner[here], z, log_q, model.log_prior(narrow)[0], reconstruction))
    owners, *others = (torch.cat(field) for field in zip(*parts, strict=True))
    return Points(owners, *(field.double() for field in others))


def _wide(q: Posterior) -> Posterior:
    """q in float64 where its parameters are known: rounding z to float32 is σ-sized where q is narrow."""
    if isinstance(q, DiagonalGaussianPosterior):
        return DiagonalGaussianPosterior(q.location.double(), q.log_scale.double())
    if isinstance(q, FullGaussianPosterior):
        return FullGaussianPosterior(q.location.double(), q.scale_tril.double())
    return q


def aggregate_log_q(posteriors: Sequence[Posterior], z: Tensor, owner: Tensor, log_own: Tensor) -> Tensor:
    """log q(z_m) = log (1/N) Σ_n q(z_m | x_n) [M], summed over batches of posteriors in float64.

    z [M, H]; ``owner`` [M] is the place n of the data point that z_m was drawn from, counted through the batches,
    and ``log_own`` [M] is log q(z_m | x_n) there, known from the draw.
    """
    total = torch.full_like(log_own, -torch.inf)
    low = 0
    for posterior in posteriors:
        log_q = _cross(_wide(posterior), z)
        here = ((owner >= low) & (owner < low + log_q.shape[1])).nonzero().flatten()
        # Its own component, where q is narrow, is the one that rounding in the products would show in.
        log_q[here, owner[here] - low] = log_own[here]
        total = torch.logaddexp(total, log_q.logsumexp(1))
        low += log_q.shape[1]
    return total - math.log(low)


def _cross(q: Posterior, z: Tensor) -> Tensor:
    """log q(z_m | x_b) [M, B] for every point z [M, H] and every data point of a batch, in float64."""
    if isinstance(q, DiagonalGaussianPosterior):
        # Σ_h (z − μ)² / σ² as matrix products; about the batch's mean, where the terms cancel least.
        centre, precision = q.location.mean(0), (-2 * q.log_scale).exp()
        z, location = z - centre, q.location - centre
        square = z.square() @ precision.T - 2 * z @ (location * precision).T + (location.square() * precision).sum(-1)
        return -0.5 * (square.clamp_min(0) + q.location.shape[-1] * LOG_2PI) - q.log_scale.sum(-1)
    assert isinstance(q, PathPosterior)
    mean = q.mean()
    chunk = max(1, BLOCK // mean.numel())
    parts = [q.frozen_log_q(part[:, None].to(mean.dtype).expand(-1, *mean.shape)) for part in z.split(chunk)]
    return torch.cat(parts).double()
