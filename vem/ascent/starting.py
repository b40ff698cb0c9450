"""Where the search for the best q begins: at a q that is there already, at the prior, at a mode."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.ascent.joint import log_joint_gradient, log_joint_in_blocks
from vem.ascent.lbfgs import climb
from vem.contracts import Family, GenerativeModel, Posterior
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
