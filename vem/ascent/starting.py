"""Where the search for the best q begins: at a q that is there already, at the prior, at a mode; and at which."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vem.ascent.elbo_oracle import Chart, ElboOracle
from vem.ascent.joint import log_joint_gradient, log_joint_in_blocks
from vem.ascent.lbfgs import climb
from vem.ascent.matched import matched, spherical
from vem.contracts import Family, GenerativeModel, Posterior
from vem.errors import VemError
from vem.families.gaussian import (
    DiagonalGaussianPosterior,
    FullGaussian,
    FullGaussianPosterior,
)
from vem.noise import fill

CANDIDATES = 100  # draws of the prior of which the likeliest one is raised to a mode
RAISED = 20  # evaluations of that climb
NARROW = 0.1  # scale of the q that starts at a mode
MOMENT_DRAWS = 500
ROUGH_DRAWS, ROUGH_TOLERANCE = 20, 1.0  # of the climbs that screen the starts; nats


def params_of(family: Family, posterior: Posterior, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """λ [B, P] of this q, where it is of the family; else of a q of the family with its mean and spread.

    A posterior of a family of the user's own is met exactly if it carries its λ as ``params``.
    """
    own = getattr(posterior, "params", None)
    if isinstance(own, Tensor) and own.shape[-1:] == (family.num_params,):
        return own.to(dtype)
    if isinstance(family, FullGaussian) and isinstance(posterior, FullGaussianPosterior):
        tril = posterior.scale_tril
        row, col = torch.tril_indices(family.size, family.size, offset=-1, device=tril.device)
        return torch.cat([posterior.location, tril.diagonal(dim1=-2, dim2=-1).log(), tril[:, row, col]], -1).to(dtype)
    mean, scale = moments(posterior, stream, dtype)
    return family.start(mean, scale).to(dtype)


def moments(posterior: Posterior, stream: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and marginal standard deviation of q, each [B, H]; of draws where there is no closed form."""
    if isinstance(posterior, DiagonalGaussianPosterior):
        return posterior.location.to(dtype), posterior.log_scale.exp().to(dtype)
    if isinstance(posterior, FullGaussianPosterior):
        return posterior.location.to(dtype), posterior.scale_tril.norm(dim=-1).to(dtype)
    spec = posterior.noise(MOMENT_DRAWS)
    noise = None if spec is None else fill({"eps": spec}, stream, dtype)["eps"]
    z, _, log_weight = posterior.draws(noise)
    weight = log_weight.exp()[..., None]
    mean = (weight * z).sum(0)
    return mean, (weight * (z - mean).square()).sum(0).sqrt().clamp_min(1e-4)


def prior_params(family: Family, x: Tensor) -> Tensor:
    """λ [B, P] of N(0, I)."""
    ones = x.new_ones(len(x), family.size)
    return family.start(torch.zeros_like(ones), ones).to(x.dtype)


def mode_params(model: GenerativeModel, family: Family, x: Tensor, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """λ [B, P] of a narrow q at a mode of p(z | x), and the decoder gradients spent on each datum.

    The likeliest of a hundred draws of the prior, raised by L-BFGS on log p(x, z): where an encoder has put all
    of q into one mode, this start can lie in another.
    """
    draws = torch.randn(CANDIDATES, len(x), family.size, generator=stream, device=x.device, dtype=x.dtype)
    joint = log_joint_in_blocks(model, x, draws)
    best = torch.where(joint.isfinite(), joint, -torch.inf).argmax(0)

    def height(z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = log_joint_gradient(model, x[rows], z[None])
        return value[0], gradient[0]

    raised = climb(height, draws[best, torch.arange(len(x), device=x.device)], RAISED, 1e-2)
    mode = raised.params
    return family.start(mode, torch.full_like(mode, NARROW)).to(x.dtype), raised.evaluations


def screen(
    bounds: ElboOracle, starts: Mapping[str, Tensor], draws: int, evaluations: int, memory: int
) -> tuple[Tensor, Tensor]:
    """The starts, or what a rough climb makes of them if that is better: λ's [K, B, P] and L [K, B], by one noise.

    Sorted for each datum, the best one first; those that give no number last. The choice is on normal noise,
    2 ``draws`` of it, that found none of them.

    Raises:
        VemError: no start has a finite bound for some datum.
    """
    rows, tried, found = bounds.rows, [], []
    eps = bounds.noise(2 * draws, rows, spherical)
    for start in starts.values():
        params = start.to(bounds.x.dtype)
        bound = bounds.mean(params, eps, rows)
        if len(starts) > 1:  # else there is nothing to choose from
            raised = climb_roughly(bounds, params, draws, evaluations, memory)
            risen = bounds.mean(raised, eps, rows)
            params = torch.where((risen > bound)[:, None], raised, params)
            bound = torch.maximum(bound, risen)
        tried.append(params)
        found.append(bound)
    bound, order = torch.stack(found).sort(0, descending=True)
    if not bool(bound[0].isfinite().all()):
        lost = (~bound[0].isfinite()).nonzero()[:, 0].tolist()
        raise VemError(
            f"no start of the best q has a finite bound for {len(lost)} of {len(rows)} data (the first: "
            f"{lost[:5]} of this batch): the decoder or the encoder gives NaN or infinite numbers there."
        )
    return torch.stack(tried)[order, rows], bound


def climb_roughly(bounds: ElboOracle, base: Tensor, draws: int, evaluations: int, memory: int) -> Tensor:
    """λ [B, P] after a climb on matched draws until five evaluations gain less than a nat.

    Where the family composes, of a mean and of scales alone in the coordinates of ``base``: for these 20 draws
    do, where a full covariance would grow without bound in the directions that no draw sees.
    """
    family = bounds.family

    def mean_and_scales(outer: Tensor, inner: Tensor) -> Tensor:
        mean, log_scale = inner.chunk(2, -1)
        return bounds.chart(outer, family.start(mean, log_scale.exp()))

    chart: Chart = bounds.chart
    origin = base
    if bounds.composes:
        chart, origin, draws = mean_and_scales, base.new_zeros(len(base), 2 * family.size), min(draws, ROUGH_DRAWS)
    climbable = bounds.climbable(base, bounds.noise(draws, bounds.rows, matched), bounds.rows, chart)
    return chart(base, climb(climbable, origin, evaluations, ROUGH_TOLERANCE, memory).params)
