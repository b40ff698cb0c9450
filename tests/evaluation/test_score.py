"""Scores of a split: exact where they can be, with honest errors, the same numbers for the same call."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from vem.contracts import TrainingSet
from vem.data.linear_gaussian import linear_gaussian
from vem.evaluation.elbo import score, spread
from vem.evaluation.gaps import summarize
from vem.evaluation.measured import Measured
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.networks import MLPFactory
from vem.noise import generator
from vem.numerics import mean_and_se
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized


def ready(device: torch.device, num: int = 700) -> tuple[LinearGaussian, Amortized, torch.Tensor]:
    x = linear_gaussian(num=num, dims=5, latent=2).to(device, torch.float64).train.x
    model = LinearGaussian((5,), 2).to(device, torch.float64)
    strategy = Amortized(DiagonalGaussian, ELBO(), partial(torch.optim.Adam, lr=0.01), MLPFactory([]))
    strategy.setup(model, TrainingSet(x, False), generator(device, 0))
    return model, strategy, x


def test_the_monte_carlo_error_is_that_of_repeated_calls(device: torch.device) -> None:
    model, strategy, x = ready(device, num=50)
    means, errors = [], []
    for seed in range(30):
        scores = score(model, strategy, x, spread(50, 50), training_rows=False, draws=8, seed=seed, name="test")
        assert scores.elbo is not None and scores.mc_variance is not None
        means.append(scores.elbo)
        errors.append(scores.mc_variance)
    found, stated = torch.stack(means).var(0), torch.stack(errors).mean(0)
    assert float((found / stated).mean()) == pytest.approx(1.0, abs=0.15)


def test_the_same_call_gives_the_same_numbers(device: torch.device) -> None:
    model, strategy, x = ready(device)

    def call(seed: int, name: str) -> torch.Tensor:
        found = score(model, strategy, x, spread(600, 700), training_rows=False, draws=2, seed=seed, name=name).elbo
        assert found is not None and found.dtype == torch.float64 and found.device.type == "cpu"
        return found

    assert torch.equal(call(0, "test"), call(0, "test"))
    assert not torch.equal(call(0, "test"), call(1, "test"))
    assert not torch.equal(call(0, "test"), call(0, "valid"))


def test_terms_add_up_and_rows_are_those_asked_for(device: torch.device) -> None:
    model, strategy, x = ready(device)
    rows = spread(7, 700)
    scores = score(model, strategy, x, rows, training_rows=False, draws=3, seed=0, name="test")
    assert torch.equal(scores.rows, rows) and scores.rows.tolist() == [0, 100, 200, 300, 400, 500, 600]
    assert scores.elbo is not None and scores.reconstruction is not None and scores.kl is not None
    torch.testing.assert_close(scores.elbo, scores.reconstruction - scores.kl)
    assert scores.log_marginal is not None
    with torch.no_grad():
        torch.testing.assert_close(scores.log_marginal, model.log_marginal(x[rows]).double().cpu())


def test_the_summary_carries_its_errors(device: torch.device) -> None:
    model, strategy, x = ready(device)
    one = score(model, strategy, x, spread(20, 700), training_rows=False, draws=1, seed=0, name="test")
    assert "evaluation.draws > 1" in summarize(Measured(one))["elbo"]["mc_se"]["reason"]
    many = score(model, strategy, x, spread(20, 700), training_rows=False, draws=5, seed=0, name="test")
    assert many.elbo is not None and many.mc_variance is not None
    text = summarize(Measured(many))
    mean, se = mean_and_se(many.elbo)
    assert (text["num_data"], text["elbo"]["mean"], text["elbo"]["se"]) == (20, mean, se)
    assert text["elbo"]["mc_se"] == pytest.approx(float(many.mc_variance.sum()) ** 0.5 / 20)
    assert text["log_marginal"]["kind"] == "exact" and text["log_marginal"]["lower"] == text["log_marginal"]["upper"]


@pytest.mark.parametrize("num", [1, 3, 10, 99, 100, 1000])
def test_spread_is_even_distinct_and_in_range(num: int) -> None:
    rows = spread(num, 100)
    assert len(rows) == min(num, 100) == len(rows.unique()) and int(rows[0]) >= 0 and int(rows[-1]) < 100
    gaps = rows.diff()
    assert num == 1 or int(gaps.max() - gaps.min()) <= 1
