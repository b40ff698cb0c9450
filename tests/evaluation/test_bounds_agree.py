"""The check that no bound from below lies above the one that the gaps are taken from; and that it is not touchy."""

from __future__ import annotations

import math

import pytest
import torch
from gap_cases import by_hand
from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.bounds.importance import LogMeanExp
from vem.evaluation.checks import Check, check
from vem.evaluation.measured import MC_VARIANCE, Measured

NAME = "lower_bounds_agree"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bound(low: Tensor, variance: Tensor | float = 0.0, high: Tensor | None = None) -> LogMarginal:
    return LogMarginal(low, high, "by hand", {MC_VARIANCE: torch.zeros_like(low) + variance})


def found(main: LogMarginal, measured: Measured | None = None, **others: LogMarginal) -> Check:
    assert main.lower is not None
    elbo = main.lower - 5.0
    split = (measured or by_hand(elbo, elbo + 4.0))._replace(log_marginal=main, others=others)
    (one,) = (part for part in check(split) if part.name == NAME)
    return one


def test_a_bound_that_misses_modes_is_caught_by_any_other() -> None:
    """The numbers of the issue: annealing −3.857, the prior −2.502 ± 0.25."""
    level = 3 * noise(20, seed=1)
    main, prior = bound(level - 3.857, 0.01), bound(level - 2.502 + 0.25 * noise(20), 0.25**2)
    bad = found(main, prior=prior)
    assert not bad.passed and "main − prior = -1.3" in bad.detail and "start it at the prior" in bad.detail
    assert found(prior, importance=main).passed  # the other way round: a poor bound beside a good one
    for other in ("importance", "annealing of old"):
        assert not found(main, **{other: prior}).passed


def test_the_best_q_of_a_further_family_is_one_of_them() -> None:
    level = 3 * noise(50, seed=1)
    split = by_hand(level - 3.0, level - 2.0, level, rich=level + 0.3, noise=torch.full((50,), 1e-4))
    assert split.log_marginal is not None
    bad = found(split.log_marginal, split)
    assert not bad.passed and "L[q*] of full_gaussian" in bad.detail
    fine = by_hand(level - 3.0, level - 2.0, level, rich=level - 0.01)
    assert fine.log_marginal is not None and found(fine.log_marginal, fine).passed


def test_a_few_data_with_a_mode_too_few_are_named() -> None:
    """1 % of the data lack log 2; their mean of 0.007 nats would pass."""
    level, lost = 3 * noise(400, seed=1), torch.tensor([7, 130, 200, 399])
    low = level + 0.02 * noise(400)
    low[lost] -= math.log(2)
    bad = found(bound(low, 4e-4), importance=bound(level, 1e-4))
    assert not bad.passed and "4 of 400 data" in bad.detail and "(rows 7, 130, 200, 399)" in bad.detail


def test_exact_values_are_exceeded_by_no_bound() -> None:
    level = 3 * noise(30, seed=1)
    assert not found(bound(level, high=level), importance=bound(level + 0.5, 1e-3)).passed
    assert found(bound(level, high=level), importance=bound(level + 0.03 * noise(30), 1e-3)).passed


def test_numbers_that_are_not_finite_or_not_there_are_no_alarm() -> None:
    level = 3 * noise(30, seed=1)
    gone = level.clone()
    gone[3] = -torch.inf
    assert found(bound(level, math.nan), importance=bound(gone - 0.1, math.nan)).passed
    alone = by_hand(level - 1.0, level - 0.5, level)
    assert all(part.name != NAME for part in check(alone))


@pytest.mark.parametrize(("width", "draws"), [(0.3, 1000), (0.05, 500), (0.02, 200)])
@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_bounds_that_are_right_raise_no_alarm(width: float, draws: int, spread: float) -> None:
    """60 repeats of 100 data with a known log p(x): annealing's weights are lognormal, the prior's heavy-tailed.

    p(x | z) = N(x; z, width²), z ~ N(0, 1): the naive bound has from thousands of effective samples to two.
    """
    repeats, data = 60, 100
    x = noise(repeats * data, seed=1) * math.sqrt(1 + width**2)
    normal = torch.distributions.Normal
    truth = normal(0.0, math.sqrt(1 + width**2)).log_prob(x)
    main, naive = LogMeanExp(len(x), "cpu"), LogMeanExp(len(x), "cpu")
    main.add(truth + spread * noise(8, len(x), seed=2) - 0.5 * spread**2)
    for part in range(5):
        z = noise(draws // 5, len(x), seed=3 + part)
        naive.add(normal(z, width).log_prob(x))
    alarms = 0
    for i in range(repeats):
        here = slice(i * data, (i + 1) * data)
        ours, its = (bound(t.log_mean()[here], t.variance()[here]) for t in (main, naive))
        alarms += not found(ours, prior=its).passed
    assert alarms == 0
