"""The phases of Algorithm 7: passes that move only λ, then passes that move only θ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vem.errors import at_least


class Alternation:
    """Which of λ and θ moves, and when that changes.

    A phase ends when the mean bound of a pass exceeds that of the pass before by less than ``tolerance``
    nats per datum, or after ``max_passes``. Everything has converged when a cycle of both phases raised it
    by less than ``tolerance``, and did not lower it by more than noise: twice what a pass falls by where it falls.

    Passes are compared only where they ascend one function: during a warm-up of the KL weight nothing converges.
    """

    def __init__(self, tolerance: float, max_passes: int) -> None:
        at_least(tolerance, 0, "tolerance")
        at_least(max_passes, 1, "max_passes")
        self.tolerance, self.max_passes = tolerance, max_passes
        self.reset(torch.device("cpu"))

    def reset(self, device: torch.device) -> None:
        """Begin with the rows."""
        self.phase = "rows"
        self.passes = 0
        self.last: float | None = None  # the mean bound of the pass before, within this phase
        self.cycle: float | None = None  # that of the last pass of the cycle before
        self.total = torch.zeros((), device=device, dtype=torch.float64 if device.type != "mps" else torch.float32)
        self.count = 0
        self.weight: float | None = None  # the KL weight of the pass before
        self.weights, self.steps = torch.zeros_like(self.total), 0  # of this pass
        self.falls: list[float] = [0.0, 0]  # the sum of squares, and how many

    def moves_rows(self, m_steps: int) -> bool:
        """Whether this pass moves λ (always, where θ is frozen)."""
        return self.phase == "rows" or m_steps == 0

    def add(self, value: Tensor, kl_weight: Tensor) -> None:
        """Count the bound [B] of a batch, and the weight of its KL term; stays on the device."""
        self.total += value.sum()
        self.count += value.numel()
        self.weights += kl_weight
        self.steps += 1

    def end_pass(self) -> bool:
        """Close a pass; True = converged."""
        mean = float(self.total) / max(self.count, 1)
        self.total.zero_()
        self.count = 0
        self.passes += 1
        self._compare_objectives()
        gained = float("inf") if self.last is None else mean - self.last
        if gained < 0:
            self.falls = [self.falls[0] + gained**2, self.falls[1] + 1]
        self.last = mean
        if gained >= self.tolerance and self.passes < self.max_passes:
            return False
        converged = False
        if self.phase == "theta":
            converged = self.cycle is not None and -self._noise() <= mean - self.cycle < self.tolerance
            self.cycle = mean
        self.phase = "theta" if self.phase == "rows" else "rows"
        self.passes, self.last = 0, None
        return converged

    def _compare_objectives(self) -> None:
        """Where the KL weight is another one than in the pass before, forget what was ascended until now."""
        weight = float(self.weights) / max(self.steps, 1)
        if self.weight not in (None, weight):
            self.last = self.cycle = None
            self.falls = [0.0, 0]
        self.weight, self.steps = weight, 0
        self.weights.zero_()

    def _noise(self) -> float:
        total, number = self.falls
        return max(self.tolerance, 2 * math.sqrt(total / number) if number else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        names = ("phase", "passes", "last", "cycle", "total", "count", "weight", "weights", "steps", "falls")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put everything back; one from before has less of it."""
        for name, value in state.items():
            if name in ("total", "weights"):
                getattr(self, name).copy_(value)
            else:
                setattr(self, name, value)
