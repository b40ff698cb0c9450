"""Gaussian families against torch.distributions and against the Fisher information by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian, FullGaussian

FAMILIES = {"diagonal": DiagonalGaussian, "full": FullGaussian}


def some_params(
    family: DiagonalGaussian | FullGaussian, batch: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return (0.7 * torch.randn(batch, family.num_params, generator=g, dtype=torch.float64)).to(device, dtype)


def test_lambda_is_laid_out_as_tables_of_old_runs_are() -> None:
    q = FullGaussian(3)(torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 4.0, 5.0, 6.0]]))
    assert q.location.tolist() == [[1, 2, 3]] and q.scale_tril.tolist() == [[[1, 0, 0], [4, 1, 0], [5, 6, 1]]]
    narrow = DiagonalGaussian(2)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert narrow.location.tolist() == [[1, 2]] and narrow.log_scale.tolist() == [[3, 4]]


def test_a_diagonal_natural_step_stays_within_the_trust_region(device: torch.device) -> None:
    family = DiagonalGaussian(3)
    params = some_params(family, 5, device, torch.float64)
    moved = family.natural_step(params, 1e6 * torch.randn_like(params), 1.0, trust=0.5) - params
    shift = moved[:, :3] / params[:, 3:].exp()
    torch.testing.assert_close(shift.abs(), torch.full_like(shift, 0.5))
    torch.testing.assert_close(moved[:, 3:].abs(), torch.full_like(shift, 0.25))


def test_a_full_natural_step_stays_within_the_trust_region(device: torch.device) -> None:
    family = FullGaussian(3)
    params = some_params(family, 5, device, torch.float64)
    before, after = family(params), family(family.natural_step(params, 1e6 * torch.randn_like(params), 1.0, trust=0.5))
    shift = (after.location - before.location)[..., None]
    whitened = torch.linalg.solve_triangular(before.scale_tril, shift, upper=False)
    torch.testing.assert_close(whitened.norm(dim=1), torch.full_like(whitened[:, 0], 0.5))
    change = torch.linalg.solve_triangular(before.scale_tril, after.scale_tril, upper=False)
    growth = change.diagonal(dim1=-2, dim2=-1)
    a = (change / growth[:, None, :]).tril(-1) + 2 * torch.diag_embed(growth.log())
    torch.testing.assert_close(a.norm(dim=(1, 2)), torch.full((5,), 0.5 / 3**0.5, device=device, dtype=torch.float64))


def test_noisy_full_steps_do_not_explode(device: torch.device) -> None:
    """One draw a step from far off, H = 8: clipping entry by entry let L grow without limit here."""
    family, h = FullGaussian(8), 8
    g = torch.Generator().manual_seed(0)
    half = torch.randn(h, h, generator=g, dtype=torch.float64)
    precision = (half @ half.T * 20 + torch.eye(h, dtype=torch.float64)).to(device)
    params = family.start(torch.zeros(20, h), torch.ones(20, h)).double().to(device)
    for step in range(1000):
        free = params.clone().requires_grad_()
        q = family(free)
        z, _ = q.transport(torch.randn(1, 20, h, generator=g, dtype=torch.float64).to(device))
        joint = -0.5 * ((z @ precision) * z).sum(-1)
        (gradient,) = torch.autograd.grad((joint - q.frozen_log_q(z)).sum(), free)
        params = family.natural_step(params, gradient, 0.2 * (1 - step / 1000), 1.0)
    posterior = MultivariateNormal(params.new_zeros(h), precision_matrix=precision)
    found = MultivariateNormal(family(params).location, scale_tril=family(params).scale_tril)
    assert kl_divergence(found, posterior).mean().item() < 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_without_noise_are_refused(name: str) -> None:
    family = FAMILIES[name](2)
    with pytest.raises(VemError, match="needs noise"):
        family(torch.zeros(1, family.num_params)).draws(None)


def test_a_wide_q_keeps_its_log_density(device: torch.device) -> None:
    """log q comes from ε and log|det|: no (z − μ)/σ is computed, so nothing is lost at extreme scales."""
    family = DiagonalGaussian(1)
    params = torch.tensor([[1e6, -20.0]], device=device)
    draws = family(params).draws(torch.ones(1, 1, 1, device=device))
    assert float(draws.log_q) == pytest.approx(-0.5 * (1 + math.log(2 * math.pi)) + 20.0, rel=1e-6)
