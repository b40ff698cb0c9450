"""Noise in antithetic pairs: matched to two moments for a climb, or normal draw by draw for a judgement."""

from __future__ import annotations

import math

import torch
from scipy.special import gammainccinv, gammaincinv
from torch import Tensor

from vem.contracts import NoiseSpec
from vem.errors import VemError
from vem.noise import fill


def matched(spec: NoiseSpec, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Noise of the shape [S, B, H] with Σ_s ε_s = 0 and (1/S) Σ_s ε_s ε_sᵀ = I for each datum: **not** normal.

    Antithetic pairs, whitened by the Cholesky factor of their own second moment (S ≥ 2H); fewer pairs than
    dimensions are made orthogonal, of length √H. Whatever depends on |ε| is then integrated with a bias: they are for
    a climb, never for judging a q (:func:`spherical`). Other noise (uniform, or no [S, B, H]) is drawn plainly.

    Raises:
        VemError: S is odd.

    >>> eps = matched(NoiseSpec("normal", (8, 3, 2)), torch.Generator().manual_seed(0), torch.float64)
    >>> torch.allclose(torch.einsum("sbi,sbj->bij", eps, eps) / 8, torch.eye(2, dtype=torch.float64).expand(3, 2, 2))
    True
    """
    if not _in_groups(spec, 2):
        return fill({"eps": spec}, stream, dtype)["eps"]
    pairs, batch, size = spec.shape[0] // 2, *spec.shape[1:]
    half = fill({"eps": NoiseSpec("normal", (batch, pairs, size))}, stream, torch.float64)["eps"]
    if pairs >= size:
        tril = torch.linalg.cholesky(half.mT @ half / pairs)
        half = torch.linalg.solve_triangular(tril, half.mT, upper=False).mT
    else:
        half = _orthogonal(half) * size**0.5
    return _with_mirror_images(half, dtype)


def spherical(spec: NoiseSpec, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal noise of the shape [S, B, H] in fours r u, −r u, r′ u, −r′ u: one of each in every quarter of S.

    The directions u are uniform on the sphere and orthogonal, H at a time; r ~ χ_H is independent of them, and r′ is
    its mirror image, F(r′) = 1 − F(r). So every draw is N(0, I), every mean over draws is unbiased, and a quadratic is
    still integrated almost without error where S is a multiple of 4H. The draws of a datum depend on one another: a
    standard error needs several sets of them. Other noise is drawn plainly.

    Raises:
        VemError: S is no multiple of four.

    Source: Yu et al., 2016 (orthogonal directions of lengths χ_H); Hammersley and Morton, 1956 (mirror images).

    >>> eps = spherical(NoiseSpec("normal", (8, 3, 2)), torch.Generator().manual_seed(0), torch.float64)
    >>> bool(((eps[0] * eps[1]).sum(-1).abs() < 1e-12).all())
    True
    """
    if not _in_groups(spec, 4):
        return fill({"eps": spec}, stream, dtype)["eps"]
    fours, batch, size = spec.shape[0] // 4, *spec.shape[1:]
    together = min(fours, size)
    blocks = NoiseSpec("normal", (batch, math.ceil(fours / together), together, size))
    directions = _orthogonal(fill({"eps": blocks}, stream, torch.float64)["eps"]).flatten(1, 2)[:, :fours]
    below = fill({"p": NoiseSpec("uniform", (batch, fours, 1))}, stream, torch.float64)["p"]
    below = below.clamp_min(torch.finfo(torch.float64).tiny)
    halves = []
    for inverse in (gammaincinv, gammainccinv):  # of F and 1 − F, for r² / 2 is a gamma variable
        radius = torch.as_tensor(2 * inverse(size / 2, below.cpu().numpy())).sqrt().to(directions)
        halves.append(_with_mirror_images(radius * directions, dtype))
    return torch.cat(halves)


def antithetic(spec: NoiseSpec, stream: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal noise in antithetic pairs, draw s and draw s + S/2, S even; the pairs are independent.

    So a standard error can be taken over them: they are for the bound that is reported. Other noise is drawn
    plainly.
    """
    draws, *rest = spec.shape
    if spec.kind != "normal" or draws < 2:
        return fill({"eps": spec}, stream, dtype)["eps"]
    half = fill({"eps": NoiseSpec("normal", (draws // 2, *rest))}, stream, dtype)["eps"]
    return torch.cat([half, -half])


def _in_groups(spec: NoiseSpec, number: int) -> bool:
    """Whether this is noise that can be drawn in groups of so many: normal, of the shape [S, B, H]."""
    if spec.kind != "normal" or len(spec.shape) != 3:
        return False
    if spec.shape[0] % number:
        raise VemError(f"{spec.shape[0]} draws do not divide into groups of {number}: take a multiple of {number}.")
    return True


def _orthogonal(rows: Tensor) -> Tensor:
    """Orthonormal rows [..., P, H], P ≤ H, each uniform on the sphere where ``rows`` are normal."""
    # Without the signs the factorization fixes the side on which a vector lies.
    columns, upper = torch.linalg.qr(rows.mT)
    return (columns * upper.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]).mT


def _with_mirror_images(half: Tensor, dtype: torch.dtype) -> Tensor:
    """ε and −ε [S, B, H] of one half [B, S/2, H]."""
    return torch.cat([half, -half], 1).transpose(0, 1).to(dtype).contiguous()
