"""What holds of every strategy, with every model that it takes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from members import STRATEGIES, ContractOnly, batch_of, made, schedule
from torch import Tensor

from vem.contracts import Batch, Bound, Strategy
from vem.evaluation.elbo import score
from vem.noise import fill, generator
from vem.numerics import weighted_sum
from vem.training.fit import fit

CASES = pytest.mark.parametrize("case", STRATEGIES, ids=lambda case: "-".join(filter(None, case)))
ROWS = torch.tensor([5, 0, 11, 3, 19, 7])


def tensors(state: Any) -> list[Tensor]:
    """Every tensor in nested dicts and lists."""
    if isinstance(state, Tensor):
        return [state.clone()]
    children = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for child in children for tensor in tensors(child)]


def state_of(built: Any) -> list[Tensor]:
    return tensors([built.model.state_dict(), built.strategy.state_dict()])


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def epochs(built: Any, numbers: range) -> None:
    """A batch a number, an epoch for each three; the noise depends on the number alone."""
    x = built.data.train.x
    for number in numbers:
        rows = torch.arange(8) + 8 * (number % 3)
        noise = fill(built.strategy.noise(8), generator("cpu", number), x.dtype)
        built.strategy.step(built.model, batch_of(built, rows), noise, schedule(x))
        if number % 3 == 2:
            built.strategy.end_epoch(built.model)


@CASES
def test_a_run_goes_on_from_its_state_bit_for_bit(case: tuple[str, ...]) -> None:
    built, other = made(*case, dtype="float32"), made(*case, dtype="float32")
    epochs(built, range(4))  # within an epoch
    saved = copy.deepcopy((built.model.state_dict(), built.strategy.state_dict()))
    epochs(built, range(4, 9))
    epochs(other, range(2))  # whatever it has done before
    other.model.load_state_dict(saved[0])
    other.strategy.load_state_dict(saved[1])
    assert not equal(state_of(other), state_of(built))
    epochs(other, range(4, 9))
    assert equal(state_of(other), state_of(built))


@CASES
def test_infer_changes_nothing_and_depends_on_its_noise_alone(case: tuple[str, ...]) -> None:
    built = made(*case)
    strategy, model, x = built.strategy, built.model, built.data.train.x
    before = state_of(built)
    for rows in (ROWS, None):
        noise = fill(strategy.noise(len(ROWS), held_out=rows is None), generator("cpu", 1), x.dtype)
        kept = copy.deepcopy(noise)
        one, two = (strategy.infer(model, Batch(x[ROWS], rows), noise) for _ in range(2))
        eps = None if (spec := one.noise(3)) is None else fill({"z": spec}, generator("cpu", 2), x.dtype)["z"]
        for a, b in zip(one.draws(eps), two.draws(eps), strict=True):
            assert torch.equal(a, b) and not a.requires_grad and a.shape[1] == len(ROWS)
        assert all(torch.equal(value, noise[name]) for name, value in kept.items())
        if hasattr(strategy, "table") and rows is None and noise:  # a fresh row, ascended on this noise
            again = fill(strategy.noise(len(ROWS), held_out=True), generator("cpu", 6), x.dtype)
            assert not torch.equal(strategy.infer(model, Batch(x[ROWS], rows), again).mean(), one.mean())
    assert equal(before, state_of(built))


class Watched:
    """An objective that keeps what the contract says of its last bound: Σ_s w_s (log p(x, z_s) − log q(z_s))."""

    def __init__(self, objective: Any) -> None:
        self.objective, self.num_draws, self.cost = objective, objective.num_draws, objective.cost

    def __call__(self, model: Any, x: Tensor, posterior: Any, noise: Tensor | None, *weight: Tensor) -> Bound:
        z, log_q, log_weight = posterior.draws(noise)
        self.elbo = weighted_sum(log_weight, model.log_likelihood(x, z) + model.log_prior(z) - log_q).detach()
        return self.objective(model, x, posterior, noise, *weight)


@CASES
def test_the_value_of_a_step_is_the_elbo_whatever_the_weight_of_the_kl_term(case: tuple[str, ...]) -> None:
    built = made(*case)
    built.strategy.objective.kl = "sampled"
    built.strategy.objective = watched = Watched(built.strategy.objective)
    x = built.data.train.x
    noise = fill(built.strategy.noise(len(ROWS)), generator("cpu", 3), x.dtype)
    info = built.strategy.step(built.model, batch_of(built, ROWS), noise, schedule(x, kl_weight=0.3))
    torch.testing.assert_close(info.bound.value, watched.elbo, rtol=1e-10, atol=1e-10)
    parts = info.bound.terms["reconstruction"] - info.bound.terms["kl"]
    torch.testing.assert_close(parts, watched.elbo, rtol=1e-10, atol=1e-10)
    assert info.decoder_evaluations > 0 and not info.bound.surrogate.requires_grad


@CASES
def test_the_order_of_a_batch_does_not_matter(case: tuple[str, ...]) -> None:
    order = torch.tensor([2, 5, 0, 1, 4, 3])
    one, two = made(*case), made(*case)
    x = one.data.train.x
    noise = fill(one.strategy.noise(len(ROWS)), generator("cpu", 4), x.dtype)
    moved = {name: eps.index_select(eps.shape.index(len(ROWS)), order) for name, eps in noise.items()}
    first = one.strategy.step(one.model, batch_of(one, ROWS), noise, schedule(x)).bound
    second = two.strategy.step(two.model, batch_of(two, ROWS[order]), moved, schedule(x)).bound
    torch.testing.assert_close(first.value[order], second.value, rtol=1e-9, atol=1e-9)
    for built in (one, two):
        built.strategy.end_epoch(built.model)
    for a, b in zip(state_of(one), state_of(two), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@CASES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_is_of_the_type_that_was_asked_for(case: tuple[str, ...], dtype: str) -> None:
    built = made(*case, dtype=dtype)
    x, wanted = built.data.train.x, getattr(torch, dtype)
    noise = fill(built.strategy.noise(len(ROWS)), generator("cpu", 5), wanted)
    info = built.strategy.step(built.model, batch_of(built, ROWS), noise, schedule(x))
    built.strategy.end_epoch(built.model)
    held_out = fill(built.strategy.noise(2, held_out=True), generator("cpu", 5), wanted)
    q = built.strategy.infer(built.model, Batch(x[:2], None), held_out)
    kept = [tensor for tensor in tensors(built.model.state_dict()) if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in kept} == {wanted}
    found = [info.bound.value, info.bound.surrogate, *info.bound.terms.values(), q.mean()]
    assert {tensor.dtype for tensor in found} <= {wanted, torch.float64}  # closed forms keep their digits in float64
    assert case[0] not in ("local", "amortized") or {tensor.dtype for tensor in found} == {wanted}


@CASES
def test_an_objective_with_only_the_contract_s_members_is_ascended(case: tuple[str, ...]) -> None:
    built = made(*case)
    x = built.data.train.x
    if built.strategy.gap_name == "amortization" or hasattr(built.strategy, "table"):
        built.strategy.objective = ContractOnly()
    values = []
    for _ in range(12):  # with common noise, so that one function is ascended
        noise = fill(built.strategy.noise(len(x)), generator("cpu", 0), x.dtype)
        info = built.strategy.step(built.model, Batch(x, torch.arange(len(x))), noise, schedule(x, 0.5))
        built.strategy.end_epoch(built.model)
        values.append(info.bound.terms.get("iw_bound", info.bound.value).mean().item())
    assert values[-1] > values[0] - 1e-6


class ContractOnlyStrategy:
    """Local rows behind nothing but what the contract of a strategy promises."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.no_elbo, self.gap_name = inner, None, "optimization"
        self.setup, self.noise, self.infer = inner.setup, inner.noise, inner.infer
        self.end_epoch, self.state_dict, self.load_state_dict = inner.end_epoch, inner.state_dict, inner.load_state_dict

    @property
    def family(self) -> Any:
        return self._inner.family

    def step(self, *arguments: Any) -> Any:
        return self._inner.step(*arguments)


def test_a_strategy_with_only_the_contract_s_members_is_trained_and_measured() -> None:
    case = ("local", "deep", "real", "diagonal_gaussian")
    plain, only = made(*case), made(*case)
    wrapped: Strategy = ContractOnlyStrategy(only.strategy)
    settings = replace(plain.training, epochs=3, batch_size=8, valid_data=3)
    done = [
        fit(built.model, strategy, built.data, settings, progress_bar=False)
        for built, strategy in ((plain, plain.strategy), (only, wrapped))
    ]
    assert equal(state_of(plain), state_of(only)) and len(done[1].epoch_elbos) == 3
    x = only.data.train.x
    for training_rows in (True, False):
        found = [
            score(built.model, strategy, x, ROWS, training_rows=training_rows, draws=2, seed=0, name="measured").elbo
            for built, strategy in ((plain, plain.strategy), (only, wrapped))
        ]
        assert found[0] is not None and torch.equal(*found)
