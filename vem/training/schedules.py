"""Step-size schedules: a factor on every step size, as a function of the epochs trained so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from vem.errors import BadArgument, at_least


class RateSchedule(Protocol):
    """``epoch`` is a fraction: 2.5 is half way through the third epoch."""

    def __call__(self, epoch: float, epochs: int) -> float:
        """The factor on the step sizes at ``epoch`` of ``epochs``."""


@dataclass(frozen=True)
class Constant:
    """The factor 1."""

    def __call__(self, epoch: float, epochs: int) -> float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Cosine:
    """final + (1 − final) ½ (1 + cos π t), t = epoch / epochs. Source: Loshchilov and Hutter, 2017, eq. 5.

    >>> Cosine()(5, 10)
    0.5
    """

    final: float = 0.0
    hold: float = 0.0  # the share of the epochs at the full rate before the decay starts

    def __post_init__(self) -> None:
        if not 0 <= self.final <= 1:
            raise BadArgument("final", f"={self.final} must lie in [0, 1]: a factor below 0 would descend.")
        if not 0 <= self.hold <= 1:
            raise BadArgument("hold", f"={self.hold} must lie in [0, 1].")

    def __call__(self, epoch: float, epochs: int) -> float:
        """The factor, from 1 down to ``final``."""
        start = self.hold * epochs
        t = min(max(epoch - start, 0.0) / max(epochs - start, 1e-12), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * t))


@dataclass(frozen=True)
class RobbinsMonro:
    """(1 + epoch / half)^(−power): Σ rate = ∞ and Σ rate² < ∞ for ½ < power ≤ 1.

    Raises:
        VemError: a power outside (½, 1]: the steps would stop short or never settle.

    Source: Robbins and Monro, 1951.

    >>> RobbinsMonro(half=10.0, power=1.0)(10, 100)
    0.5
    """

    half: float = 10.0
    power: float = 0.75

    def __post_init__(self) -> None:
        if not 0.5 < self.power <= 1:
            raise BadArgument("power", f"={self.power}: Robbins and Monro need ½ < power ≤ 1.")
        if not self.half > 0:
            raise BadArgument("half", f"={self.half} must be a positive number of epochs.")

    def __call__(self, epoch: float, epochs: int) -> float:
        """The factor."""
        return float((1 + epoch / self.half) ** -self.power)


@dataclass(frozen=True)
class Stepwise:
    """10^(−i/7) for 3^i · unit epochs, i = 0, 1, …: with unit 1, the 3280 epochs of i = 0 … 7.

    The last level goes on for as long as training does. Source: Burda et al., 2016, section 5.

    >>> [round(Stepwise()(epoch, 3280), 3) for epoch in (0, 1, 4, 3279)]
    [1.0, 0.72, 0.518, 0.1]
    """

    unit: float = 1.0
    levels: int = 8

    def __post_init__(self) -> None:
        at_least(self.levels, 1, "levels")
        if not self.unit > 0:
            raise BadArgument("unit", f"={self.unit} must be a positive number of epochs.")

    def __call__(self, epoch: float, epochs: int) -> float:
        """The factor."""
        level, end = 0, self.unit
        while epoch >= end and level < self.levels - 1:
            level += 1
            end += 3**level * self.unit
        return float(10 ** (-level / 7))


IWAE = Stepwise  # its name in configs from before
