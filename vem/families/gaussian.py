"""Gaussian families, reparameterized by hand from the noise they are given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vem.contracts import Draws, NoiseSpec
from vem.errors import VemError, at_least

LOG_2PI = math.log(2 * math.pi)


def uniform_log_weight(log_q: Tensor) -> Tensor:
    """The weights of S Monte Carlo draws: −log S everywhere, in the shape of ``log_q`` [S, B]."""
    return torch.full_like(log_q, -math.log(log_q.shape[0]))


def log_standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) over the last axis: z [..., H] → [...].

    >>> log_standard_normal(torch.zeros(2, dtype=torch.float64)).item() == -LOG_2PI
    True
    """
    return -0.5 * (z.square().sum(-1) + z.shape[-1] * LOG_2PI)


class GaussianPosterior(ABC):
    """What Gaussian posteriors share: draws by transporting ε ~ N(0, I)."""

    location: Tensor  # [B, H]

    @abstractmethod
    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + L ε [S, B, H] and log|det L| [S, B]."""

    def noise(self, num_draws: int) -> NoiseSpec:
        """Standard normal [S, B, H]."""
        return NoiseSpec("normal", (num_draws, *self.location.shape))

    def mean(self) -> Tensor:
        """E_q[z] [B, H]."""
        return self.location

    def draws(self, noise: Tensor | None) -> Draws:
        """Monte Carlo draws: log q(z) = log N(ε; 0, I) − log|dz/dε|; noise [S, B, H].

        Raises:
            VemError: no noise was given.
        """
        if noise is None:
            raise VemError("a Gaussian q needs noise [S, B, H] to draw from: none was given.")
        noise = noise.to(self.location.dtype)  # a posterior may be in float64 where the run is not
        z, log_det = self.transport(noise)
        log_q = log_standard_normal(noise) - log_det
        return Draws(z, log_q, uniform_log_weight(log_q))


@dataclass
class DiagonalGaussianPosterior(GaussianPosterior):
    """q(z_n) = N(μ_n, diag σ_n²); location and log_scale [B, H]."""

    location: Tensor
    log_scale: Tensor

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + σ ε and Σ log σ."""
        z = self.location + self.log_scale.exp() * eps
        return z, self.log_scale.sum(-1).expand(eps.shape[:-1])

    def whiten(self, z: Tensor) -> Tensor:
        """ε = (z − μ) / σ [S, B, H].

        >>> q = DiagonalGaussianPosterior(torch.ones(1, 2), torch.zeros(1, 2))
        >>> q.whiten(q.transport(torch.full((1, 1, 2), 0.5))[0])
        tensor([[[0.5000, 0.5000]]])
        """
        return (z - self.location) * (-self.log_scale).exp()

    def frozen_log_q(self, z: Tensor) -> Tensor:
        """log N(z; μ, σ²) [S, B] with μ and σ held constant."""
        log_scale = self.log_scale.detach()
        return log_standard_normal((z - self.location.detach()) * (-log_scale).exp()) - log_scale.sum(-1)

    def kl_standard_normal(self) -> Tensor:
        """KL(q ‖ N(0, I)) = ½ Σ (μ² + σ² − 1 − log σ²) [B].

        Source: Kingma and Welling, 2014, appendix B.

        >>> DiagonalGaussianPosterior(torch.ones(1, 2), torch.zeros(1, 2)).kl_standard_normal()
        tensor([1.])
        """
        log_var = 2 * self.log_scale
        return 0.5 * (self.location.square() + log_var.exp() - 1 - log_var).sum(-1)


