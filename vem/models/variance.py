"""Variances with a floor, for the density of a perfect fit has no upper limit."""

from __future__ import annotations

import torch
from torch import Tensor

# The M-step comes this close to the floor (relative), so that the unconstrained parameter stays finite.
MARGIN = 1e-3


def floored(raw: Tensor, floor: Tensor | float) -> Tensor:
    """The variance floor + exp(raw): smooth, so that a gradient finds its way back from the floor.

    >>> floored(torch.tensor([0.0]), 0.5)
    tensor([1.5000])
    """
    return floor + raw.exp()


def log_excess(variance: Tensor, floor: Tensor | float) -> Tensor:
    """The ``raw`` of :func:`floored` that gives max(variance, (1 + MARGIN) floor).

    >>> floored(log_excess(torch.tensor([2.0, -1.0]), 1.0), 1.0)
    tensor([2.0000, 1.0010])
    """
    return (variance - floor).clamp_min(MARGIN * floor).log()


def data_moments(x: Tensor, chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Mean and variance over the data, x [N, D] → [D], [D] in float64, without a float64 copy of x.

    >>> data_moments(torch.tensor([[1.0], [3.0]]))
    (tensor([2.], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    mean = torch.stack([part.double().sum(0) for part in torch.split(x, chunk)]).sum(0) / len(x)
    square = torch.stack([(part.double() - mean).square().sum(0) for part in torch.split(x, chunk)]).sum(0)
    return mean, square / len(x)


def covariance_factor(covariance: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """L and the raw pivots of the covariances [K, D, D], with eigenvalues clipped at the floor.

    From the QR factors of (V √λ)ᵀ, since A Aᵀ = Rᵀ R: unlike a Cholesky factorization it cannot fail.
    """
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min((1 + MARGIN) * floor).sqrt()[:, None]
    tril = torch.linalg.qr(root.mT).R.mT
    diagonal = tril.diagonal(dim1=-2, dim2=-1)
    tril = tril * diagonal.sign()[:, None]  # the factor with a positive diagonal
    return tril, log_excess(diagonal.square(), floor)
