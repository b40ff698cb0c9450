"""The categorical family: enumeration, its natural step, and whether a family fits a model."""

from __future__ import annotations

import pytest
import torch

from vem.errors import VemError
from vem.families.categorical import Categorical
from vem.families.checks import matching
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.objectives.elbo import ELBO


def mixture(device: torch.device, dtype: torch.dtype, size: int = 2) -> tuple[Mixture, torch.Tensor]:
    model = Mixture((size,), 3, covariance="full").to(device, dtype)
    g = torch.Generator(device).manual_seed(1)
    x = torch.randn(50, size, generator=g, device=device, dtype=dtype)
    model.start(x, g)
    return model, x


def test_one_natural_step_lands_on_the_exact_posterior(device: torch.device) -> None:
    model, x = mixture(device, torch.float64)
    family = Categorical(3)
    params = torch.randn(len(x), 3, device=device, dtype=torch.float64).requires_grad_()
    bound = ELBO()(model, x, family(params), None)
    (gradient,) = torch.autograd.grad(bound.surrogate.sum(), params)
    moved = family.natural_step(params.detach(), gradient, 1.0, trust=1e3)
    exact = model.exact_posterior(x).mean()
    torch.testing.assert_close(family(moved).mean(), exact, rtol=1e-7, atol=1e-9)


def test_a_natural_step_is_clipped_and_survives_dead_components(device: torch.device) -> None:
    family = Categorical(3)
    params = torch.tensor([[0.0, -800.0, 0.0]], device=device)
    gradient = torch.tensor([[1e9, 1.0, 0.0]], device=device)
    moved = family.natural_step(params, gradient, 1.0, trust=0.1)
    assert torch.isfinite(moved).all()
    log_r = params.log_softmax(-1)
    assert float((moved - log_r).abs().max()) <= 3.0 + 1e-4  # 0.1 · 30 nats
    assert float(moved[0, 1] - log_r[0, 1]) == 0.0


def test_a_family_that_does_not_fit_the_model_is_refused(device: torch.device) -> None:
    model, _ = mixture(device, torch.float32)
    with pytest.raises(VemError, match="family=categorical"):
        matching(DiagonalGaussian, model)
    with pytest.raises(VemError, match="family=diagonal_gaussian"):
        matching(Categorical, LinearGaussian((3,), 2))
    assert matching(Categorical, model).size == 3


def test_a_component_that_lost_a_datum_wins_it_back() -> None:
    """In float32: from near certainty for the wrong component to the exact posterior, in a few natural steps."""
    log_joint = torch.tensor([[-2.5, -200.0]])
    family = Categorical(2)
    params = family.start(torch.tensor([[-100.0, 100.0]]), torch.ones(1, 2))
    for _ in range(8):
        params = params.detach().requires_grad_()
        log_r = family(params).log_probs
        (gradient,) = torch.autograd.grad((log_r.exp() * (log_joint - log_r)).sum(), params)
        params = family.natural_step(params, gradient, 1.0, 1.0)
    log_r = family(params).log_probs
    bound = (log_r.exp() * (log_joint - log_r)).sum()
    assert bound.item() == pytest.approx(torch.logsumexp(log_joint, 1).item(), abs=1e-5)
