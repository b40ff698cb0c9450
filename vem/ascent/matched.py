"""Normal draws whose first two moments are exact: a quadratic is integrated without error."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.contracts import NoiseSpec
from vem.noise import fill


def matched(spec: NoiseSpec, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Noise of the shape [S, B, H], where normal noise has Σ_s ε_s = 0 and (1/S) Σ_s ε_s ε_sᵀ = I for each datum.

    Antithetic pairs, whitened by the Cholesky factor of their own second moment (S ≥ 2H); fewer pairs than
    dimensions are made orthogonal, of length √H. The draws of a datum depend on one another, so a standard
    error cannot be taken over them: they are for finding a q, never for scoring it. Other noise (uniform, or
    a shape that is no [S, B, H]) is drawn plainly.

    >>> eps = matched(NoiseSpec("normal", (8, 3, 2)), torch.Generator().manual_seed(0), torch.float64)
    >>> torch.allclose(torch.einsum("sbi,sbj->bij", eps, eps) / 8, torch.eye(2, dtype=torch.float64).expand(3, 2, 2))
    True
    """
    draws, *rest = spec.shape
    if spec.kind != "normal" or len(rest) != 2 or draws < 2:
        return fill({"eps": spec}, stream, dtype)["eps"]
    (batch, size), pairs = rest, draws // 2
    half = fill({"eps": NoiseSpec("normal", (batch, pairs, size))}, stream, torch.float64)["eps"]
    if pairs >= size:
        tril = torch.linalg.cholesky(half.mT @ half / pairs)
        half = torch.linalg.solve_triangular(tril, half.mT, upper=False).mT
    else:
        half = torch.linalg.qr(half.mT).Q.mT * size**0.5
    both = torch.cat([half, -half], 1).transpose(0, 1)
    return both.to(dtype).contiguous()


def antithetic(spec: NoiseSpec, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal noise in antithetic pairs, draw s and draw s + S/2, S even; the pairs are independent.

    Other noise is drawn plainly.
    """
    draws, *rest = spec.shape
    if spec.kind != "normal" or draws < 2:
        return fill({"eps": spec}, stream, dtype)["eps"]
    half = fill({"eps": NoiseSpec("normal", (draws // 2, *rest))}, stream, dtype)["eps"]
    return torch.cat([half, -half])
