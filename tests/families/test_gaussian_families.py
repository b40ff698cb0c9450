"""Gaussian families against torch.distributions and against the Fisher information by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian, FullGaussian

FAMILIES = {"diagonal": DiagonalGaussian, "full": FullGaussian}
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def some_params(
    family: DiagonalGaussian | FullGaussian, batch: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    g = torch.Generator().manual_seed(5)
    return (0.7 * torch.randn(batch, family.num_params, generator=g, dtype=torch.float64)).to(device, dtype)


def judge(family: DiagonalGaussian | FullGaussian, params: Tensor) -> torch.distributions.Distribution:
    """The same q, made by torch.distributions from λ as the documentation lays it out."""
    h = family.size
    if isinstance(family, DiagonalGaussian):
        return torch.distributions.Independent(Normal(params[:, :h], params[:, h:].exp()), 1)
    tril = torch.zeros(len(params), h, h, dtype=params.dtype, device=params.device)
    k = 2 * h
    for i in range(h):
        tril[:, i, i] = params[:, h + i].exp()
        for j in range(i):
            tril[:, i, j] = params[:, k]
            k += 1
    return MultivariateNormal(params[:, :h], scale_tril=tril)


@pytest.mark.parametrize("name", FAMILIES)
def test_log_q_of_draws(name: str, device: torch.device, dtype: torch.dtype) -> None:
    family = FAMILIES[name](4)
    params = some_params(family, 6, device, dtype)
    spec = family.noise(3, 6)
    assert spec == family(params).noise(3) and spec.shape == (3, 6, 4)
    draws = family(params).draws(torch.randn(spec.shape, device=device, dtype=dtype))
    q = judge(family, params)
    torch.testing.assert_close(
        draws.log_q, q.log_prob(draws.z), rtol=1e2 * TOLERANCE[dtype], atol=1e2 * TOLERANCE[dtype]
    )
    torch.testing.assert_close(draws.log_weight.logsumexp(0), params.new_zeros(6), rtol=0, atol=1e-6)


def test_the_full_natural_step_of_a_diagonal_q_is_the_diagonal_step(device: torch.device, dtype: torch.dtype) -> None:
    diagonal, full = DiagonalGaussian(4), FullGaussian(4)
    mean, scale = torch.randn(6, 4, device=device, dtype=dtype), torch.rand(6, 4, device=device, dtype=dtype) + 0.2
    gradient = torch.randn(6, 8, device=device, dtype=dtype)
    wide = torch.cat([gradient, torch.zeros(6, full.num_params - 8, device=device, dtype=dtype)], 1)
    expected = diagonal.natural_step(diagonal.start(mean, scale), gradient, 0.05, 1.0)  # nothing is clipped
    found = full.natural_step(full.start(mean, scale), wide, 0.05, 1.0)
    torch.testing.assert_close(found[:, :8], expected)
    assert torch.equal(found[:, 8:], torch.zeros_like(found[:, 8:]))


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
    assert kl_divergence(judge(family, params), posterior).mean().item() < 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_draws_without_noise_are_refused(name: str) -> None:
    family = FAMILIES[name](2)
    with pytest.raises(VemError, match="needs noise"):
        family(torch.zeros(1, family.num_params)).draws(None)
    with pytest.raises(VemError, match="latent_dim=0"):
        FAMILIES[name](0)


def test_a_wide_q_keeps_its_log_density(device: torch.device) -> None:
    """log q comes from ε and log|det|: no (z − μ)/σ is computed, so nothing is lost at extreme scales."""
    family = DiagonalGaussian(1)
    params = torch.tensor([[1e6, -20.0]], device=device)
    draws = family(params).draws(torch.ones(1, 1, 1, device=device))
    assert float(draws.log_q) == pytest.approx(-0.5 * (1 + math.log(2 * math.pi)) + 20.0, rel=1e-6)
