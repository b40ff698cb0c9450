"""The ELBO against log p(x) where that is exact, against finite differences, and against itself."""

from __future__ import annotations

import pytest
import torch
from parts import scattered
from torch import Tensor, nn

from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.gaussian import FullGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.noise import generator
from vem.objectives.elbo import ELBO


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


def test_the_path_gradient_vanishes_at_the_posterior(device: torch.device) -> None:
    model = scattered(LinearGaussian((6,), 3, noise="diagonal").to(device, torch.float64), generator("cpu", 0))
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
