"""Importance-weighted bounds against exact log p(x), and the faults that make them lie."""

import math

import numpy as np
import pytest
import torch
from oracle_models import (
    double_best_diagonal_bound,
    double_log_marginal,
    factorized_bernoulli,
    gaussian_posterior_model,
)

from vem.errors import VemError
from vem.evaluation.bounds.importance import LogMeanExp, importance_bound, prior_monte_carlo
from vem.noise import generator


def stream(*key):
    return generator("cpu", 0, *key)


# --- the accumulator


@pytest.mark.parametrize("chunks", [[1000], [1, 999], [300, 300, 400], [100] * 10])
def test_accumulator_is_numpy_in_float64(chunks):
    log_weight = 30 * torch.randn(1000, 7, generator=stream("w"), dtype=torch.float64) - 900
    log_weight[:400, 0] = -torch.inf
    total = LogMeanExp(7, "cpu")
    for part in log_weight.split(chunks):
        total.add(part)
    v = log_weight.numpy()
    top = v.max(0)
    w = np.exp(v - top)
    np.testing.assert_allclose(total.log_mean(), np.log(w.mean(0)) + top, rtol=0, atol=1e-12)
    np.testing.assert_allclose(total.ess(), w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-12)
    np.testing.assert_allclose(total.variance(), w.var(0, ddof=1) / 1000 / w.mean(0) ** 2, rtol=1e-10)


def test_accumulator_keeps_small_weights_that_float32_would_lose():
    total = LogMeanExp(1, "cpu")
    total.add(torch.zeros(1, 1))
    for _ in range(10):
        total.add(torch.full((1000, 1), -20.0))
    assert total.log_mean().item() == pytest.approx(math.log((1 + 1e4 * math.exp(-20)) / 10001), abs=1e-13)


def test_the_reported_variance_is_that_of_the_estimate():
    # Log-normal weights of unit variance: 4000 repeats of 500 draws.
    log_weight = torch.randn(500, 4000, generator=stream("v"), dtype=torch.float64)
    total = LogMeanExp(4000, "cpu")
    total.add(log_weight)
    ratio = total.variance().mean() / total.log_mean().var()
    assert 0.93 < ratio < 1.07  # the sampling error of a variance over 4000 repeats is 2 %


def test_one_draw_has_no_known_variance():
    total = LogMeanExp(2, "cpu")
    total.add(torch.zeros(1, 2))
    assert total.variance().isnan().all() and (total.ess() == 1).all()


# --- linear-Gaussian oracles


@pytest.mark.parametrize("size", [2, 10, 50])
def test_bound_is_below_the_truth_and_rises_with_samples(size, dtype):
    model, x = gaussian_posterior_model(10, size, dtype=dtype, num=200)
    truth, elbo = double_log_marginal(model, x), double_best_diagonal_bound(model, x)
    q = model.best_diagonal(x)
    means = []
    for k in (1, 10, 100, 1000):
        out = importance_bound(model, x, q, samples=k, stream=stream("k", k))
        assert out.upper is None and out.kind == f"importance, K={k}"
        assert out.lower.dtype == torch.float64 and out.lower.shape == (200,)
        miss = out.lower - truth
        assert miss.mean() < 2 * miss.std() / 200**0.5
        means.append(out.lower.mean().item())
        if k == 1:  # one draw: its mean is the ELBO
            difference = out.lower - elbo
            assert abs(difference.mean()) < 4 * difference.std() / 200**0.5
    assert means == sorted(means)
    assert means[-1] > elbo.mean()


def test_a_bound_that_is_far_off_is_flagged_by_its_effective_sample_size():
    model, x = gaussian_posterior_model(1000, 50, num=50)
    out = importance_bound(model, x, model.best_diagonal(x), samples=2000, stream=stream("far"))
    off = double_log_marginal(model, x) - out.lower
    assert off.mean() > 10  # nats
    assert out.diagnostics["ess"].median() < 0.01 * 2000
    near, y = gaussian_posterior_model(1.5, 2, num=50)
    good = importance_bound(near, y, near.best_diagonal(y), samples=2000, stream=stream("near"))
    assert (double_log_marginal(near, y) - good.lower).abs().max() < 0.05
    assert good.diagnostics["ess"].min() > 0.8 * 2000


