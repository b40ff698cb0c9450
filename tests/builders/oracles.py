"""Closed-form answers that no code of vem computes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class MaximumLikelihood(NamedTuple):
    """Where the likelihood is largest, and how large it is there."""

    weight: Tensor  # [D, H]
    bias: Tensor  # [D]
    noise: Tensor  # [] a variance
    log_marginal: Tensor  # [] mean of log p(x) over the data, nats


def maximum_likelihood_ppca(x: Tensor, latent_dim: int) -> MaximumLikelihood:
    """Of probabilistic PCA, from the eigenvalues of the covariance; x [N, *X], in float64, 0 < H < D.

    W = U_H (Λ_H − ψ I)^½, ψ = the mean of the D − H smallest eigenvalues (Tipping and Bishop, 1999, eq. 7–8),
    mean log p(x) = −½ (D log 2π + Σ_{i ≤ H} log λ_i + (D − H) log ψ + D).
    """
    flat = x.flatten(1).double()
    size, bias = flat.shape[1], flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - bias).T @ (flat - bias) / len(flat))
    noise = values[:-latent_dim].mean()
    kept = values[-latent_dim:].flip(0)
    weight = vectors[:, -latent_dim:].flip(1) * (kept - noise).clamp_min(0).sqrt()
    log_det = kept.log().sum() + (size - latent_dim) * noise.log()
    return MaximumLikelihood(weight, bias, noise, -0.5 * (size * (math.log(2 * math.pi) + 1) + log_det))
