"""Small models with known answers: what the tests of the instrument measure.

Every maker returns (model, x): the model in ``dtype`` and ``num`` data simulated from it. The exact answers
are float64 tensors [B] on the host, whatever the model's dtype, and are those of the parameters that the model
has after rounding to that dtype.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from scipy import integrate, optimize, special
from torch import Tensor, nn

from vem.contracts import GenerativeModel, NoiseSpec
from vem.families.gaussian import log_standard_normal
from vem.models.linear_gaussian import LinearGaussian
from vem.models.variance import log_excess
from vem.noise import fill, generator


def simulate(model: GenerativeModel, num: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Exact pairs z [num, H] and x [num, *X] from p(x, z)."""
    with torch.no_grad():
        return model.sample(fill(model.sample_noise(num), generator("cpu", seed, "simulate"), dtype))


class Oracle(nn.Module):
    """z ~ N(0, I) and x = decode(z) + s · noise: what the models here have in common; the parts are overridden."""

    prior_kind = "standard_normal"
    latent: Literal["real", "index"] = "real"
    scale: Any  # s

    def __init__(self, size: int, dims: int | None = None) -> None:
        super().__init__()
        self.latent_size, self.event_shape = size, (size if dims is None else dims,)

    def log_prior(self, z: Tensor) -> Tensor:
        return log_standard_normal(z)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return log_standard_normal((x - self.decode(z)) / self.scale) - x.shape[-1] * self.scale.log()

    def decode(self, z: Tensor) -> Tensor:
        return z

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        sizes = {"z": (num, self.latent_size), "x": (num, *self.event_shape)}
        return {name: NoiseSpec("normal", size) for name, size in sizes.items()}

    def sample(self, noise: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return noise["z"], self.decode(noise["z"]) + self.scale * noise["x"]

    def start(self, x: Tensor, generator: torch.Generator) -> None:
        pass

    def notes(self) -> list[str]:
        return []


def parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


def rotation(size: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix [H, H], float64."""
    normal = torch.randn(size, size, generator=generator("cpu", seed, "rotation"), dtype=torch.float64)
    return torch.linalg.qr(normal)[0]


# --- a Gaussian posterior of known condition


def gaussian_posterior_model(
    condition: float, size: int, seed: int = 0, dtype: torch.dtype = torch.float64, num: int = 20
) -> tuple[LinearGaussian, Tensor]:
    """A linear-Gaussian model whose posterior precision Λ has eigenvalues 1 … ``condition``, axes rotated.

    W = diag(√(eigenvalue − 1)) Rᵀ and unit noise, so that Λ = I + WᵀW = R diag(eigenvalues) Rᵀ, log-spaced.
    Exact answers: model.exact_posterior, model.best_diagonal, and in float64 by ``double_log_marginal`` and
    ``double_best_diagonal_bound``.
    """
    exponents = torch.linspace(0, 1, size, dtype=torch.float64) if size > 1 else torch.ones(1, dtype=torch.float64)
    eigenvalues = condition**exponents
    model = LinearGaussian((size,), size).double()
    with torch.no_grad():
        model.weight.copy_((eigenvalues - 1).sqrt()[:, None] * rotation(size, seed).T)
        model.bias.copy_(torch.linspace(-1, 1, size))
        model.log_noise.copy_(log_excess(torch.ones(()), model.noise_floor))
    model = model.to(dtype)
    return model, simulate(model, num, seed, dtype)[1]


def double_log_marginal(model: LinearGaussian, x: Tensor) -> Tensor:
    """log p(x) [B] in float64, of the parameters as they are."""
    with torch.no_grad():
        return copy.deepcopy(model).double().log_marginal(x.double())


def double_best_diagonal_bound(model: LinearGaussian, x: Tensor) -> Tensor:
    """L[q*] [B] of the best diagonal q in float64, of the parameters as they are."""
    with torch.no_grad():
        return copy.deepcopy(model).double().best_diagonal_bound(x.double())


# --- a posterior that is a product


class FactorizedBernoulli(Oracle):
    """u = R z, x_i ~ Bernoulli(σ(a u_i + b_i)), z ~ N(0, I): p(u | x) is a product of 1-D posteriors.

    Without a rotation the best diagonal Gaussian is the product of the best 1-D Gaussians; with one, the best
    full Gaussian is that product, rotated (its L is ``best_bound`` either way).
    """

    def __init__(self, slope: float, bias: Tensor, turn: Tensor | None = None) -> None:
        super().__init__(len(bias))
        self.slope = nn.Parameter(torch.full_like(bias, slope))
        self.bias = nn.Parameter(bias.clone())
        self.register_buffer("turn", turn)

    def logits(self, z: Tensor) -> Tensor:
        """a u + b [..., H]."""
        return self.slope * (z if self.turn is None else z @ self.turn.T) + self.bias

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return nn.functional.logsigmoid((2 * x - 1) * self.logits(z)).sum(-1)

    def decode(self, z: Tensor) -> Tensor:
        return self.logits(z).sigmoid()

    def sample_noise(self, num: int) -> dict[str, NoiseSpec]:
        shape = (num, self.latent_size)
        return {"z": NoiseSpec("normal", shape), "x": NoiseSpec("uniform", shape)}

    def sample(self, noise: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return noise["z"], (noise["x"] < self.decode(noise["z"])).to(noise["z"])

    def log_marginal_exact(self, x: Tensor) -> Tensor:
        """log p(x) [B]: the product of H 1-D integrals, by scipy.integrate.quad."""
        return self._cases(x, _log_factor).sum(-1)

    def best_bound(self, x: Tensor) -> Tensor:
        """L[q*] [B] of the best product of Gaussians in u, by 1-D quadrature and scipy.optimize."""
        return self._cases(x, lambda a, b: _best_gaussian(a, b)[2]).sum(-1)

    def best_gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation [B, H] of that q*, in the coordinates u."""
        mean, scale = self._cases(x, lambda a, b: _best_gaussian(a, b)[:2]).unbind(-1)
        return mean, scale

    def bound_of(self, x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        """L[q] [B] of q(z) = N(mean, covariance), exactly: the likelihood sees one coordinate of u at a time.

        mean [B, H], covariance [B, H, H]; 1-D quadrature in each coordinate, no Monte Carlo.
        """
        mean, covariance = mean.double(), covariance.double()
        turn = torch.eye(self.latent_size).double() if self.turn is None else self.turn.double()
        scale = (turn @ covariance @ turn.T).diagonal(dim1=-2, dim2=-1).sqrt()
        eps = torch.linspace(-10, 10, 2001, dtype=torch.float64)
        weight = (-0.5 * eps**2).softmax(0)
        u = (mean @ turn.T)[..., None] + scale[..., None] * eps
        logits = self.slope.double()[:, None] * u + self.bias.double()[:, None]
        likelihood = (nn.functional.logsigmoid((2 * x.double() - 1)[..., None] * logits) @ weight).sum(-1)
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        kl = 0.5 * (mean.square().sum(-1) + trace - self.latent_size - torch.logdet(covariance))
        return (likelihood - kl).detach()

    def _cases(self, x: Tensor, f: Callable[[float, float], Any]) -> Tensor:
        """f(slope, bias) for every coordinate; x_i = 0 is the mirror image, σ(−(a u + b))."""
        pairs = list(zip(self.slope.tolist(), self.bias.tolist(), strict=True))
        one, zero = (torch.tensor([f(s * a, s * b) for a, b in pairs], dtype=torch.float64) for s in (1, -1))
        return torch.where(x.bool() if one.dim() == 1 else x.bool()[..., None], one, zero)


def factorized_bernoulli(
    slope: float, size: int, dtype: torch.dtype = torch.float64, rotation: Tensor | None = None, seed: int = 0,
    num: int = 20, bias_scale: float = 0.0,
) -> tuple[FactorizedBernoulli, Tensor]:  # fmt: skip
    """The factorized Bernoulli model, b = slope · bias_scale · N(0, 1); ``rotation`` [H, H] takes z to u."""
    normal = torch.randn(size, generator=generator("cpu", seed, "bias"), dtype=torch.float64)
    model = FactorizedBernoulli(slope, slope * bias_scale * normal, rotation).to(dtype)
    return model, simulate(model, num, seed, dtype)[1]


@cache
def _log_factor(a: float, b: float) -> float:
    """log ∫ N(u) σ(a u + b) du."""
    kink = min(max(-b / a, -11.0), 11.0)
    ends = [-12.0, kink - 0.5, kink, kink + 0.5, 12.0]
    return _log_integral(lambda u: -0.5 * u * u + special.log_expit(a * u + b), ends)


@cache
def _best_gaussian(a: float, b: float) -> tuple[float, float, float]:
    """The mean, the standard deviation and the L of the best Gaussian for N(u) σ(a u + b).

    L(m, s) = E[log σ(a u + b)] − KL is concave in (m, s) (Challis and Barber, 2013): one maximum.
    """
    eps = np.linspace(-12, 12, 4801)
    weight = np.exp(-0.5 * eps**2)
    weight /= weight.sum()

    def negative(p):
        m, s = p[0], math.exp(p[1])
        logit = a * (m + s * eps) + b
        value = weight @ special.log_expit(logit) - 0.5 * (m * m + s * s - 1) + p[1]
        slope = weight * a * special.expit(-logit)
        return -value, -np.array([slope.sum() - m, s * (slope @ eps) - s * s + 1])

    found = optimize.minimize(negative, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9})
    assert np.abs(found.jac).max() < 1e-6, found
    return float(found.x[0]), math.exp(found.x[1]), -float(found.fun)


def _log_integral(log_f: Callable[[Any], Any], ends: list[float]) -> float:
    """log ∫ exp(log_f(u)) du / √2π, piece by piece between the ends."""
    top = float(np.max(log_f(np.linspace(ends[0], ends[-1], 4001))))
    pieces = [
        integrate.quad(lambda u: math.exp(log_f(u) - top), *ab, epsabs=1e-14, epsrel=1e-11, limit=500)[0]
        for ab in pairwise(ends)
    ]
    return top + math.log(sum(pieces)) - 0.5 * math.log(2 * math.pi)


# --- a posterior that is a shell


class Shell(Oracle):
    """x ~ N(|z|², s² I): all that x says of z is its length, where a normal's draws differ and matched ones may not."""

    def __init__(self, size: int, scale: float) -> None:
        super().__init__(size, 1)
        self.scale = parameter(scale)

    def decode(self, z: Tensor) -> Tensor:
        return z.square().sum(-1, keepdim=True)

    def bound_of(self, x: Tensor, params: Tensor) -> Tensor:
        """L[q] [B] of the diagonal Gaussian λ = (mean, log scale) [B, 2H]: var z² = 4 m² s² + 2 s⁴ in closed form."""
        mean, log_scale = params.double().chunk(2, -1)
        second = mean.square() + (2 * log_scale).exp()
        spread = 4 * mean.square() * (2 * log_scale).exp() + 2 * (4 * log_scale).exp()
        scale = self.scale.double()
        square = (second.sum(-1) - x[:, 0].double()).square() + spread.sum(-1)
        likelihood = -0.5 * square / scale.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return likelihood + (log_scale - 0.5 * second + 0.5).sum(-1)

    def best_params(self, x: Tensor, start: Tensor) -> Tensor:
        """λ [B, 2H] of the local optimum above ``start``, by scipy.optimize on the closed form."""
        found = []
        for datum, params in zip(x[:, None], start, strict=True):

            def negative(p, datum: Tensor = datum):
                leaf = torch.as_tensor(p).requires_grad_()
                with torch.enable_grad():
                    (value,) = -self.bound_of(datum, leaf[None])
                    (gradient,) = torch.autograd.grad(value, leaf)
                return value.item(), gradient.numpy()

            best = optimize.minimize(negative, params.double().numpy(), jac=True, method="L-BFGS-B", tol=1e-12)
            found.append(torch.as_tensor(best.x))
        return torch.stack(found)


# --- posteriors with several modes


class Bimodal(Oracle):
    """H = 2, x | z ~ N((z₁² + t z₁, z₂ + ½ z₁), s² I): two modes in z₁ where x₁ > 0, of equal mass at t = 0, x₂ = 0.

    With x₁ = z₁² + t z₁ the modes lie near z₁ = −t/2 ± √(x₁ + t²/4); their widths are about s / |2 z₁ + t|.
    """

    def __init__(self, tilt: float, scale: float) -> None:
        super().__init__(2)
        self.tilt, self.scale = parameter(tilt), parameter(scale)

    def decode(self, z: Tensor) -> Tensor:
        one, two = z.unbind(-1)
        return torch.stack([one.square() + self.tilt * one, two + 0.5 * one], -1)

    def modes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two points near the modes, each [B, 2]: the left and the right solution of E[x | z] = x."""
        half = (x[:, 0] + self.tilt.square() / 4).clamp_min(0).sqrt()
        roots = [-self.tilt / 2 - half, -self.tilt / 2 + half]
        left, right = (torch.stack([r, x[:, 1] - 0.5 * r], -1).detach() for r in roots)
        return left, right

    def log_marginal_exact(self, x: Tensor) -> Tensor:
        """log p(x) [B]: z₂ in closed form, z₁ by scipy.integrate.quad."""
        return self.log_mass(x, -12.0, 12.0)

    def log_mass(self, x: Tensor, low: float, high: float) -> Tensor:
        """log p(x, low < z₁ < high) [B]: the mass of one mode, in nats."""
        tilt, scale = self.tilt.item(), self.scale.item()
        out = []
        for x1, x2 in x.double().tolist():
            half = math.sqrt(max(x1 + tilt**2 / 4, 0.0))
            width = min(1.0, 12 * scale / max(2 * half, math.sqrt(scale)))
            points = [-tilt / 2 + side * half + end * width for side in (-1, 1) for end in (-1, 0, 1)]

            def log_joint(z: Any, x1: float = x1, x2: float = x2) -> Any:
                log_x1 = -0.5 * ((x1 - z * z - tilt * z) / scale) ** 2 - math.log(scale)
                log_x2 = -0.5 * (x2 - 0.5 * z) ** 2 / (1 + scale**2) - 0.5 * math.log(1 + scale**2)
                return log_x1 + log_x2 - 0.5 * z * z - math.log(2 * math.pi)

            out.append(_log_integral(log_joint, sorted({low, high, *(p for p in points if low < p < high)})))
        return torch.tensor(out, dtype=torch.float64)


def bimodal(
    tilt: float = 0.0, scale: float = 0.3, dtype: torch.dtype = torch.float64, seed: int = 0, num: int = 20
) -> tuple[Bimodal, Tensor]:
    """The model of two modes."""
    model = Bimodal(tilt, scale).to(dtype)
    return model, simulate(model, num, seed, dtype)[1]


LINE = torch.linspace(-9, 9, 180_001, dtype=torch.float64)


class Coordinates(Oracle):
    """x_i = f(z_i) + σ ε_i, z ~ N(0, I): p(x) is a product of integrals over one coordinate."""

    def __init__(self, size: int, f: Callable[[Tensor], Tensor] = torch.abs, scale: Any = 0.1) -> None:
        super().__init__(size)
        self.decode = f  # type: ignore[method-assign]
        self.scale = scale if callable(scale) else lambda z: torch.full_like(z, scale)

    def terms(self, x: Tensor, z: Tensor) -> Tensor:
        scale = self.scale(z)
        return -0.5 * ((x - self.decode(z)) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return self.terms(x, z).sum(-1)

    def sample(self, noise: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return noise["z"], self.decode(noise["z"]) + self.scale(noise["z"]) * noise["x"]

    def log_marginal_exact(self, x: Tensor) -> Tensor:
        found = torch.zeros(len(x), dtype=torch.float64)
        for column in x.double().T:
            joint = self.terms(column[:, None], LINE) - 0.5 * LINE.square() - 0.5 * math.log(2 * math.pi)
            found += joint.logsumexp(1) + math.log(float(LINE[1] - LINE[0]))
        return found


class Sphere(Coordinates):
    """x = |z| + σ ε: the posterior is a shell around 0, with no mode at all."""

    def terms(self, x: Tensor, z: Tensor) -> Tensor:
        return super().terms(x, z.norm(dim=-1, keepdim=True))

    def log_marginal_exact(self, x: Tensor) -> Tensor:
        """By the radius, which has a chi distribution."""
        r, h = LINE[LINE > 0], self.latent_size
        chi = (h - 1) * r.log() - 0.5 * r.square() - (0.5 * h - 1) * math.log(2) - math.lgamma(0.5 * h)
        joint = Coordinates.terms(self, x.double(), r) + chi
        return joint.logsumexp(1) + math.log(float(LINE[1] - LINE[0]))


# --- another prior


class Shifted(Oracle):
    """z ~ N(40, 5²) in one dimension, x | z ~ N(z, 1): a prior that is not the standard normal."""

    prior_kind = "shifted"

    def __init__(self) -> None:
        super().__init__(1)
        self.scale = torch.ones(())

    def log_prior(self, z: Tensor) -> Tensor:
        return log_standard_normal((z - 40) / 5) - math.log(5)

    def sample(self, noise: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        z = 40 + 5 * noise["z"]
        return z, z + noise["x"]

    def log_marginal_exact(self, x: Tensor) -> Tensor:
        """x ~ N(40, 26)."""
        return log_standard_normal((x - 40) / 26**0.5) - 0.5 * math.log(26)
