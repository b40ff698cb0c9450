"""The step on networks: up the bound, and by the same numbers as torch's own optimizers."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch

from vem.contracts import Bound
from vem.errors import VemError
from vem.strategies.gradient import AscentOptimizer, Gradient, differentiate


def parameters(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (2, 4)]
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def objective(params: list[torch.nn.Parameter], step: int) -> torch.Tensor:
    """A bound that each step sees differently; its maximum is at p = step / 10."""
    return -sum(((p - step / 10) ** 2).sum() for p in params)


def slope(params: list[torch.nn.Parameter], value: torch.Tensor, others: tuple[torch.Tensor, ...] = ()) -> Gradient:
    """The slope of a bound of one datum."""
    return differentiate(Bound(value.detach()[None], value[None], {}), 1.0, params, others)


@pytest.mark.parametrize(
    "make",
    [
        partial(torch.optim.Adam, lr=1e-2, fused=True),
        partial(torch.optim.Adam, lr=1e-2, fused=True, weight_decay=0.1, betas=(0.5, 0.9)),
        partial(torch.optim.Adam, lr=1e-2),
        partial(torch.optim.Adam, lr=1e-2, fused=True, weight_decay=0.1, decoupled_weight_decay=True),
        partial(torch.optim.Adam, lr=1e-2, fused=True, amsgrad=True),
        partial(torch.optim.AdamW, lr=1e-2, fused=True),
        partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    ],
)
def test_ten_steps_equal_torch_bit_for_bit(make: partial[torch.optim.Optimizer], dtype: torch.dtype) -> None:
    ours, theirs = parameters(dtype), parameters(dtype)
    climber, optimizer = AscentOptimizer(make, ours), make(theirs)
    for step in range(10):
        rate = torch.tensor(1.0 - step / 20, dtype=dtype)
        climber.step(slope(ours, objective(ours, step)), rate)
        optimizer.param_groups[0]["lr"] = 1e-2 * float(rate)
        optimizer.zero_grad()
        (-objective(theirs, step)).backward()
        optimizer.step()
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b), step
    ours_state, theirs_state = climber.state_dict()["state"], optimizer.state_dict()["state"]
    for key, state in theirs_state.items():
        for name, value in state.items():
            if value is not None:
                assert torch.equal(torch.as_tensor(ours_state[key][name]), torch.as_tensor(value)), name


def test_a_step_goes_up_and_the_norm_is_that_of_the_gradient(dtype: torch.dtype) -> None:
    params = parameters(dtype)
    climber = AscentOptimizer(partial(torch.optim.Adam, lr=1e-3, fused=True), params)
    for _ in range(3):
        before = objective(params, 3)
        expected = torch.autograd.grad(before, params, retain_graph=True)
        found = slope(params, before)
        torch.testing.assert_close(found.norm, torch.cat([g.flatten() for g in expected]).norm())
        climber.step(found, torch.ones(()))
        assert objective(params, 3) > before


def test_gradients_of_others_point_uphill() -> None:
    params = parameters(torch.float64)
    other = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = slope(params, objective(params, 0) + (3 * other).sum(), (other,)).uphill
    assert gradient.item() == 3.0


def test_a_parameter_that_is_given_twice_takes_one_step_along_the_sum_over_its_uses() -> None:
    shared, alone = parameters(torch.float64)[:2]
    climber = AscentOptimizer(partial(torch.optim.Adam, lr=1e-2, fused=True), [shared, alone, shared])
    value = -((shared.sum() - 1) ** 2) - (shared**2).sum() - (alone**2).sum()
    expected = torch.autograd.grad(-value, [shared, alone], retain_graph=True)
    found = slope(climber.params, value)
    assert all(torch.equal(a, b) for a, b in zip(found.downhill, expected, strict=True))
    torch.testing.assert_close(found.norm, torch.cat([g.flatten() for g in expected]).norm())
    climber.step(found, torch.ones(()))
    assert {float(state["step"]) for state in climber.state_dict()["state"].values()} == {1.0}


@pytest.mark.parametrize("make", [partial(torch.optim.Adam, lr=0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9)])
def test_the_state_of_double_steps_is_read_but_not_gone_on_with(make: Any) -> None:
    first, shared = parameters(torch.float64)[:2]
    last = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of duplicates
        before = make([first, shared, last, shared])
    for p in (first, shared, last):
        p.grad = torch.full_like(p, float(p.numel()))
    before.step()
    climber = AscentOptimizer(make, [first, shared, last, shared])
    climber.load_state_dict(before.state_dict())
    for p in (first, shared, last):
        for name, value in climber.optimizer.state[p].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(before.state[p][name]))
    with pytest.raises(VemError, match=r"share took two steps a batch.*Delete its checkpoint\.pt"):
        climber.step(slope(climber.params, objective(climber.params, 0)), torch.ones(()))
    climber.load_state_dict(AscentOptimizer(make, [first, shared, last]).state_dict())  # a state of single steps
    climber.step(slope(climber.params, objective(climber.params, 0)), torch.ones(()))
