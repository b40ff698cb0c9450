"""What the steps say, kept on the device until a record is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vem.contracts import StepInfo
from vem.errors import VemError


class NonFiniteError(VemError):
    """A bound, a term or a gradient is NaN or infinite."""


class Meter:
    """One row of sums over the batch for each step, in one tensor; read once a record.

    A row for each step, rather than one running sum, is what lets :meth:`flush` name the step and the term
    of the first non-finite number without a sync in any step.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = max(capacity, 1)
        self.device = device
        self.names: list[str] | None = None
        self.sums = torch.zeros(0, 0)
        self.sizes: list[int] = []

    def add(self, info: StepInfo, batch_size: int) -> None:
        """Count a step. Tensors [B] are summed, scalars are taken as means over the batch."""
        named: dict[str, Tensor] = {}
        if info.bound is not None:
            named = {"elbo": info.bound.value, **info.bound.terms}
        named.update(info.terms)
        if self.names is None or set(named) - set(self.names):
            self._widen(list(named))
        assert self.names is not None
        row = self.sums[len(self.sizes)]
        if list(named) == self.names:
            row.copy_(torch.stack([v.detach().sum() if v.dim() else v.detach() * batch_size for v in named.values()]))
        else:  # a phase without some of the terms
            row.fill_(math.nan)
            for i, name in enumerate(self.names):
                if name in named:
                    row[i] = named[name].detach().sum() if named[name].dim() else named[name].detach() * batch_size
            self.partial[len(self.sizes)] = [name in named for name in self.names]
        self.sizes.append(batch_size)

    def _widen(self, names: list[str]) -> None:
        old_names, old = self.names or [], self.sums
        self.names = old_names + [n for n in names if n not in old_names]
        if not old_names:
            self.partial: dict[int, list[bool]] = {}
        self.sums = torch.full((self.capacity, len(self.names)), math.nan, device=self.device)
        if old_names:
            self.sums[:, : len(old_names)] = old
            for i in range(len(self.sizes)):
                known = self.partial.get(i, [True] * len(old_names))
                self.partial[i] = known + [False] * (len(self.names) - len(known))

    def full(self) -> bool:
        """Whether another step has no room."""
        return len(self.sizes) >= self.capacity

    def flush(self, first_step: int) -> dict[str, float]:
        """The means over the data since the last flush, and forget them; ``first_step`` numbers row 0.

        Raises:
            NonFiniteError: naming the step and the terms.
        """
        if not self.sizes or self.names is None:
            return {}
        sums = self.sums[: len(self.sizes)].double().cpu()
        present = torch.ones_like(sums, dtype=torch.bool)
        for i, known in self.partial.items():
            present[i] = torch.tensor(known)
        bad = ~torch.isfinite(sums) & present
        if bad.any():
            step = int(bad.any(1).nonzero()[0])
            terms = [name for name, b in zip(self.names, bad[step], strict=True) if b]
            raise NonFiniteError(f"step {first_step + step}: {', '.join(terms)} became NaN or infinite")
        sizes = torch.tensor(self.sizes, dtype=torch.float64)[:, None]
        total = torch.where(present, sums, 0.0).sum(0) / (sizes * present).sum(0)
        means = {name: float(v) for name, v in zip(self.names, total, strict=True) if math.isfinite(float(v))}
        self.sizes, self.partial = [], {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """The steps since the last flush."""
        names = self.names or []
        n = len(self.sizes)
        return {
            "names": list(names), "sums": self.sums[:n].clone() if n else torch.zeros(0, len(names)),
            "sizes": list(self.sizes), "partial": {str(i): list(k) for i, k in getattr(self, "partial", {}).items()},
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        if state["names"]:
            self.names = None
            self._widen(list(state["names"]))
            self.sizes = list(state["sizes"])
            self.sums[: len(self.sizes)] = state["sums"].to(self.device)
            self.partial = {int(i): list(k) for i, k in state["partial"].items()}
