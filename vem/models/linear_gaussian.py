"""The linear-Gaussian model: probabilistic PCA and factor analysis, where everything has a closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vem.contracts import Noise, NoiseSpec, Posterior
from vem.errors import VemError, at_least, choice, positive
from vem.families.gaussian import (
    LOG_2PI,
    DiagonalGaussianPosterior,
    FullGaussianPosterior,
    log_standard_normal,
)
from vem.models.columns import Standardizing
from vem.models.factor_likelihood import best_at_noise, factor_analysis, principal_components, scatter
from vem.models.variance import MARGIN, data_moments, floored, log_excess


class LinearGaussian(Standardizing):
    """p(z) = N(0, I), p(x | z) = N(W z + b, Ψ); probabilistic PCA and factor analysis.

    Ψ = ψ I with ``noise="isotropic"`` (probabilistic PCA), diag(ψ) with ``noise="diagonal"`` (factor
    analysis); ψ = noise_floor + exp(log_noise) is a variance in the squared unit of x. Marginally
    x ~ N(b, W Wᵀ + Ψ), and p(z | x) = N(Λ⁻¹ Wᵀ Ψ⁻¹ (x − b), Λ⁻¹) with Λ = I + Wᵀ Ψ⁻¹ W.

    weight W [D, H], bias b [D], log_noise [] or [D]. What is H × H is computed in float64, whatever the
    model's type: Λ has the condition of WᵀW over the noise.

    ``standardize``: the parameters are those of u = (x − shift) / scale (one scale for an isotropic noise), the floor
    is relative to each column's variance (isotropic: to the smallest one), and columns times k (isotropic: one k)
    shift log p(x) by −Σ log k exactly. ``auto``: where exact EM trains the model. Draws of z in float64 are then kept
    so: columns whose scales differ by 1e10 leave a posterior of z that float32 cannot tell from a point.

    Raises:
        VemError: ``latent_dim`` below 1, an unknown ``noise``, a floor that is not positive.

    Source: Rubin and Thayer, 1982; Tipping and Bishop, 1999.
    """

    prior_kind = "standard_normal"
    latent: Literal["real", "index"] = "real"
    weight: nn.Parameter
    center: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        latent_dim: int,
        noise: str = "isotropic",
        noise_floor: float = 1e-6,
        standardize: bool | str = False,
    ) -> None:
        super().__init__()
        at_least(latent_dim, 1, "latent_dim")
        positive(noise_floor, "noise_floor", ": at a perfect fit the noise runs to zero.")
        self.event_shape = tuple(event_shape)
        self.latent_size = latent_dim
        self.isotropic = choice(noise, ("isotropic", "diagonal"), "noise") == "isotropic"
        self.noise_floor = float(noise_floor)
        size = math.prod(self.event_shape)
        # The first columns of the identity: a model that is never started still uses every latent dimension.
        self.weight = nn.Parameter(torch.eye(size, latent_dim))
        self.bias = nn.Parameter(torch.zeros(size))
        self.log_noise = nn.Parameter(torch.zeros(() if self.isotropic else (size,)))
        # Second moments are taken about this point, for about zero they cancel where the mean is large.
        self.register_buffer("center", torch.zeros(size))
        self.set_up_columns(standardize, size, common=self.isotropic)

    def noise_variance(self) -> Tensor:
        """The variances ψ [D], in the units of the parameters."""
        return floored(self.log_noise, self._floor()).expand(self.bias.shape)

    def _floor(self) -> Tensor | float:
        return self.noise_floor if self.columns is None else self.noise_floor * self.columns.smallest

    # --- the generative model

    def log_prior(self, z: Tensor) -> Tensor:
        """log N(z; 0, I) [S, B]."""
        return log_standard_normal(z)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log N(x; W z + b, Ψ) [S, B]; x [B, *X], z [S, B, H]."""
        u = self._inside(x)
        noise = self.noise_variance().to(u.dtype)
        residual = (u - self.bias) - z.to(u.dtype) @ self.weight.to(u.dtype).T
        value = -0.5 * ((residual.square() / noise).sum(-1) + (noise.log() + LOG_2PI).sum())
        return value if self.columns is None else (value - self.columns.log_scale()).to(z.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """E[x | z] = W z + b, [..., *X]."""
        u = z @ self.weight.to(z.dtype).T + self.bias
        return self._outside(u).reshape(*z.shape[:-1], *self.event_shape)

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        """Standard normal ε of z [S, H] and of x [S, *X]."""
        return {
            "z": NoiseSpec("normal", (num, self.latent_size)),
            "x": NoiseSpec("normal", (num, *self.event_shape)),
        }

    def sample(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """z = ε_z [S, H], x = W z + b + √ψ ε_x [S, *X]."""
        z = noise["z"]
        scale = self.noise_variance().sqrt()
        if self.columns is not None:
            scale = scale * self.columns.scale
        return z, self.decode(z) + scale.reshape(self.event_shape) * noise["x"]

    @torch.no_grad()
    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """Half of each variance to random loadings, half to the noise; b = the mean of the data."""
        mean, variance = data_moments(x.flatten(1)) if self.columns is None else self.columns.fit(x.flatten(1))
        self.center.copy_(mean)
        self.bias.copy_(mean)
        eps = torch.randn(self.weight.shape, generator=generator, device=generator.device)
        self.weight.copy_(eps.to(variance) * (variance[:, None] / (2 * self.latent_size)).sqrt())
        self._set_noise(variance / 2)

    @torch.no_grad()
    def notes(self) -> list[str]:
        """Says so when a noise variance has come within 5 % of its floor."""
        low = int((floored(self.log_noise, self._floor()) < 1.05 * self._floor()).sum())
        if not low:
            return []
        of = "" if self.columns is None else f" of {'the smallest' if self.isotropic else 'their'} column's variance"
        return [
            f"{low} of {self.log_noise.numel()} noise variances reached their floor {self.noise_floor:g}{of}, so "
            "log p(x) depends on that floor. Drop constant dimensions, lower latent_dim, or set "
            "model.noise_floor knowingly."
        ]

    # --- what has a closed form

    def exact_posterior(self, x: Tensor) -> FullGaussianPosterior:
        """p(z | x) = N(Λ⁻¹ Wᵀ Ψ⁻¹ (x − b), Λ⁻¹); its covariance is the same for every x."""
        mean, tril = self._posterior(x)
        dtype = x.dtype if self.columns is None else mean.dtype
        return FullGaussianPosterior(mean.to(dtype), tril.to(dtype).expand(len(x), -1, -1))

    def log_marginal(self, x: Tensor) -> Tensor:
        """log N(x; b, W Wᵀ + Ψ) [B], without a D × D matrix.

        log p(x) = log p(x, m) − log p(m | x) at the posterior's mean m. This is Woodbury's identity in a
        form that adds squares of residuals, where xᵀΨ⁻¹x − mᵀΛm would cancel; and p(x, z) is flat at m,
        so that rounding in m counts only squared.
        """
        mean, tril = self._posterior(x)
        z = (mean.to(x.dtype) if self.columns is None else mean)[None]
        log_det = tril.diagonal().log().sum() + 0.5 * self.latent_size * LOG_2PI
        value = (self.log_likelihood(x, z) + self.log_prior(z)).squeeze(0) + log_det.to(z.dtype)
        return value.to(x.dtype)

    def best_diagonal(self, x: Tensor) -> DiagonalGaussianPosterior:
        """The best fully factorized q: the posterior's mean, variances 1 / Λ_ii.

        Source: Bishop, 2006, §10.1.2.
        """
        mean, _ = self._posterior(x)
        log_scale = -0.5 * self._precision().diagonal().log()
        return DiagonalGaussianPosterior(mean.to(x.dtype), log_scale.to(x.dtype).expand(len(x), -1))

    def best_diagonal_bound(self, x: Tensor) -> Tensor:
        """L[q*] = log p(x) − ½ (Σ log Λ_ii − log det Λ) [B], nats, of the best fully factorized q*."""
        precision = self._precision()
        gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
        return self.log_marginal(x) - gap.to(x.dtype)

    @torch.no_grad()
    def statistics(self, x: Tensor, posterior: Posterior) -> dict[str, Tensor]:
        """Σ_n E[z̃ z̃ᵀ], Σ_n x E[z̃]ᵀ and Σ_n x² with z̃ = (z, 1), x about ``center``; float64.

        q is a full or a diagonal Gaussian (then :meth:`maximize` is the M-step of variational EM).
        """
        centered = self._inside(x).double() - self.center.double()
        mean = posterior.mean().double()
        one = mean.new_ones(len(mean), 1)
        zed = torch.cat([mean, one], 1)
        second = zed.T @ zed
        second[:-1, :-1] += _covariance_sum(posterior)
        return {"second": second, "cross": centered.T @ zed, "square": centered.square().sum(0)}

    @torch.no_grad()
    def maximize(self, statistics: Mapping[str, Tensor]) -> None:
        """Regress x on z̃: (W, b) = cross · second⁻¹, ψ = the mean square that is left over.

        ψ at its floor is the constrained maximum, for the expected log-likelihood has one peak in each ψ.

        Source: Rubin and Thayer, 1982, eq. 5–7; Tipping and Bishop, 1999, eq. 27–28.
        """
        second, cross, square = statistics["second"], statistics["cross"], statistics["square"]
        count = second[-1, -1]
        coefficients = torch.linalg.solve(second, cross.T).T
        residual = square - (coefficients * cross).sum(1)
        self.weight.copy_(coefficients[:, :-1])
        self.bias.copy_(coefficients[:, -1] + self.center.double())
        self._set_noise(residual / count)

    # --- the maximum itself

    @torch.no_grad()
    def solve(self, x: Tensor, generator: torch.Generator, restarts: int = 1) -> None:
        """Maximum likelihood for the data x [N, *X]: probabilistic PCA in closed form, factor analysis by search.

        The search is over the noise, with W in closed form, from several starts drawn with the generator.

        Source: Tipping and Bishop, 1999, eq. 7–8; Jöreskog, 1967.
        """
        self.start(x, generator)  # the standardization, and a W that is not singular where the data leave it open
        found = scatter(x.flatten(1), self._units)
        least = (1 + MARGIN) * float(self._floor())  # the smallest variance that the noise is given
        if self.isotropic:
            fit = principal_components(found, self.latent_size, least)
        else:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
            fit = factor_analysis(found, self.latent_size, least, np.random.default_rng(seed), restarts)
        for parameter, value in ((self.weight, fit.weight), (self.bias, fit.bias)):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        self.center.copy_(self.bias)
        self._set_noise(torch.from_numpy(fit.noise).to(self.bias.device))

    @torch.no_grad()
    def best_at_noise(self, x: Tensor) -> float:
        """The mean log p(x) over x [N, *X] at the best W and b for the noise as it is.

        At a maximum that is the mean log p(x) of the model; at a saddle in W, where EM nearly stops, it is higher.
        """
        found, noise = scatter(x.flatten(1), self._units), self.noise_variance().double().cpu().numpy()
        if self.isotropic:
            value = principal_components(found, self.latent_size, 0.0, float(noise[0])).log_marginal
        else:
            value = best_at_noise(found, self.latent_size, noise)
        return value - (0.0 if self.columns is None else float(self.columns.log_scale()))

    def _units(self, x: Tensor) -> Tensor:
        return self._inside(x).double()

    # --- pieces

    def _set_noise(self, variance: Tensor) -> None:
        value = variance.mean() if self.isotropic else variance
        self.log_noise.copy_(log_excess(value, self._floor()))

    def _precision(self) -> Tensor:
        """Λ [H, H] in float64."""
        weight = self.weight.double()
        scaled = weight / self.noise_variance().double()[:, None]
        return weight.T @ scaled + torch.eye(self.latent_size, dtype=weight.dtype, device=weight.device)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean [B, H] and the lower Cholesky factor [H, H] of Λ⁻¹, in float64."""
        # Λ = U Uᵀ with U upper triangular (the Cholesky factor of Λ with its axes reversed), so that
        # Λ⁻¹ = L Lᵀ with L = U⁻ᵀ lower triangular: no inverse is factorized.
        upper = torch.linalg.cholesky(self._precision().flip(0, 1)).flip(0, 1)
        eye = torch.eye(self.latent_size, dtype=upper.dtype, device=upper.device)
        tril = torch.linalg.solve_triangular(upper.T, eye, upper=False)
        scaled = self.weight.double() / self.noise_variance().double()[:, None]
        projected = (self._inside(x).double() - self.bias.double()) @ scaled
        return projected @ tril @ tril.T, tril


def _covariance_sum(posterior: Posterior) -> Tensor:
    """Σ_n Cov_q[z_n] [H, H] in float64."""
    if isinstance(posterior, FullGaussianPosterior):
        tril = posterior.scale_tril
        if tril.stride(0) == 0:  # one matrix for every datum, as the exact posterior has it
            one = tril[0].double()
            return len(tril) * (one @ one.T)
        flat = tril.double().transpose(0, 1).flatten(1)  # [H, B·H]: Σ_n L_n L_nᵀ as one product
        return flat @ flat.T
    if isinstance(posterior, DiagonalGaussianPosterior):
        return (2 * posterior.log_scale.double()).exp().sum(0).diag()
    raise VemError(
        "the linear-Gaussian M-step needs a Gaussian q with a known covariance, not "
        f"{type(posterior).__name__}: take family=full_gaussian or family=diagonal_gaussian."
    )