@pytest.mark.parametrize("samples", [1, 7, 300])
def test_exact_posterior_leaves_only_rounding(samples, dtype):
    model, x = gaussian_posterior_model(100, 10, dtype=dtype)
    out = importance_bound(model, x, model.exact_posterior(x), samples=samples, stream=stream("exact"))
    tight = dtype == torch.float64
    assert (out.lower - double_log_marginal(model, x)).abs().max() < (1e-10 if tight else 2e-4)
    torch.testing.assert_close(out.diagnostics["ess"], torch.full((20,), float(samples)).double(), rtol=1e-5, atol=1e-5)
    if samples > 1:
        assert out.diagnostics["mc_variance"].max() < (1e-16 if tight else 1e-8)


def test_mc_variance_covers_the_miss():
    model, x = gaussian_posterior_model(2, 2, num=1000)
    out = importance_bound(model, x, model.best_diagonal(x), samples=500, stream=stream("z"))
    z = (out.lower - double_log_marginal(model, x)) / out.diagnostics["mc_variance"].sqrt()
    assert 0.9 < z.std() < 1.1 and 0.93 < (z.abs() < 1.96).double().mean() < 0.97


def test_naive_monte_carlo_is_right_for_two_dimensions_and_fails_visibly_for_fifty():
    model, x = factorized_bernoulli(3, 2, num=100)
    out = prior_monte_carlo(model, x, samples=4000, stream=stream("prior"))
    assert out.kind == "prior, K=4000" and out.upper is None
    assert (out.lower - model.log_marginal_exact(x)).abs().max() < 0.2
    assert out.diagnostics["ess"].min() > 100
    hard, y = gaussian_posterior_model(1000, 50, num=50)
    bad = prior_monte_carlo(hard, y, samples=4000, stream=stream("prior"))
    assert (double_log_marginal(hard, y) - bad.lower).mean() > 50
    assert bad.diagnostics["ess"].median() < 2


def test_draws_are_independent_across_data():
    model, x = gaussian_posterior_model(30, 5, num=1)
    x = x.expand(400, -1)  # the same datum: equal bounds would mean one noise for all
    q = model.best_diagonal(x)
    out = importance_bound(model, x, q, samples=10, stream=stream("independent")).lower
    assert len(out.unique()) == 400
    assert abs(torch.corrcoef(out.view(2, 200))[0, 1]) < 0.25


def test_memory_does_not_grow_with_samples_or_data(monkeypatch):
    """No more than the stated number of floats reaches the decoder at once, whatever K and B."""
    from vem.evaluation.bounds import importance

    monkeypatch.setattr(importance, "MAX_FLOATS", 2**12)
    sizes = []

    class Watched(type(gaussian_posterior_model(2, 8)[0])):
        def log_likelihood(self, x, z):
            sizes.append(z.shape[0] * z.shape[1] * max(z.shape[2], x[0].numel()))
            return super().log_likelihood(x, z)

    model, x = gaussian_posterior_model(2, 8, num=700)
    model.__class__ = Watched
    with torch.no_grad():
        q = model.best_diagonal(x)
    for samples in (1, 20):
        out = importance_bound(model, x, q, samples=samples, stream=stream("memory"))
        assert out.lower.shape == (700,)
    assert max(sizes) <= 2**12


def test_bad_numbers_of_samples():
    model, x = gaussian_posterior_model(2, 3)
    q = model.best_diagonal(x)
    for samples in (0, -1, float("nan")):
        with pytest.raises(VemError, match=r"^samples="):
            importance_bound(model, x, q, samples=samples, stream=stream("s"))
        with pytest.raises(VemError, match=r"^samples="):
            prior_monte_carlo(model, x, samples=samples, stream=stream("s"))
