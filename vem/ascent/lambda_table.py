"""The table of λ_n: one row for each training datum, with its own moments and its own step count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Lambdas(NamedTuple):
    """Some rows of a table, or the fresh rows of held-out data."""

    params: Tensor  # [B, P]
    moments: dict[str, Tensor]  # each [B, P]
    steps: Tensor  # [B] ascent steps taken so far


def fresh(params: Tensor, moments: tuple[str, ...]) -> Lambdas:
    """Lambdas that have taken no step yet."""
    return Lambdas(
        params,
        {name: torch.zeros_like(params) for name in moments},
        torch.zeros(params.shape[0], dtype=torch.int32, device=params.device),
    )


class LambdaTable:
    """Gather, update, scatter: the cost of a step does not depend on N.

    A dense optimizer over the table would move absent rows by their momentum, and one step count for all
    rows would take late rows for old ones: hence moments **and** counts by row.
    """

    def __init__(self, rows: Lambdas) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows.params.shape[0]

    @property
    def params(self) -> Tensor:
        """λ [N, P]."""
        return self.rows.params

    def gather(self, index: Tensor) -> Lambdas:
        """The rows of a batch; index [B], distinct."""
        params, moments, steps = self.rows
        # index_select copies whole rows: three times as fast as the general params[index].
        return Lambdas(
            params.index_select(0, index),
            {name: moment.index_select(0, index) for name, moment in moments.items()},
            steps.index_select(0, index),
        )

    def scatter(self, index: Tensor, rows: Lambdas) -> None:
        """Put the rows of a batch back, in place."""
        self.rows.params.index_copy_(0, index, rows.params)
        for name, moment in rows.moments.items():
            self.rows.moments[name].index_copy_(0, index, moment)
        self.rows.steps.index_copy_(0, index, rows.steps)

    def state_dict(self) -> dict[str, Any]:
        """Every row with its moments and count."""
        return {"params": self.rows.params, "moments": dict(self.rows.moments), "steps": self.rows.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put every row back, in place: nothing of the table is allocated twice."""
        self.rows.params.copy_(state["params"])
        self.rows.steps.copy_(state["steps"])
        for name, moment in self.rows.moments.items():
            moment.copy_(state["moments"][name])
