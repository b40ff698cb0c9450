"""The ELBO against log p(x) where that is exact, against finite differences, and against itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.noise import generator
from vem.objectives.elbo import ELBO

GAUSSIANS = {"diagonal": DiagonalGaussian, "full": FullGaussian}


def linear_gaussian(
    device: torch.device, dtype: torch.dtype = torch.float64, noise: str = "diagonal"
) -> LinearGaussian:
    """A model that is not aligned with the axes of z, so that its posterior is correlated."""
    model = LinearGaussian((6,), 3, noise=noise).to(device, dtype)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def test_closed_and_sampled_kl_agree_in_mean(device: torch.device) -> None:
    model, draws = linear_gaussian(device), 20_000
    x = torch.randn(2, 6, device=device, dtype=torch.float64)
    posterior = FullGaussian(3)(0.3 * torch.randn(2, 9, device=device, dtype=torch.float64))
    noise = torch.randn(draws, 2, 3, generator=generator(device, 4), device=device, dtype=torch.float64)
    closed, sampled = (
        ELBO(draws, "closed")(model, x, posterior, noise),
        ELBO(draws, "sampled")(model, x, posterior, noise),
    )
    z, log_q, _ = posterior.draws(noise)
    error = (log_q - model.log_prior(z)).std(0) / draws**0.5
    assert bool(((closed.terms["kl"] - sampled.terms["kl"]).abs() < 4 * error).all())
    assert torch.equal(closed.terms["reconstruction"], sampled.terms["reconstruction"])


def test_the_best_diagonal_q_scores_its_closed_form(device: torch.device) -> None:
    model = linear_gaussian(device)
    x = torch.randn(3, 6, device=device, dtype=torch.float64)
    noise = torch.randn(10_000, 3, 3, generator=generator(device, 5), device=device, dtype=torch.float64)
    # ε and −ε together cancel the odd terms; what is left over is the error of the mean square of ε.
    both = torch.cat([noise, -noise])
    value = ELBO(20_000, "closed")(model, x, model.best_diagonal(x), both).value
    q = model.best_diagonal(x)
    z = q.draws(both).z
    error = (model.log_likelihood(x, z)).std(0) / 20_000**0.5
    assert bool(((value - model.best_diagonal_bound(x)).abs() < 5 * error).all())


def test_a_component_of_weight_zero_adds_nothing_and_no_nan(device: torch.device, dtype: torch.dtype) -> None:
    model = Mixture((2,), 3, likelihood="bernoulli").to(device, dtype)
    x = (torch.rand(6, 2, generator=generator(device, 9), device=device) > 0.5).to(dtype)
    model.start(x, generator(device, 9))
    params = torch.tensor([[0.0, -1e5, 1.0]], device=device, dtype=dtype).expand(6, 3).clone().requires_grad_()
    bound = ELBO()(model, x, Categorical(3)(params), None)
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), params)
    assert torch.isfinite(bound.value).all() and torch.isfinite(gradient).all()
    assert torch.equal(gradient[:, 1], torch.zeros_like(gradient[:, 1]))
    two = ELBO()(model, x, Categorical(3)(params.detach().clamp_min(-200)), None)
    torch.testing.assert_close(bound.value, two.value)


class CannotHave(nn.Module):
    """p(x | z = k) is zero for the last component: its log-likelihood is −∞."""

    prior_kind = "categorical"

    def log_prior(self, z: Tensor) -> Tensor:
        return torch.full(z.shape, -1.0986122886681098, dtype=torch.float64, device=z.device)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.where(z == 2, -torch.inf, -1.0).double()


def test_zero_times_minus_infinity_is_zero_with_gradients(device: torch.device) -> None:
    params = torch.tensor([[0.3, 0.0, -torch.inf]], device=device, dtype=torch.float64)
    free = params[:, :2].clone().requires_grad_()
    full = torch.cat([free, params[:, 2:]], 1)
    bound = ELBO()(CannotHave(), torch.zeros(1, 1), Categorical(3)(full), None)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), free)
    two = free.detach().log_softmax(-1)
    expected = -1.0 - 1.0986122886681098 - (two.exp() * two).sum()
    assert float(bound.value) == pytest.approx(float(expected), abs=1e-12)
    assert torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0.01


def test_closed_kl_is_refused_where_there_is_none(device: torch.device) -> None:
    model = Mixture((2,), 3).to(device)
    x = torch.randn(20, 2, device=device)
    model.start(x, generator(device, 0))
    with pytest.raises(VemError, match=r"kl=closed.*CategoricalPosterior.*kl=auto"):
        ELBO(kl="closed")(model, x, model.exact_posterior(x), None)
    with pytest.raises(VemError, match=r"kl='clsd' is not known"):
        ELBO(kl="clsd")
    with pytest.raises(VemError, match=r"num_draws=0"):
        ELBO(0)


def test_the_path_gradient_vanishes_at_the_posterior(device: torch.device) -> None:
    model = linear_gaussian(device)
    x = torch.randn(4, 6, device=device, dtype=torch.float64)
    exact, h = model.exact_posterior(x), 3
    row, col = torch.tril_indices(h, h, offset=-1)
    diagonal = exact.scale_tril.diagonal(dim1=-2, dim2=-1).log()
    params = torch.cat([exact.location, diagonal, exact.scale_tril[:, row, col]], 1).detach()
    noise = torch.randn(1, 4, 3, device=device, dtype=torch.float64)
    sizes = {}
    for gradient in ("reparameterized", "path"):
        free = params.clone().requires_grad_()
        surrogate = ELBO(1, "sampled", gradient)(model, x, FullGaussian(h)(free), noise).surrogate
        sizes[gradient] = float(torch.autograd.grad(surrogate.sum(), free)[0].abs().max())
    assert sizes["path"] < 1e-9 < 0.1 < sizes["reparameterized"]