@dataclass
class FullGaussianPosterior(GaussianPosterior):
    """q(z_n) = N(μ_n, L_n L_nᵀ); location [B, H], scale_tril [B, H, H] lower triangular, positive diagonal."""

    location: Tensor
    scale_tril: Tensor

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """z = μ + L ε and Σ log L_ii."""
        z = self.location + torch.einsum("bij,sbj->sbi", self.scale_tril, eps.to(self.scale_tril.dtype))
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return z, log_det.expand(eps.shape[:-1])

    def whiten(self, z: Tensor) -> Tensor:
        """ε = L⁻¹ (z − μ) [S, B, H].

        >>> q = FullGaussianPosterior(torch.ones(1, 2), 2 * torch.eye(2)[None])
        >>> q.whiten(q.transport(torch.full((1, 1, 2), 0.5))[0])
        tensor([[[0.5000, 0.5000]]])
        """
        return _solve_lower(self.scale_tril, z.to(self.location.dtype) - self.location)

    def frozen_log_q(self, z: Tensor) -> Tensor:
        """log N(z; μ, L Lᵀ) [S, B] with μ and L held constant."""
        tril = self.scale_tril.detach()
        eps = _solve_lower(tril, z - self.location.detach())
        return log_standard_normal(eps) - tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def kl_standard_normal(self) -> Tensor:
        """KL(q ‖ N(0, I)) = ½ (‖μ‖² + ‖L‖_F² − H) − Σ log L_ii [B]."""
        square = self.location.square().sum(-1) + self.scale_tril.square().sum((-2, -1))
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return 0.5 * (square - self.location.shape[-1]) - log_det


def _solve_lower(tril: Tensor, centred: Tensor) -> Tensor:
    """L⁻¹ c [S, B, H] for L [B, H, H] and c [S, B, H]."""
    return torch.linalg.solve_triangular(tril, centred.movedim(0, -1), upper=False).movedim(-1, 0)


