"""The cost of a step: the same for any number of data, and without waiting for a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from members import STRATEGIES, batch_of, made, schedule
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vem.ascent.rules import SGD, Adam, Natural
from vem.ascent.starts import PriorStart
from vem.contracts import Batch, TrainingSet
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.local import HeldOut, Local


class Counted(TorchDispatchMode):
    """Every operation, and those whose output is new and has at least ``size`` numbers."""

    def __init__(self, size: int, known: set[int]) -> None:
        super().__init__()
        self.size, self.known = size, known
        self.operations: list[str] = []
        self.large: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations.append(str(func))
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.numel() >= self.size and t.untyped_storage().data_ptr() not in self.known:
                self.large.append(str(func))
        return out


def step(num: int, order: str, rule: Any, device: torch.device) -> Counted:
    """A step on the last hundred of so many data, after a first one."""
    adam = partial(torch.optim.Adam, lr=0.01)
    strategy = Local(DiagonalGaussian, ELBO(gradient="path"), adam, rule, PriorStart(), HeldOut(), order=order)
    model = DeepLatentModel((2,), 1, MLPFactory([4])).to(device)
    x = torch.ones(1, device=device).expand(num, 2)
    strategy.setup(model, TrainingSet(x, False), generator(device, 0))
    rows = torch.arange(num - 100, num, device=device)
    of = strategy.table.rows
    for _ in range(2):
        noise = fill(strategy.noise(100), generator(device, 1))
        known = {t.untyped_storage().data_ptr() for t in (x, of.params, of.steps, *of.moments.values())}
        with Counted(10_000, known) as counted:
            strategy.step(model, Batch(x[rows], rows), noise, schedule(x))
    return counted


@pytest.mark.parametrize("rule", [Natural(), Adam(), SGD()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("order", ["joint", "e_then_m", "m_then_e"])
def test_a_local_step_costs_the_same_for_a_thousand_data_and_a_million(
    order: str, rule: Any, device: torch.device
) -> None:
    few, many = (step(num, order, rule, device) for num in (10**3, 10**6))
    assert few.operations == many.operations and len(few.operations) > 50
    assert many.large == []


@contextmanager
def without_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", STRATEGIES, ids=lambda case: "-".join(filter(None, case)))
def test_no_step_waits_for_the_gpu(case: tuple[str, ...]) -> None:
    built = made(*case, dtype="float32", device="cuda")
    x = built.data.train.x
    rows, at = torch.arange(6, device=x.device), schedule(x)
    for number in range(3):
        noise = fill(built.strategy.noise(6), generator(x.device, number), x.dtype)
        batch = batch_of(built, rows)
        if number < 2:  # the optimizer makes its state
            built.strategy.step(built.model, batch, noise, at)
            continue
        torch.cuda.synchronize()
        with without_waiting():
            built.strategy.step(built.model, batch, noise, at)
