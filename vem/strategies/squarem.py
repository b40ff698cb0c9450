"""SQUAREM: from two steps of EM a longer one; and how much EM has still to gain."""

from __future__ import annotations

import torch
from torch import Tensor

from vem.contracts import GenerativeModel

# A rise below this share of the tolerance is rounding, whatever the rise before it was.
ROUNDING = 1e-3
GROWTH = 4.0


def flat(model: GenerativeModel) -> Tensor:
    """All parameters in one vector, float64."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


@torch.no_grad()
def put(model: GenerativeModel, theta: Tensor) -> None:
    """Give the model the parameters in the vector."""
    parameters = list(model.parameters())
    for parameter, part in zip(parameters, torch.split(theta, [p.numel() for p in parameters]), strict=True):
        parameter.copy_(part.view_as(parameter))


class Longer:
    """The longer step from θ_0, θ_1, θ_2, three in a row of EM, and how long it may be.

    θ_0 + 2 s r + s² v with r = θ_1 − θ_0, v = θ_2 − θ_1 − r, s = ‖r‖ / ‖v‖ up to ``limit``, which grows fourfold where
    it was reached and the step was good, and shrinks where it was not.

    Source: Varadhan and Roland, 2008, eq. 7–9 (scheme S3), and the step limits of their R package SQUAREM.
    """

    def __init__(self, limit: float = GROWTH) -> None:
        self.limit = limit

    def trial(self, first: Tensor, second: Tensor, third: Tensor) -> Tensor | None:
        """The parameters; None where s ≤ 1, for θ_2 is then as far."""
        r = second - first
        v = third - second - r
        longest = torch.linalg.vector_norm(r) / torch.linalg.vector_norm(v)
        self.reached = bool(longest >= self.limit)  # false for 0 / 0
        step = longest.clamp_max(self.limit)
        return first + 2 * step * r + step.square() * v if bool(step > 1) else None

    def judge(self, good: bool) -> None:
        """Whether the bound gained by the last trial."""
        if not good:
            self.limit = max(self.limit / GROWTH, 2.0)
        elif self.reached:
            self.limit *= GROWTH


def to_come(rise: float, rate: float) -> float:
    """The gain that is left when rises shrink by ``rate`` each: rise · rate / (1 − rate), Aitken's extrapolation.

    >>> to_come(1.0, 0.5), to_come(1.0, 1.5), to_come(-1e-9, 0.5)
    (1.0, inf, 0.0)
    """
    if rise <= 0:
        return 0.0
    return rise * max(rate, 0.0) / (1 - rate) if rate < 1 else float("inf")
