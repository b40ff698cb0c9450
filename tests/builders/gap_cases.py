"""Splits measured by hand: a linear-Gaussian model with a stand-in for an encoder, whose gaps have closed forms."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.contracts import Batch, LogMarginal, Posterior
from vem.evaluation.elbo import SplitScores, score, spread
from vem.evaluation.measured import MC_VARIANCE, FamilyScores, Measured
from vem.families.gaussian import DiagonalGaussianPosterior
from vem.models.linear_gaussian import LinearGaussian
from vem.noise import fill, generator


def family(elbo: Tensor, mc_variance: Tensor | None = None, **fields: Tensor) -> FamilyScores:
    """A converged search that found ``elbo``."""
    zero = torch.zeros_like(elbo)
    noise = zero if mc_variance is None else mc_variance
    plain = dict.fromkeys(("certificate", "certificate_variance", "start_spread", "gradient_norm"), zero)
    return FamilyScores(
        **{"elbo": elbo, "mc_variance": noise, "steps": zero + 100, "converged": zero + 1, **plain} | fields
    )


def by_hand(
    elbo: Tensor | None, best: Tensor | None = None, low: Tensor | None = None, high: Tensor | None = None,
    rich: Tensor | None = None, noise: Tensor | None = None, gap_name: str = "amortization", **diagnostics: Tensor,
) -> Measured:  # fmt: skip
    """Numbers [N] as one split; ``best`` is of the diagonal family, ``rich`` of the full one."""
    given = next(v for v in (elbo, best, low) if v is not None)
    noise = torch.zeros_like(given) if noise is None else noise
    scores = SplitScores(
        torch.arange(len(given)), elbo, elbo, elbo, noise, None, "no density" if elbo is None else None
    )
    families = {} if best is None else {"diagonal_gaussian": family(best, noise)}
    families |= {} if rich is None else {"full_gaussian": family(rich, noise)}
    bound = None
    if low is not None:
        bound = LogMarginal(low, high, "by hand", {MC_VARIANCE: torch.zeros_like(low), **diagnostics})
    return Measured(scores, families, None if best is None else "diagonal_gaussian", gap_name, bound, {})


class Case(NamedTuple):
    """An affine encoder: mean off the posterior's by A (x − b) + c, scales those of the best q times e^d."""

    model: LinearGaussian
    slope: Tensor  # A [H, D]
    shift: Tensor  # c [H]
    stretch: Tensor  # d [H]

    def posterior(self, x: Tensor) -> DiagonalGaussianPosterior:
        best = self.model.best_diagonal(x)
        location = best.location + (x - self.model.bias) @ self.slope.T + self.shift
        return DiagonalGaussianPosterior(location, best.log_scale + self.stretch)

    def precision(self) -> Tensor:
        return self.model._precision()

    def amortization(self) -> float:
        """E_x[L[q*] − L[q]] = ½ E[δᵀΛδ] + ½ Σ (e^{2d} − 2d − 1), the expectation over p(x) = N(b, WWᵀ + Ψ)."""
        weight, precision = self.model.weight, self.precision()
        covariance = weight @ weight.T + self.model.noise_variance().diag()
        mean_square = (self.slope.T @ precision @ self.slope * covariance).sum() + self.shift @ precision @ self.shift
        return float(0.5 * (mean_square + (torch.expm1(2 * self.stretch) - 2 * self.stretch).sum()))

    def approximation(self) -> float:
        """½ (Σ log Λ_ii − log det Λ), the same for every x."""
        precision = self.precision()
        return float(0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)))

    def data(self, num: int, seed: int) -> Tensor:
        stream = generator("cpu", seed, "data")
        return self.model.sample(fill(self.model.sample_noise(num), stream, self.shift.dtype))[1]


def case(latent: int = 3, dims: int = 6, off: float = 0.1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Case:
    """A random model and an encoder that is ``off`` by so much."""
    stream = generator("cpu", seed, "case")
    model = LinearGaussian((dims,), latent).to(dtype).requires_grad_(False)
    model.weight.copy_(torch.randn(dims, latent, generator=stream))
    model.bias.copy_(torch.randn(dims, generator=stream))
    model.log_noise.fill_(-1.0)
    slope, shift, stretch = (torch.randn(*s, generator=stream) for s in ((latent, dims), (latent,), (latent,)))
    return Case(model, *(off * v.to(dtype) for v in (slope, shift, 2 * stretch)))


def diagonal(mean: Tensor, scale: float) -> DiagonalGaussianPosterior:
    """N(mean, scale² I)."""
    return DiagonalGaussianPosterior(mean, torch.full_like(mean, math.log(scale)))


class Fixed:
    """A strategy whose q is a given function of x."""

    def __init__(
        self, infer: Any, family: Any = None, gap_name: str = "amortization", no_elbo: str | None = None
    ) -> None:
        self.find, self.family, self.gap_name, self.no_elbo = infer, family, gap_name, no_elbo

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, Any]:
        return {}

    def infer(self, model: Any, batch: Batch, noise: Any) -> Posterior:
        return self.find(batch.x)


def scored(model: LinearGaussian, infer: Any, x: Tensor, draws: int, seed: int, name: str = "test") -> SplitScores:
    """The estimator that every run uses, on all of x in one batch."""
    return score(
        model, Fixed(infer), x, spread(len(x), len(x)),
        training_rows=False, draws=draws, seed=seed, name=name, batch_size=len(x),
    )  # fmt: skip


def measure(of: Case, x: Tensor, draws: int = 8, seed: int = 0) -> Measured:
    """L[q], L[q*] on noise of their own, and the exact log p(x)."""
    q = scored(of.model, of.posterior, x, draws, seed)
    best = scored(of.model, of.model.best_diagonal, x, draws, seed, "best")
    found = family(best.elbo, best.mc_variance)
    return Measured(q, {"diagonal_gaussian": found}, "diagonal_gaussian", "amortization", None, {})


def part(of: Measured, low: int, high: int) -> Measured:
    """Rows low … high − 1."""

    def cut(values: Any) -> Any:
        return values[low:high] if isinstance(values, Tensor) else values

    scores = SplitScores(*map(cut, of.scores))
    families = {name: FamilyScores(*map(cut, found)) for name, found in of.families.items()}
    return of._replace(scores=scores, families=families)
