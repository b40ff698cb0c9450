"""p(x | z): what a decoder's output means. Normalized densities, summed over the event."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vem.contracts import NoiseSpec
from vem.errors import BadArgument, choice, positive
from vem.models.units import Units


class Bernoulli(nn.Module):
    """p(x | z) = Π_i σ(l_i)^x_i (1 − σ(l_i))^(1 − x_i); the decoder's output are the logits l."""

    kind = "binary"
    units: Units | None = None  # 0 and 1 have none

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = event_shape

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z): x [B, *X], output [S, B, *X] → [S, B]."""
        n = len(self.event_shape)
        return bernoulli_log_prob(output.flatten(-n), x.flatten(-n))

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z] = σ(l)."""
        return output.sigmoid()

    def sample_noise(self, num: int) -> NoiseSpec:
        """Uniform, one number a pixel."""
        return NoiseSpec("uniform", (num, *self.event_shape))

    def sample(self, output: Tensor, noise: Tensor) -> Tensor:
        """x = 1[u < σ(l)]."""
        return (noise < output.sigmoid()).to(output.dtype)

    def bias(self, mean: Tensor) -> Tensor:
        """The output that gives this mean of x, kept away from 0 and 1."""
        return mean.clamp(0.01, 0.99).logit()

    def notes(self) -> list[str]:
        return []


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Σ_i [x_i l_i − log(1 + e^l_i)]: logits [..., D], x broadcastable [..., D] → [...].

    Finite for every finite logit.
    """
    # The library's own forward and backward are one kernel each, faster than the same written in tensor operations.
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


class Gaussian(nn.Module):
    """p(x | z) = N(x; m, σ² I) with one σ for all of x, learned or fixed; the decoder's output is the mean m.

    A learned σ has a floor, for the density of a perfect fit has no upper limit; reaching it is in
    :meth:`notes`. σ = floor + softplus(raw).

    With ``units`` the density is taken there: log N(u(x); u(m), σ² I) − Σ_i log scale_i. A learned σ and its floor
    are in these units (σ_i = σ · scale_i), a fixed σ is in those of x, and so is the output of a decoder that does
    not speak them (``spoken = False``).
    """

    kind = "real"

    def __init__(
        self,
        event_shape: tuple[int, ...],
        scale: str | float = "learned",
        scale_floor: float = 0.01,
        units: Units | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.size = math.prod(event_shape)
        self.units = units
        self.spoken = True
        self.scale_floor = float(scale_floor)
        if isinstance(scale, str) and scale != "learned":
            raise BadArgument("scale", f"={scale!r} is not known: take 'learned' or a positive number.")
        self.fixed = None if isinstance(scale, str) else float(scale)
        if self.fixed is not None and not self.fixed > 0:
            raise BadArgument("scale", f"={self.fixed} must be positive: a Gaussian likelihood needs some width.")
        if self.fixed is None:
            positive(self.scale_floor, "scale_floor", ": a learned σ would run to zero.")
            self.raw_scale = nn.Parameter(torch.zeros(()))

    def scale(self) -> Tensor | float:
        """σ in the units of x: a scalar, or [*X] where each column has its own."""
        if self.fixed is not None:
            return self.fixed
        return self._learned() if self.units is None else self.units.scale * self._learned()

    def _learned(self) -> Tensor:
        return self.scale_floor + F.softplus(self.raw_scale)

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z): x [B, *X], output [S, B, *X] → [S, B]."""
        # What divides the residual, and the mean over the columns of log σ in the units of x.
        scale, log_scale = self._scales()
        if self.units is not None:
            x, output = self.units(x), output if self.spoken else self.units(output)
        n = len(self.event_shape)
        square = ((x - output) / scale).square().flatten(-n).sum(-1)
        return -0.5 * square - self.size * (log_scale + 0.5 * math.log(2 * math.pi))

    def _scales(self) -> tuple[Tensor | float, Tensor | float]:
        if self.fixed is not None:
            return self.fixed if self.units is None else self.fixed / self.units.scale, math.log(self.fixed)
        scale = self._learned()
        return scale, scale.log() if self.units is None else scale.log() + self.units.mean_log_scale()

    def mean(self, output: Tensor) -> Tensor:
        """E[x | z] = m."""
        return output if self.units is None or not self.spoken else self.units.back(output)

    def sample_noise(self, num: int) -> NoiseSpec:
        """Normal, one number a pixel."""
        return NoiseSpec("normal", (num, *self.event_shape))

    def sample(self, output: Tensor, noise: Tensor) -> Tensor:
        """x = m + σ ε."""
        return self.mean(output) + self.scale() * noise

    def bias(self, mean: Tensor) -> Tensor:
        """The output that gives this mean of x."""
        return mean if self.units is None or not self.spoken else self.units(mean)

    def start_scale(self, scale: Tensor) -> None:
        """Set a learned σ to ``scale`` (a scalar, in the units if there are some), at least twice the floor."""
        if self.fixed is None:
            excess = (scale - self.scale_floor).clamp_min(self.scale_floor)
            with torch.no_grad():
                self.raw_scale.copy_(excess + torch.log(-torch.expm1(-excess)))

    @torch.no_grad()
    def notes(self) -> list[str]:
        """Says so when the learned σ has come within 5 % of its floor."""
        if self.fixed is not None or float(self._learned()) >= 1.05 * self.scale_floor:
            return []
        return [
            f"the learned Gaussian scale reached its floor {self._floor()}: the ELBO depends on that floor. "
            "Binarize the data, fix model.scale, or lower model.scale_floor knowingly."
        ]

    def _floor(self) -> str:
        """The floor in the units of x, and what it is made of."""
        if self.units is None:
            return f"{self.scale_floor}"
        if self.units.by_column:
            return f"{self.scale_floor} (model.scale_floor) times each column's own"
        scale = float(self.units.scale)
        return f"{self.scale_floor * scale:.4g} (model.scale_floor={self.scale_floor} of the data's spread {scale:.4g})"


def make_likelihood(
    name: str, event_shape: tuple[int, ...], scale: str | float, scale_floor: float, units: Units | None = None
) -> Bernoulli | Gaussian:
    """The likelihood of that name; a Bernoulli has no units.

    Raises:
        VemError: the name is not known.
    """
    if choice(name, ("bernoulli", "gaussian"), "likelihood") == "bernoulli":
        return Bernoulli(event_shape)
    return Gaussian(event_shape, scale, scale_floor, units)