def _within(radius: float, step: Tensor, dim: tuple[int, ...]) -> Tensor:
    """The step [B, …] shortened to the radius where it is longer."""
    norm = torch.linalg.vector_norm(step, dim=dim, keepdim=True)
    return step * (radius / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_max(1)


class _Gaussians:
    """What families of Gaussians over H numbers share."""

    latent: Literal["real", "index"] = "real"

    def __init__(self, size: int) -> None:
        at_least(size, 1, "latent_dim")
        self.size = size
        self.num_params = 2 * size

    def noise(self, draws: int, batch_size: int) -> NoiseSpec:
        """Standard normal [S, B, H]."""
        return NoiseSpec("normal", (draws, batch_size, self.size))


class DiagonalGaussian(_Gaussians):
    """Fully factorized Gaussians: λ = (μ, log σ), 2H numbers a datum."""

    def __call__(self, params: Tensor) -> DiagonalGaussianPosterior:
        """[B, 2H] → q."""
        # One node in the graph, where two slices would each fill a gradient of zeros.
        return DiagonalGaussianPosterior(*params.chunk(2, -1))

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """λ of N(mean, scale²); mean, scale [B, H] → [B, 2H]."""
        return torch.cat([mean, scale.log()], -1)

    def compose(self, outer: Tensor, inner: Tensor) -> Tensor:
        """λ of ε → outer(inner(ε)): μ = μ_o + σ_o μ_i, σ = σ_o σ_i; outer, inner [B, 2H]."""
        (mean, log_scale), (inner_mean, inner_log_scale) = outer.chunk(2, -1), inner.chunk(2, -1)
        return torch.cat([mean + log_scale.exp() * inner_mean, log_scale + inner_log_scale], -1)

    def natural_step(self, params: Tensor, gradient: Tensor, rate: Tensor | float, trust: float) -> Tensor:
        """μ ← μ + σ clip(rate σ g_μ), log σ ← log σ + ½ clip(rate g_{log σ}); params, gradient [B, 2H].

        The Fisher information of N(μ, σ²) is 1/σ² in μ and 2 in log σ; the clip keeps a step within
        ``trust`` standard deviations, and log σ within half of that.
        """
        h = self.size
        scale = params[:, h:].exp()
        mean_step = scale * (rate * scale * gradient[:, :h]).clamp(-trust, trust)
        scale_step = 0.5 * (rate * gradient[:, h:]).clamp(-trust, trust)
        return params + torch.cat([mean_step, scale_step], -1)


class FullGaussian(_Gaussians):
    """Gaussians with any covariance: λ = (μ, log diagonal of L, strict lower triangle of L)."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.num_params += size * (size - 1) // 2

    def __call__(self, params: Tensor) -> FullGaussianPosterior:
        """[B, 2H + H(H−1)/2] → q."""
        h = self.size
        tril = self._matrix(params[..., h : 2 * h].exp(), params[..., 2 * h :])
        return FullGaussianPosterior(params[..., :h], tril)

    def start(self, mean: Tensor, scale: Tensor) -> Tensor:
        """λ of N(mean, diag scale²); mean, scale [B, H] → [B, num_params]."""
        lower = mean.new_zeros(*mean.shape[:-1], self.num_params - 2 * self.size)
        return torch.cat([mean, scale.log(), lower], -1)

    def compose(self, outer: Tensor, inner: Tensor) -> Tensor:
        """λ of ε → outer(inner(ε)): μ = μ_o + L_o μ_i, L = L_o L_i; outer, inner [B, num_params]."""
        h = self.size
        first, second = self(outer), self(inner)
        mean = first.location + torch.einsum("bij,bj->bi", first.scale_tril, second.location)
        row, col = torch.tril_indices(h, h, offset=-1, device=outer.device)
        strict = (first.scale_tril @ second.scale_tril)[:, row, col]
        return torch.cat([mean, outer[:, h : 2 * h] + inner[:, h : 2 * h], strict], -1)

    def natural_step(self, params: Tensor, gradient: Tensor, rate: Tensor | float, trust: float) -> Tensor:
        """μ ← μ + L clip(rate u), L ← L (I + strict A) e^{diag A}, in the coordinates where q is N(0, I).

        With G = ∂L/∂L: u = Lᵀ g_μ, A = rate · (strict lower triangle of LᵀG, ½ of its diagonal), for the
        Fisher information there is 1 in u and in the strict triangle, and 2 in the log-diagonal.
        Kept within ‖u‖ ≤ ``trust`` and ‖A‖ ≤ ``trust`` / √H: A from few draws has rank one and H² noisy
        entries, and steps clipped entry by entry let their random walk outgrow the drift, so that L explodes.
        params, gradient [B, num_params].
        """
        h = self.size
        tril = self(params).scale_tril
        g_tril = self._matrix(gradient[:, h : 2 * h] / params[:, h : 2 * h].exp(), gradient[:, 2 * h :])
        u = _within(trust, rate * torch.einsum("bji,bj->bi", tril, gradient[:, :h]), dim=(-1,))
        a = _within(trust / h**0.5, rate * (tril.mT @ g_tril).tril(), dim=(-2, -1))
        mean = params[:, :h] + torch.einsum("bij,bj->bi", tril, u)
        grown = torch.exp(0.5 * a.diagonal(dim1=-2, dim2=-1))
        moved = (tril + tril @ a.tril(-1)) * grown[:, None, :]
        row, col = torch.tril_indices(h, h, offset=-1, device=params.device)
        return torch.cat([mean, moved.diagonal(dim1=-2, dim2=-1).log(), moved[:, row, col]], -1)

    def _matrix(self, diagonal: Tensor, strict: Tensor) -> Tensor:
        """The lower triangular matrix [B, H, H] with this diagonal [B, H] and strict triangle."""
        h = self.size
        # Built at each call: a cached index would pin the family to one device.
        row, col = torch.tril_indices(h, h, offset=-1, device=diagonal.device)
        batch = torch.arange(diagonal.shape[0], device=diagonal.device)[:, None]
        full = torch.diag_embed(diagonal)
        return full + torch.zeros_like(full).index_put((batch, row, col), strict)
