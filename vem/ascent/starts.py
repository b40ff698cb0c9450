"""Where λ_n starts. A start that looks at the data gives every row information from the first step on."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vem.errors import BadArgument

CHUNK = 4096
LARGEST_COVARIANCE = 4096  # beyond this many dimensions: a randomized factorization on a subset
OVERSAMPLED = 10  # directions sketched beyond those kept (Halko, Martinsson and Tropp, 2011)


class Start(Protocol):
    """A rule for the start of q(z_n)."""

    def fit(self, x: Tensor, size: int, generator: torch.Generator) -> None:
        """Look at the training data x [N, *X] for a latent variable of ``size`` dimensions."""

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of q for x [B, *X], each [B, H]."""


class PriorStart:
    """Every q starts at the prior, N(0, I).

    Plain, and slow: at the prior the KL term holds the rows back ("the initially attractive state").
    """

    def fit(self, x: Tensor, size: int, generator: torch.Generator) -> None:
        """Remember the latent dimension."""
        self.size = size

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """0 and 1."""
        zeros = x.new_zeros(x.shape[0], self.size)
        return zeros, torch.ones_like(zeros)


class PCAStart:
    """Every q starts at the exact posterior of a probabilistic PCA of the data, closed form throughout.

    With the eigenvalues l_i of the data's covariance and the noise s²:
    μ_ni = u_iᵀ (x_n − x̄) √(l_i − s²) / l_i and σ_i² = s² / l_i; directions with l_i ≤ s² start at the prior.
    s² is ``temper`` times the mean of the eigenvalues left out (1 = maximum likelihood), or, with
    ``temper=None``, the geometric mean of that and the largest eigenvalue: a nonlinear decoder explains
    more than a linear one, so the weak directions are better left for training to find.

    Source: Tipping and Bishop, 1999, eqs 7, 8 and 12.

    Raises:
        VemError: ``temper`` is not positive.
    """

    def __init__(self, temper: float | None = None) -> None:
        if temper is not None and not temper > 0:
            raise BadArgument("temper", f"={temper} must be positive, or null.")
        self.temper = temper

    @torch.no_grad()
    def fit(self, x: Tensor, size: int, generator: torch.Generator) -> None:
        """Mean, leading directions and the scales of the posterior."""
        flat = x.flatten(1)
        d = flat.shape[1]
        self.centre = flat.mean(0)
        kept = min(size, d - 1)
        values, vectors = _leading(flat, self.centre, kept, generator)
        total = _variance(flat, self.centre)
        residual = (total - values.sum()).clamp_min(0) / max(d - kept, 1)
        noise = (values[:1].sum() * residual).sqrt() if self.temper is None else self.temper * residual
        # A direction without variance has nothing to say: it starts at the prior like the weak ones.
        used = (values > noise) & (values > 1e-9 * total)
        gain = torch.where(used, (values - noise).clamp_min(0).sqrt() / values.clamp_min(1e-30), 0)
        # The noise of a perfect fit would be zero, and with it σ.
        scale = torch.where(used, (noise / values.clamp_min(1e-30)).clamp_min(1e-4).sqrt(), 1)
        self.projection = flat.new_zeros(d, size)
        self.projection[:, :kept] = vectors * gain
        self.scale = flat.new_ones(size)
        self.scale[:kept] = scale

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mean and scale under the fitted PCA."""
        mean = (x.flatten(1) - self.centre) @ self.projection
        return mean, self.scale.expand_as(mean).clone()


def _variance(flat: Tensor, centre: Tensor) -> Tensor:
    """The total variance Σ_i Var(x_i), in chunks: nothing of the size of the data is made."""
    return torch.stack([(chunk - centre).square().sum() for chunk in torch.split(flat, CHUNK)]).sum() / len(flat)


def _leading(flat: Tensor, centre: Tensor, kept: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The ``kept`` largest eigenvalues [kept] and eigenvectors [D, kept] of the covariance."""
    n, d = flat.shape
    if d <= LARGEST_COVARIANCE:
        covariance = flat.new_zeros(d, d)
        for chunk in torch.split(flat, CHUNK):
            centred = chunk - centre
            covariance.addmm_(centred.T, centred)
        values, vectors = torch.linalg.eigh(covariance / n)
        return values.flip(0)[:kept].clamp_min(0), vectors.flip(1)[:, :kept]
    rows = torch.randperm(n, generator=generator, device=flat.device)[:CHUNK]
    kept_now = min(kept, len(rows))
    sketched = min(kept + OVERSAMPLED, len(rows))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # the sketch of svd_lowrank comes from torch's global stream
        _, s, vectors = torch.svd_lowrank(flat[rows] - centre, q=sketched, niter=4)
    values = torch.cat([s[:kept_now].square() / len(rows), s.new_zeros(kept - kept_now)])
    return values, torch.cat([vectors[:, :kept_now], vectors.new_zeros(d, kept - kept_now)], 1)
