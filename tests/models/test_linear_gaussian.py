"""The linear-Gaussian model against scipy and against joint-Gaussian conditioning in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import maximum_likelihood_ppca
from parts import scattered
from scipy.stats import multivariate_normal
from torch import Tensor

from vem.errors import VemError
from vem.families.gaussian import FullGaussianPosterior
from vem.models.linear_gaussian import LinearGaussian
from vem.noise import fill, generator

KINDS = ("isotropic", "diagonal")


def made(device: torch.device, noise: str, event: tuple[int, ...] = (2, 4), latent: int = 3) -> LinearGaussian:
    """A model whose parameters are all away from their defaults."""
    model = LinearGaussian(event, latent, noise=noise).to(device, torch.float64)
    return scattered(model, generator(device, "made", noise))


def numbers(model: LinearGaussian) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, b, ψ as numpy arrays in float64."""
    noise = model.noise_floor + model.log_noise.detach().double().exp().expand(model.bias.shape)
    return tuple(t.detach().cpu().double().numpy() for t in (model.weight, model.bias, noise))


def data(model: LinearGaussian, num: int = 5) -> Tensor:
    with torch.no_grad():
        g = generator(model.bias.device, "data")
        return 3 * fill(model.sample_noise(num), g, model.bias.dtype)["x"] + 1


@pytest.mark.parametrize("noise", KINDS)
def test_log_marginal_is_the_normal_density(device: torch.device, noise: str) -> None:
    model = made(device, noise)
    x = data(model)
    weight, bias, psi = numbers(model)
    truth = multivariate_normal(bias, weight @ weight.T + np.diag(psi)).logpdf(x.flatten(1).cpu().numpy())
    np.testing.assert_allclose(model.log_marginal(x).detach().cpu(), truth, rtol=0, atol=1e-9)


@pytest.mark.parametrize("noise", KINDS)
def test_best_diagonal_is_log_p_minus_its_divergence(device: torch.device, noise: str) -> None:
    """The bound is log p − KL(q ‖ p(z|x)), KL from its general formula, and no neighbour is better."""
    model = made(device, noise)
    x = data(model)
    q, exact = model.best_diagonal(x), model.exact_posterior(x)
    truth = torch.distributions.MultivariateNormal(exact.location, scale_tril=exact.scale_tril)

    def bound(location: Tensor, log_scale: Tensor) -> Tensor:
        p = torch.distributions.MultivariateNormal(location, scale_tril=log_scale.exp().diag_embed())
        return model.log_marginal(x) - torch.distributions.kl_divergence(p, truth)

    best = model.best_diagonal_bound(x)
    torch.testing.assert_close(best, bound(q.location, q.log_scale), rtol=0, atol=1e-9)
    assert (best < model.log_marginal(x) - 1e-3).all()
    g = generator(device, 2)
    for _ in range(20):
        shift = 0.1 * torch.randn(2, *q.location.shape, dtype=torch.float64, device=device, generator=g)
        assert (bound(q.location + shift[0], q.log_scale + shift[1]) < best).all()


def test_float32_keeps_its_digits_with_a_small_noise_and_many_dimensions(device: torch.device) -> None:
    model = made(device, "diagonal", (784,), 20)
    with torch.no_grad():
        model.log_noise.mul_(0.1).sub_(9.0)  # ψ near 1e-4: Λ has entries of 1e7
    x, _ = model.sample(fill(model.sample_noise(50), generator(device, 3), torch.float64))[::-1]
    exact = model.log_marginal(x)
    single = model.float().log_marginal(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=0)


def test_ppca_oracle_is_a_maximum_of_the_scipy_likelihood() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(200, 5)) + 3

    def mean_log_likelihood(weight: np.ndarray, bias: np.ndarray, noise: float) -> float:
        return multivariate_normal(bias, weight @ weight.T + noise * np.eye(5)).logpdf(x).mean()

    best = maximum_likelihood_ppca(torch.from_numpy(x), 2)
    weight, bias, noise = best.weight.numpy(), best.bias.numpy(), best.noise.item()
    assert mean_log_likelihood(weight, bias, noise) == pytest.approx(best.log_marginal.item(), abs=1e-10)
    for _ in range(30):
        near = (weight + 0.02 * rng.normal(size=weight.shape), bias + 0.02 * rng.normal(size=5), noise)
        assert mean_log_likelihood(*near) < best.log_marginal.item()
    for factor in (0.97, 1.03):
        assert mean_log_likelihood(weight, bias, factor * noise) < best.log_marginal.item()


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
@pytest.mark.parametrize("noise", KINDS)
def test_the_m_step_is_stationary(device: torch.device, noise: str, posterior: str) -> None:
    """After the M-step the closed expected log-likelihood has zero gradient in every parameter."""
    model = made(device, noise)
    x = data(model, 40)
    model.center.copy_(x.flatten(1).mean(0))
    q = model.exact_posterior(x) if posterior == "full" else model.best_diagonal(x)
    if posterior == "full":  # other datum, other covariance: not only the exact posterior's shared one
        scales = torch.linspace(0.5, 2, 40, dtype=x.dtype, device=device)[:, None, None]
        q = FullGaussianPosterior(q.location.detach(), (q.scale_tril * scales).detach())
        covariance = q.scale_tril @ q.scale_tril.mT
    else:
        covariance = (2 * q.log_scale.detach()).exp().diag_embed()
    model.maximize(model.statistics(x, q))
    psi = model.noise_variance()
    spread = torch.einsum("di,bij,dj->bd", model.weight, covariance, model.weight) / psi
    expected = model.log_likelihood(x, q.mean().detach()[None])[0] - 0.5 * spread.sum(1)
    for gradient in torch.autograd.grad(expected.mean(), list(model.parameters())):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_the_start_has_the_mean_of_the_data_and_half_their_variance(device: torch.device, dtype: torch.dtype) -> None:
    x = 100 + 5 * torch.randn(300, 6, device=device, dtype=dtype, generator=generator(device, 5))
    model, unstarted = (LinearGaussian((6,), 2).to(device, dtype) for _ in range(2))
    model.start(x, generator(device, 1))
    torch.testing.assert_close(model.bias, x.mean(0))
    assert model.noise_variance()[0].item() == pytest.approx(x.var(0).mean().item() / 2, rel=0.02)
    assert model.log_marginal(x).mean() > unstarted.log_marginal(x).mean()


def test_noise_at_its_floor_is_reported(device: torch.device, dtype: torch.dtype) -> None:
    x = torch.randn(50, 4, device=device, dtype=dtype, generator=generator(device, 6))
    x[:, 1] = 2.0
    model = LinearGaussian((4,), 1, noise="diagonal").to(device, dtype)
    assert model.notes() == []
    model.start(x, generator(device, 0))
    for _ in range(3):
        model.maximize(model.statistics(x, model.exact_posterior(x)))
    assert torch.isfinite(model.log_marginal(x)).all()
    assert len(model.notes()) == 1 and "1 of 4" in model.notes()[0] and "model.noise_floor" in model.notes()[0]


def test_a_bad_posterior() -> None:
    from vem.families.categorical import CategoricalPosterior

    with pytest.raises(VemError, match="CategoricalPosterior"):
        LinearGaussian((3,), 2).statistics(torch.zeros(4, 3), CategoricalPosterior(torch.zeros(4, 2)))
