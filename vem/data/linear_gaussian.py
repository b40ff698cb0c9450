"""Data drawn from a linear-Gaussian model whose truth is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.data.dataset import Data, Split
from vem.data.prepare import drawn, whole
from vem.errors import at_least
from vem.noise import generator


def linear_gaussian(
    num: int = 2000,
    num_valid: int = 500,
    num_test: int = 500,
    dims: int = 10,
    latent: int = 3,
    noise: float = 0.5,
    noise_spread: float = 1.0,
    seed: int = 0,
    max_train: int | None = None,
) -> Data:
    """x = W z + b + ψ^½ ε with z ~ N(0, I_H), ε ~ N(0, I_D): data whose log p(x) is known.

    x [N, D]. ``noise`` is the standard deviation √ψ; with ``noise_spread`` s > 1 that of each dimension is
    noise · s^u, u ~ U(−½, ½), so the data suit factor analysis and not pPCA. Entries of W and b are
    N(0, 1). ``truth`` (float64): W [D, H], b [D], noise_variance ψ [D], z_train, z_valid, z_test [N, H].

    Raises:
        VemError: a number is out of range.

    Source: Tipping and Bishop, 1999, eq. 1.

    >>> data = linear_gaussian(num=100, dims=4, latent=2)
    >>> data.train.x.shape, data.truth["W"].shape, data.truth["z_train"].shape
    (torch.Size([100, 4]), torch.Size([4, 2]), torch.Size([100, 2]))
    """
    dims, latent = whole(dims, "data.dims"), whole(latent, "data.latent")
    at_least(noise, 1e-6, "data.noise")
    at_least(noise_spread, 1, "data.noise_spread")

    g = generator("cpu", seed, "linear_gaussian", "truth")
    weight = torch.randn(dims, latent, generator=g, dtype=torch.float64)
    offset = torch.randn(dims, generator=g, dtype=torch.float64)
    scale = noise * noise_spread ** (torch.rand(dims, generator=g, dtype=torch.float64) - 0.5)
    truth = {"W": weight, "b": offset, "noise_variance": scale**2}

    def draw(split: str, size: int, g: torch.Generator) -> Split:
        z: Tensor = torch.randn(size, latent, generator=g, dtype=torch.float64)
        eps = torch.randn(size, dims, generator=g, dtype=torch.float64)
        truth[f"z_{split}"] = z
        return Split((z @ weight.T + offset + scale * eps).float())

    return drawn("linear_gaussian", (num, num_valid, num_test), draw, truth, seed, max_train)
