"""The batches of an epoch; a last batch of one row joins the one before it where a network cannot take it alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vem.contracts import Batch, GenerativeModel, Schedule, Strategy
from vem.errors import VemError
from vem.noise import fill, generator

PLAIN = ("torch.nn.modules.", "vem.")  # modules whose rows know nothing of each other, but for batch norms


def batches_of(order: Tensor, batch_size: int, joined: bool) -> list[Tensor]:
    """The rows of each batch; ``joined``: a last one of a single row is part of the one before it.

    >>> [len(rows) for rows in batches_of(torch.arange(7), 3, False)], batches_of(torch.arange(7), 3, True)[-1].tolist()
    ([3, 3, 1], [3, 4, 5, 6])
    """
    parts = list(order.split(batch_size))
    if joined and len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [order[(len(parts) - 2) * batch_size :]]
    return parts


def joins_lone_row(
    model: GenerativeModel, strategy: Strategy, x: Tensor, batch_size: int, schedule: Schedule, seed: int
) -> bool:
    """Whether the last batch of the training data x [N, *X] is one row that a network in training cannot take.

    A batch norm on [1, C] cannot, one on pictures can, and what a network of the user's own does is tried out on a
    copy: a step on one row and, where that fails, on two.

    Raises:
        VemError: every batch is of one row.
    """
    lone = batch_size == 1 or len(x) % batch_size == 1
    if not lone or not any(_mixes_rows(part) for part in _modules(model, strategy)):
        return False
    why = _failure(model, strategy, x[:1], schedule, seed)
    if why is None or (len(x) > 1 and _failure(model, strategy, x[:2], schedule, seed) is not None):
        return False
    if batch_size == 1 or len(x) == 1:
        cause, remedy = (
            ("there is one training datum", "give more data, or networks without one")
            if len(x) == 1
            else ("training.batch_size=1", "take training.batch_size=2 or more")
        )
        raise VemError(
            f"{cause}, and a network of this model cannot be trained on one row ({why}), as one with a batch norm "
            f"cannot: {remedy}."
        )
    return True


def _modules(model: Any, strategy: Any) -> Iterator[nn.Module]:
    for holder in (model, *vars(strategy).values()):
        if isinstance(holder, nn.Module):
            yield from holder.modules()


def _mixes_rows(part: nn.Module) -> bool:
    """Whether what it makes of a row may depend on the others in the batch."""
    return isinstance(part, _BatchNorm) or not type(part).__module__.startswith(PLAIN)


def _failure(model: Any, strategy: Any, x: Tensor, schedule: Schedule, seed: int) -> str | None:
    """Why a step on these first rows cannot be taken; None where it can, or where that cannot be tried."""
    try:
        model, strategy = copy.deepcopy((model, strategy))
    except Exception:  # something of the user's own that cannot be copied: the step itself will tell
        return None
    rows = torch.arange(len(x), device=x.device)
    noise = fill(strategy.noise(len(x)), generator(x.device, seed, "first rows"), x.dtype)
    try:
        # A dropout draws from torch's global stream.
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            bound = type(strategy).step(strategy, model, Batch(x, rows), noise, schedule).bound
    except Exception as error:  # whatever a network of the user's own raises
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None if bound is None or bool(bound.value.isfinite().all()) else "the bound is not a finite number"
