"""How a row moves: from λ and the gradient of its own bound to the next λ.

Every rule is row-wise: datum n's step depends on datum n alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from vem.ascent.lambda_table import Lambdas
from vem.contracts import Family
from vem.errors import BadArgument, VemError, positive


@runtime_checkable
class NaturalFamily(Protocol):
    """A family that knows its natural gradient."""

    def natural_step(self, params: Tensor, gradient: Tensor, rate: Tensor | float, trust: float) -> Tensor:
        """λ [B, P] after one step along the natural gradient, kept within the trust region."""


class Rule(Protocol):
    """An ascent rule for rows."""

    moments: tuple[str, ...]  # the names of what it keeps for each row, each [N, P]

    def __call__(self, family: Family, rows: Lambdas, gradient: Tensor, rate: Tensor | float) -> Lambdas:
        """The rows after one step up; gradient [B, P] of L_n in λ_n, rate multiplies the step size."""


@dataclass(frozen=True)
class Natural:
    """Natural gradient within a trust region: λ ← λ + rate · F(λ)⁻¹ ∇L, F the Fisher information of q_λ.

    For a diagonal Gaussian: μ ← μ + σ · clip(rate · σ ∇_μ L), log σ ← log σ + ½ clip(rate · ∇_{log σ} L).
    The step is measured in units of σ, so one rate fits every datum and every scale of z, and nothing has
    to be remembered between visits that are an epoch apart.

    Source: Amari, 1998; Hoffman et al., 2013, section 2.3; the fixed point of log σ is that of Khan and
    Nielsen, 2018.
    """

    rate: float = 0.2
    trust: float = 1.0
    moments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positive(self.rate, "rate")
        positive(self.trust, "trust")

    def __call__(self, family: Family, rows: Lambdas, gradient: Tensor, rate: Tensor | float) -> Lambdas:
        """One step.

        Raises:
            VemError: the family does not know its natural gradient.
        """
        if not isinstance(family, NaturalFamily):
            raise VemError(
                f"{type(family).__name__} has no natural_step(params, gradient, rate, trust): "
                "add one, or take strategy/rule=adam."
            )
        params = family.natural_step(rows.params, gradient, rate * self.rate, self.trust)
        return rows._replace(params=params, steps=rows.steps + 1)


@dataclass(frozen=True)
class Adam:
    """Adam with moments and a step count for each row.

    A row is visited once an epoch, so slow moments are stale moments: β = (0.5, 0.9) does better than the
    usual (0.9, 0.999). Source: Kingma and Ba, 2015, algorithm 1.
    """

    rate: float = 0.1
    beta1: float = 0.5
    beta2: float = 0.9
    eps: float = 1e-8
    moments: tuple[str, ...] = ("first", "second")

    def __post_init__(self) -> None:
        positive(self.rate, "rate")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise BadArgument(name, f"={getattr(self, name)} must lie in [0, 1).")
        positive(self.eps, "eps")  # a gradient of zero is divided by it

    def __call__(self, family: Family, rows: Lambdas, gradient: Tensor, rate: Tensor | float) -> Lambdas:
        """One step."""
        steps = rows.steps + 1
        first = rows.moments["first"].lerp(gradient, 1 - self.beta1)
        second = rows.moments["second"].lerp(gradient.square(), 1 - self.beta2)
        t = steps[:, None].to(gradient.dtype)
        direction = (first / (1 - self.beta1**t)) / ((second / (1 - self.beta2**t)).sqrt() + self.eps)
        return Lambdas(rows.params + rate * self.rate * direction, {"first": first, "second": second}, steps)


@dataclass(frozen=True)
class SGD:
    """Plain gradient ascent, λ ← λ + rate · ∇L: the step of Algorithms 7 and 8 as the notes write it."""

    rate: float = 0.01
    moments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        positive(self.rate, "rate")

    def __call__(self, family: Family, rows: Lambdas, gradient: Tensor, rate: Tensor | float) -> Lambdas:
        """One step."""
        return rows._replace(params=rows.params + rate * self.rate * gradient, steps=rows.steps + 1)
