"""The phases of Algorithm 7: passes that move only λ, then passes that move only θ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vem.errors import at_least


class Alternation:
    """Which of λ and θ moves, and when that changes.

    A phase ends when the mean bound of a pass exceeds that of the pass before by less than ``tolerance``
    nats per datum, or after ``max_passes``. Everything has converged when a cycle of both phases raised it
    by less than ``tolerance``.
    """

    def __init__(self, tolerance: float, max_passes: int) -> None:
        at_least(tolerance, 0, "strategy.tolerance")
        at_least(max_passes, 1, "strategy.max_passes")
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

    def moves_rows(self, m_steps: int) -> bool:
        """Whether this pass moves λ (always, where θ is frozen)."""
        return self.phase == "rows" or m_steps == 0

    def add(self, value: Tensor) -> None:
        """Count the bound [B] of a batch; stays on the device."""
        self.total += value.sum()
        self.count += value.numel()

    def end_pass(self) -> bool:
        """Close a pass; True = converged."""
        mean = float(self.total) / max(self.count, 1)
        self.total.zero_()
        self.count = 0
        self.passes += 1
        gained = float("inf") if self.last is None else mean - self.last
        self.last = mean
        if gained >= self.tolerance and self.passes < self.max_passes:
            return False
        converged = False
        if self.phase == "theta":
            converged = self.cycle is not None and mean - self.cycle < self.tolerance
            self.cycle = mean
        self.phase = "theta" if self.phase == "rows" else "rows"
        self.passes, self.last = 0, None
        return converged

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        names = ("phase", "passes", "last", "cycle", "total", "count")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put everything back."""
        for name, value in state.items():
            if name == "total":
                self.total.copy_(value)
            else:
                setattr(self, name, value)
