"""Gaussian clusters whose truth is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vem.data.dataset import Data, Split
from vem.data.prepare import drawn, whole
from vem.errors import VemError, at_least, choice
from vem.noise import generator

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
    dims, components = whole(dims, "data.dims"), whole(components, "data.components")
    at_least(separation, 0, "data.separation")
    at_least(scale, 1e-6, "data.scale")
    choice(covariance, COVARIANCES, "data.covariance")

    pi = torch.ones(components, dtype=torch.float64)
    if weights is not None:
        pi = torch.tensor([float(w) for w in weights], dtype=torch.float64)
        if len(pi) != components or not bool((pi > 0).all() and pi.isfinite().all()):
            raise VemError(
                f"data.weights={list(weights)} does not fit data.components={components}: give {components} "
                "positive numbers, or null for equal weights."
            )
    pi = pi / pi.sum()
    g = generator("cpu", seed, "blobs", "truth")
    means = separation * torch.randn(components, dims, generator=g, dtype=torch.float64)
    shape = (components, 1 if covariance == "spherical" else dims)
    deviations = scale * torch.exp(0.3 * torch.randn(shape, generator=g, dtype=torch.float64))
    factors = torch.diag_embed(deviations.expand(components, dims))  # A_k [D, D] with Σ_k = A_k A_kᵀ
    if covariance == "full":
        # The Q of a Gaussian matrix is a random frame.
        factors = torch.linalg.qr(torch.randn(components, dims, dims, generator=g, dtype=torch.float64)).Q @ factors
    truth = {"weights": pi, "means": means, "covariances": factors @ factors.mT}

    def draw(split: str, size: int, g: torch.Generator) -> Split:
        labels = torch.multinomial(pi, size, replacement=True, generator=g)
        eps = torch.randn(size, dims, 1, generator=g, dtype=torch.float64)
        return Split((means[labels] + (factors[labels] @ eps).squeeze(-1)).float(), labels)

    return drawn("blobs", (num, num_valid, num_test), draw, truth, seed, max_train)
