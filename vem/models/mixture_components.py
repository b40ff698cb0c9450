"""p(x | z = k) of a mixture: Bernoulli, and Gaussian with four kinds of covariance.

Axes: x [B, D], K components. What expands a square (x² − 2xμ + μ²) does so in float64 about the centre of
the data: in float32 the terms cancel, by whole nats where a variance is small. Statistics are float64 too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vem.errors import BadArgument, choice
from vem.families.gaussian import LOG_2PI
from vem.models.variance import covariance_factor, floored, log_excess

# With less weight than this the data say nothing of a component, and the M-step leaves it where it is.
NO_WEIGHT = 1e-8


class Components(nn.Module, ABC):
    """K densities of x with the pieces that EM needs."""

    noise_kind: Literal["normal", "uniform"] = "normal"

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """log p(x | k) [B, K] for x [B, D]."""

    @abstractmethod
    def means(self) -> Tensor:
        """E[x | k] [K, D]."""

    @abstractmethod
    def sample(self, k: Tensor, noise: Tensor) -> Tensor:
        """x [S, D] from the components k [S] and noise [S, D] of ``noise_kind``."""

    @abstractmethod
    def statistics(self, x: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Sums over the batch, weighted by r [B, K] (float64)."""

    @abstractmethod
    def maximize(self, count: Tensor, statistics: Mapping[str, Tensor]) -> None:
        """M-step from the summed statistics and Σ_n r_nk [K]."""

    def set_center(self, mean: Tensor) -> None:
        """Take the mean of the data [D] as the point about which squares are expanded."""

    def notes(self, relative: bool = False) -> list[str]:
        """What a reader of the result must know; ``relative``: x is standardized."""
        return []


