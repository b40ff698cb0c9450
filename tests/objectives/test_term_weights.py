"""Weights on the two terms of the ELBO: what is differentiated changes, what is reported does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from parts import amortized, deep, local, scattered, train

from vem.ascent.rules import Adam, Natural, Rule
from vem.contracts import Batch
from vem.data.dataset import Data, Split
from vem.data.linear_gaussian import linear_gaussian
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.strategies.local import Local
from vem.training.schedules import Cosine


def test_warm_up_multiplies_the_own_weight(device: torch.device) -> None:
    model = deep((5,)).to(device, torch.float64)
    g = generator("cpu", 1)
    x = (torch.rand(4, 5, generator=g) > 0.5).to(device, torch.float64)
    params, noise = (torch.randn(*s, generator=g, dtype=torch.float64).to(device) for s in ((4, 4), (3, 4, 2)))
    objective, weight = ELBO(3, reconstruction_weight=0.5, kl_weight=4.0), torch.tensor(0.25, dtype=torch.float64)
    bound = objective(model, x, DiagonalGaussian(2)(params), noise, weight.to(device))
    torch.testing.assert_close(bound.surrogate, 0.5 * bound.terms["reconstruction"] - 4 * 0.25 * bound.terms["kl"])
    plain = ELBO(3)(model, x, DiagonalGaussian(2)(params), noise)
    assert torch.equal(bound.value, plain.value) and torch.equal(plain.surrogate.detach(), plain.value)


def model_of(device: torch.device) -> LinearGaussian:
    """A fixed θ that is not aligned with the axes of z."""
    model = LinearGaussian((8,), 3, noise="diagonal").to(device, torch.float64)
    return scattered(model, generator("cpu", "term weights")).requires_grad_(False)


def rows_of(objective: ELBO, rule: Rule, device: torch.device, epochs: int) -> tuple[Any, Local]:
    """Rows ascended at a fixed θ; the data and the strategy."""
    data = linear_gaussian(num=60, dims=8, latent=3).to(device, torch.float64)
    strategy = local(rule=rule, objective=objective, m_steps=0, cool=0.001)
    train(model_of(device), strategy, data, epochs, 60)
    return data, strategy


@pytest.mark.parametrize(("rule", "gradient"), [(Natural(), "path"), (Adam(), "reparameterized")])
def test_only_kl_makes_the_rows_the_prior(rule: Rule, gradient: str, device: torch.device) -> None:
    _, strategy = rows_of(ELBO(reconstruction_weight=0.0, gradient=gradient), rule, device, 400)
    assert strategy.table.params.abs().max().item() < 1e-3
    assert strategy.family(strategy.table.params).kl_standard_normal().max().item() < 1e-6  # type: ignore[attr-defined]


def test_only_kl_makes_the_encoder_the_prior_and_leaves_theta(device: torch.device) -> None:
    split = Split(torch.randn(100, 8, generator=generator("cpu", 2)))
    data = Data("made", split, split, split, "real").to(device, torch.float64)
    model = LinearGaussian((8,), 3).to(device, torch.float64)
    objective = ELBO(reconstruction_weight=0.0, kl="closed")
    strategy = amortized(rate=0.1, objective=objective)
    train(model, strategy, data, 400, 100, Cosine())
    q = strategy.infer(model, Batch(data.train.x, None), {})
    assert q.kl_standard_normal().max().item() < 1e-4  # type: ignore[attr-defined]
    other = LinearGaussian((8,), 3).to(device, torch.float64)  # where the same start leaves θ
    other.start(data.train.x, generator(device, 0, "setup"))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_only_reconstruction_makes_the_rows_points_at_the_likelihood_s_maximum(device: torch.device) -> None:
    """z → argmax log p(x | z) = (WᵀΨ⁻¹W)⁻¹ WᵀΨ⁻¹ (x − b), and σ → 0."""
    data, strategy = rows_of(ELBO(kl_weight=0.0, gradient="path"), Adam(), device, 600)
    model = model_of(device)
    scaled = model.weight / model.noise_variance()[:, None]
    wanted = torch.linalg.solve(model.weight.T @ scaled, scaled.T @ (data.train.x - model.bias).T).T
    mean, log_scale = strategy.table.params.chunk(2, -1)
    torch.testing.assert_close(mean, wanted, rtol=0, atol=0.05)
    assert log_scale.max().item() < -3
    assert (mean - model.exact_posterior(data.train.x).location).abs().max().item() > 0.2  # the prior pulls no more


@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_a_weighed_kl_finds_the_posterior_of_the_tempered_model(beta: float, device: torch.device) -> None:
    """max E_q[log p(x | z)] − β KL(q ‖ p) is the posterior under p(x | z)^{1/β}: noise variances times β."""
    data, strategy = rows_of(ELBO(4, kl_weight=beta, gradient="path"), Natural(), device, 500)
    tempered = model_of(device)
    with torch.no_grad():
        tempered._set_noise(beta * tempered.noise_variance())
    wanted = tempered.best_diagonal(data.train.x)
    mean, log_scale = strategy.table.params.chunk(2, -1)
    torch.testing.assert_close(mean, wanted.location, rtol=0, atol=0.06)
    torch.testing.assert_close(log_scale, wanted.log_scale, rtol=0, atol=0.06)
