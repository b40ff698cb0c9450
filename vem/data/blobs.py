"""Gaussian clusters whose truth is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vem.data.dataset import Data, Split
from vem.data.prepare import prepare, whole
from vem.errors import VemError, at_least, choice
from vem.noise import generator
from vem.storage.records import SPLITS

COVARIANCES = ("spherical", "diagonal", "full")


def blobs(
    num: int = 2000,
    num_valid: int = 500,
    num_test: int = 500,
    dims: int = 2,
    components: int = 5,
    separation: float = 5.0,
    scale: float = 1.0,
    covariance: str = "full",
    weights: Sequence[float] | None = None,
    seed: int = 0,
    max_train: int | None = None,
) -> Data:
    """Draws from a Gaussian mixture, p(x) = Σ_k π_k N(x; μ_k, Σ_k); labels are the components.

    x [N, D]. μ_k ~ N(0, separation² I); standard deviations along the axes of Σ_k are
    ``scale`` · e^{0.3 u}, u ~ N(0, 1): one (spherical), one per dimension (diagonal), or one per axis of a
    random frame (full). ``weights`` are in any unit; null = equal. ``truth`` (float64): weights [K],
    means [K, D], covariances [K, D, D].

    Raises:
        VemError: a number is out of range.

    >>> data = blobs(num=100, components=3)
    >>> data.train.x.shape, data.truth["covariances"].shape, int(data.train.labels.max())
    (torch.Size([100, 2]), torch.Size([3, 2, 2]), 2)
    """
    num, num_valid, num_test = (
        whole(n, f"data.{key}") for key, n in (("num", num), ("num_valid", num_valid), ("num_test", num_test))
    )
    dims, components = whole(dims, "data.dims"), whole(components, "data.components")
    at_least(separation, 0, "data.separation")
    at_least(scale, 1e-6, "data.scale")
    choice(covariance, COVARIANCES, "data.covariance")

    pi = _weights(weights, components)
    g = generator("cpu", seed, "blobs", "truth")
    means = separation * torch.randn(components, dims, generator=g, dtype=torch.float64)
    factors = _factors(components, dims, scale, covariance, g)
    truth = {"weights": pi, "means": means, "covariances": factors @ factors.mT}

    def draw(split: str, size: int) -> Split:
        # A stream for each split: a longer training set leaves the test data as they are.
        g = generator("cpu", seed, "blobs", split)
        labels = torch.multinomial(pi, size, replacement=True, generator=g)
        eps = torch.randn(size, dims, 1, generator=g, dtype=torch.float64)
        return Split((means[labels] + (factors[labels] @ eps).squeeze(-1)).float(), labels)

    train, valid, test = map(draw, SPLITS, (num, num_valid, num_test))
    data = Data("blobs", train, valid, test, kind="real", seed=seed, truth=truth)
    return prepare(data, max_train=max_train)


def _weights(weights: Sequence[float] | None, components: int) -> Tensor:
    """π [K], summing to 1."""
    if weights is None:
        return torch.full((components,), 1 / components, dtype=torch.float64)
    pi = torch.tensor([float(w) for w in weights], dtype=torch.float64)
    if len(pi) != components or not bool((pi > 0).all() and pi.isfinite().all()):
        raise VemError(
            f"data.weights={list(weights)} does not fit data.components={components}: give {components} "
            "positive numbers, or null for equal weights."
        )
    return pi / pi.sum()


def _factors(components: int, dims: int, scale: float, covariance: str, g: torch.Generator) -> Tensor:
    """A [K, D, D] with Σ_k = A_k A_kᵀ."""
    shape = (components, 1 if covariance == "spherical" else dims)
    deviations = scale * torch.exp(0.3 * torch.randn(shape, generator=g, dtype=torch.float64))
    factors = torch.diag_embed(deviations.expand(components, dims))
    if covariance == "full":
        # The Q of a Gaussian matrix is a random frame.
        frames = torch.linalg.qr(torch.randn(components, dims, dims, generator=g, dtype=torch.float64)).Q
        factors = frames @ factors
    return factors