class BernoulliComponents(Components):
    """p(x | k) = Π_d p_kd^x_d (1 − p_kd)^(1 − x_d); the parameter are the logits [K, D].

    The M-step keeps p within [floor, 1 − floor], which is the constrained maximum: a pixel that was never
    on in training would otherwise give held-out data a density of zero.
    """

    noise_kind = "uniform"

    def __init__(self, components: int, size: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.logits = nn.Parameter(torch.zeros(components, size))

    def log_density(self, x: Tensor) -> Tensor:
        return x @ self.logits.T - F.softplus(self.logits).sum(1)

    def means(self) -> Tensor:
        return self.logits.sigmoid()

    def sample(self, k: Tensor, noise: Tensor) -> Tensor:
        return (noise < self.means()[k]).to(noise.dtype)

    def statistics(self, x: Tensor, r: Tensor) -> dict[str, Tensor]:
        return {"sum": r.T @ x.double()}

    def maximize(self, count: Tensor, statistics: Mapping[str, Tensor]) -> None:
        p = statistics["sum"] / count.clamp_min(NO_WEIGHT)[:, None]
        _update(self.logits, p.clamp(self.floor, 1 - self.floor).logit(), count)


class GaussianComponents(Components):
    """What the four kinds of Gaussian share: means [K, D], and variances (pivots) floor + exp(raw)."""

    center: Tensor
    raw_variance: nn.Parameter

    def __init__(self, components: int, size: int, floor: float, regularize: float) -> None:
        super().__init__()
        self.floor = floor
        self.regularize = regularize
        self.mean = nn.Parameter(torch.zeros(components, size))
        self.register_buffer("center", torch.zeros(size))

    def means(self) -> Tensor:
        return self.mean

    def set_center(self, mean: Tensor) -> None:
        self.center.copy_(mean)

    def centered(self, x: Tensor) -> Tensor:
        """x − center in float64."""
        return x.double() - self.center.double()

    @abstractmethod
    def second_moment(self, x: Tensor, r: Tensor) -> Tensor:
        """Σ_n r_nk x_n x_nᵀ, or as much of it as the kind of covariance needs; x centred, float64."""

    @abstractmethod
    def set_covariance(self, count: Tensor, mean: Tensor, second: Tensor) -> None:
        """M-step of the covariances; mean [K, D] about the centre, second as accumulated."""

    def principal_variances(self) -> Tensor:
        """The variances [K, D], or as many as there are, along the axes of each covariance: what the floor is for."""
        return floored(self.raw_variance, self.floor)

    def statistics(self, x: Tensor, r: Tensor) -> dict[str, Tensor]:
        x = self.centered(x)
        return {"sum": r.T @ x, "second": self.second_moment(x, r)}

    def maximize(self, count: Tensor, statistics: Mapping[str, Tensor]) -> None:
        mean = statistics["sum"] / count.clamp_min(NO_WEIGHT)[:, None]
        _update(self.mean, mean + self.center.double(), count)
        self.set_covariance(count, mean, statistics["second"])

    def notes(self, relative: bool = False) -> list[str]:
        found = self.principal_variances()
        low = int((found < 1.05 * self.floor).sum())
        if not low:
            return []
        of = " of their column's variance" if relative else ""
        return [
            f"{low} of {found.numel()} variances of the mixture reached their floor "
            f"{self.floor:g}{of}, so log p(x) depends on that floor. Take fewer components or a simpler "
            "model.covariance, drop constant dimensions, or set model.variance_floor knowingly."
        ]


class DiagonalComponents(GaussianComponents):
    """Covariances diag(σ²_k); no [K, B, D] temporary."""

    spherical = False  # one variance for all columns

    def __init__(self, components: int, size: int, floor: float, regularize: float) -> None:
        super().__init__(components, size, floor, regularize)
        self.raw_variance = nn.Parameter(torch.zeros(components, 1 if self.spherical else size))

    def variance(self) -> Tensor:
        """σ² [K, D]."""
        return floored(self.raw_variance, self.floor).expand(self.mean.shape)

    def log_density(self, x: Tensor) -> Tensor:
        z, mean = self.centered(x), self.centered(self.mean)
        precision = self.variance().double().reciprocal()
        square = z.square() @ precision.T - 2 * z @ (mean * precision).T + (mean.square() * precision).sum(1)
        log_det = -precision.log().sum(1)
        return (-0.5 * (square + log_det + x.shape[1] * LOG_2PI)).to(x.dtype)

    def sample(self, k: Tensor, noise: Tensor) -> Tensor:
        return self.mean[k] + self.variance()[k].sqrt() * noise

    def second_moment(self, x: Tensor, r: Tensor) -> Tensor:
        return r.T @ x.square()

    def set_covariance(self, count: Tensor, mean: Tensor, second: Tensor) -> None:
        variance = second / count.clamp_min(NO_WEIGHT)[:, None] - mean.square()
        if self.spherical:
            variance = variance.mean(1, keepdim=True)
        _update(self.raw_variance, log_excess(variance + self.regularize, self.floor), count)


class SphericalComponents(DiagonalComponents):
    """Covariances σ²_k I."""

    spherical = True


class FullComponents(GaussianComponents):
    """Covariances Σ_k = L_k L_kᵀ: L = the strict lower triangle of ``lower`` and √pivots on its diagonal.

    The M-step clips the eigenvalues of Σ_k at the floor: the maximum among covariances ⪰ floor · I.
    """

    tied = False  # one covariance for all components

    def __init__(self, components: int, size: int, floor: float, regularize: float) -> None:
        super().__init__(components, size, floor, regularize)
        matrices = 1 if self.tied else components
        self.raw_variance = nn.Parameter(torch.zeros(matrices, size))
        self.lower = nn.Parameter(torch.zeros(matrices, size, size))

    def scale_tril(self) -> Tensor:
        """L [K, D, D] ([1, D, D] where it is shared)."""
        pivots = floored(self.raw_variance, self.floor).sqrt()
        return self.lower.tril(-1) + pivots.diag_embed()

    def principal_variances(self) -> Tensor:
        # Not the pivots, which may all be above the floor where an eigenvalue is not. The singular values of L lose
        # half as many digits as the eigenvalues of L Lᵀ.
        return torch.linalg.svdvals(self.scale_tril().double()).square()

    def log_density(self, x: Tensor) -> Tensor:
        residual = x - self.mean[:, None]  # [K, B, D]
        white = torch.linalg.solve_triangular(self.scale_tril().to(x.dtype), residual.mT, upper=False)
        return self._log_density(white.square().sum(1).T, x.shape[1])

    def _log_density(self, square: Tensor, size: int) -> Tensor:
        log_det = floored(self.raw_variance, self.floor).log().sum(1)
        return -0.5 * (square + log_det + size * LOG_2PI)

    def sample(self, k: Tensor, noise: Tensor) -> Tensor:
        x = self.mean[k]
        for i, tril in enumerate(self.scale_tril()):  # a gathered L would be [S, D, D]
            x = torch.where((k == i)[:, None], x + noise @ tril.T, x)
        return x

    def second_moment(self, x: Tensor, r: Tensor) -> Tensor:
        return torch.stack([(x * weight[:, None]).T @ x for weight in r.T])

    def set_covariance(self, count: Tensor, mean: Tensor, second: Tensor) -> None:
        outer = mean[:, :, None] * mean[:, None]
        self.set_matrices(second / count.clamp_min(NO_WEIGHT)[:, None, None] - outer, count)

    def set_matrices(self, covariance: Tensor, count: Tensor) -> None:
        """Take these covariances [K, D, D] where their component has weight."""
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        lower, raw = covariance_factor(covariance + self.regularize * eye, self.floor)
        _update(self.lower, lower, count)
        _update(self.raw_variance, raw, count)


class TiedComponents(FullComponents):
    """One covariance Σ for all components: x is whitened once."""

    tied = True

    def log_density(self, x: Tensor) -> Tensor:
        tril = self.scale_tril()[0].double()
        both = torch.cat([self.centered(x), self.centered(self.mean)])
        white = torch.linalg.solve_triangular(tril, both.T, upper=False).T
        z, mean = white[: len(x)], white[len(x) :]
        square = z.square().sum(1, keepdim=True) - 2 * z @ mean.T + mean.square().sum(1)
        return self._log_density(square, x.shape[1]).to(x.dtype)

    def sample(self, k: Tensor, noise: Tensor) -> Tensor:
        return self.mean[k] + noise @ self.scale_tril()[0].T

    def second_moment(self, x: Tensor, r: Tensor) -> Tensor:
        return x.T @ x  # Σ_k r_nk = 1

    def set_covariance(self, count: Tensor, mean: Tensor, second: Tensor) -> None:
        total = count.sum()
        within = second - (mean * count[:, None]).T @ mean
        self.set_matrices((within / total)[None], total[None])


KINDS: dict[str, type[DiagonalComponents | FullComponents]] = {
    "full": FullComponents, "diagonal": DiagonalComponents, "tied": TiedComponents, "spherical": SphericalComponents
}  # fmt: skip


def make_components(
    likelihood: str, covariance: str, components: int, size: int, floors: tuple[float, float], regularize: float
) -> Components:
    """The components of that likelihood and kind of covariance; floors of (variance, probability).

    Raises:
        VemError: an unknown name, or ``regularize`` with a Bernoulli likelihood.
    """
    kind = KINDS[choice(covariance, tuple(KINDS), "covariance")]
    if choice(likelihood, ("gaussian", "bernoulli"), "likelihood") == "bernoulli":
        if regularize:
            raise BadArgument(
                "regularize",
                f"={regularize} adds to covariances, and a Bernoulli mixture has none: "
                "leave it at 0 and set model.probability_floor.",
            )
        return BernoulliComponents(components, size, floors[1])
    return kind(components, size, floors[0], regularize)


def _update(parameter: nn.Parameter, value: Tensor, count: Tensor) -> None:
    """Write the rows of components that have weight; a dead one keeps its parameters, and no NaN arises."""
    alive = (count > NO_WEIGHT).view(-1, *[1] * (value.dim() - 1))
    parameter.copy_(torch.where(alive, value, parameter.double()))
