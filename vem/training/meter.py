"""What the steps say, kept on the device until a record is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.contracts import StepInfo
from vem.errors import VemError


class NonFiniteError(VemError):
    """A bound, a term or a gradient is NaN or infinite; ``step`` is the first in which it is."""

    def __init__(self, message: str, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class _Row(NamedTuple):
    names: tuple[str, ...]
    sums: Tensor  # [len(names)] over the batch
    size: int


class Meter:
    """A small tensor of sums for each step; read once a record.

    A row for each step, rather than one running sum, is what lets :meth:`flush` name the step and the term
    of the first non-finite number without a sync in any step.
    """

    def __init__(self) -> None:
        self.rows: list[_Row] = []

    def add(self, info: StepInfo, batch_size: int) -> None:
        """Count a step. Tensors [B] are summed; scalars count as the mean over the batch."""
        named = dict(info.terms)
        if info.bound is not None:
            named = {"elbo": info.bound.value, **info.bound.terms, **named}
        if named:
            values = [v.detach() for v in named.values()]
            sums = torch.stack([v.sum() if v.dim() else v * batch_size for v in values])
            self.rows.append(_Row(tuple(named), sums, batch_size))

    def flush(self, first_step: int) -> dict[str, float]:
        """The means over the data since the last flush, and forget them; ``first_step`` numbers the first row.

        A term that only some steps have (a phase without a gradient) is averaged over those.

        Raises:
            NonFiniteError: naming the step and the terms.
        """
        if not self.rows:
            return {}
        # One transfer for all steps, whatever terms each of them has.
        values = torch.cat([row.sums for row in self.rows]).double().tolist()
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        at = 0
        for step, row in enumerate(self.rows, first_step):
            step_values = dict(zip(row.names, values[at : at + len(row.names)], strict=True))
            at += len(row.names)
            bad = [name for name, value in step_values.items() if not math.isfinite(value)]
            if bad:
                raise NonFiniteError(f"step {step}: {', '.join(bad)} became NaN or infinite", step)
            for name, value in step_values.items():
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + row.size
        self.rows = []
        return {name: total / counts[name] for name, total in totals.items()}

    def state_dict(self) -> dict[str, Any]:
        """The steps since the last flush, in one tensor: a checkpoint of thousands of small ones is slow."""
        kinds = list(dict.fromkeys(row.names for row in self.rows))
        return {
            "kinds": [list(names) for names in kinds],
            "rows": [(kinds.index(row.names), row.size) for row in self.rows],
            "sums": torch.cat([row.sums for row in self.rows]) if self.rows else torch.zeros(0),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        kinds = [tuple(names) for names in state["kinds"]]
        sums = state["sums"].split([len(kinds[kind]) for kind, _ in state["rows"]]) if state["rows"] else ()
        self.rows = [_Row(kinds[kind], part, size) for (kind, size), part in zip(state["rows"], sums, strict=True)]
