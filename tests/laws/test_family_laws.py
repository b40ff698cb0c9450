"""What holds of every family."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from members import hermite, options, target
from torch import Tensor

from vem.noise import fill, generator

FAMILIES = pytest.mark.parametrize("name", options("family"))
CONTINUOUS = pytest.mark.parametrize("name", [n for n in options("family") if target("family", n).latent == "real"])
H, B, S = 2, 4, 6


def some(name: str, size: int = H, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """The family, and λ of some of its members."""
    family = target("family", name)(size)
    params = 0.5 * torch.randn(B, family.num_params, generator=generator("cpu", name), dtype=torch.float64)
    return family, params.to(dtype)


def noise_for(family: Any, draws: int = S, dtype: torch.dtype = torch.float64) -> Tensor | None:
    spec = family.noise(draws, B)
    return None if spec is None else fill({"z": spec}, generator("cpu", "noise"), dtype)["z"]


@FAMILIES
def test_draws_are_those_of_the_noise_that_was_promised(name: str, dtype: torch.dtype) -> None:
    family, params = some(name, dtype=dtype)
    q, spec = family(params), family.noise(S, B)
    assert q.noise(S) == spec
    z, log_q, log_weight = q.draws(noise_for(family, dtype=dtype))
    num = family.size if spec is None else S
    assert z.shape[:2] == log_q.shape == log_weight.shape == (num, B)
    assert log_q.dtype == log_weight.dtype == q.mean().dtype == dtype
    assert hasattr(q, "transport") == (family.latent == "real")  # an index is no smooth map of noise
    torch.testing.assert_close(log_weight.logsumexp(0), params.new_zeros(B), rtol=0, atol=1e-5)


@FAMILIES
def test_a_datum_s_q_depends_on_its_own_row(name: str) -> None:
    family, params = some(name)
    order = torch.tensor([2, 0, 3, 1])
    eps = noise_for(family)
    whole = family(params).draws(eps)
    moved = family(params[order]).draws(None if eps is None else eps[:, order])
    for one, other in zip(whole, moved, strict=True):
        assert torch.equal(one[:, order], other)


@FAMILIES
def test_the_start_has_the_mean_that_was_asked_for(name: str) -> None:
    family, _ = some(name)
    mean = 0.4 * torch.randn(B, H, generator=generator("cpu", 1), dtype=torch.float64)
    scale = torch.rand(B, H, generator=generator("cpu", 2), dtype=torch.float64) + 0.2
    params = family.start(mean, scale)
    assert params.shape == (B, family.num_params)
    q = family(params)
    if family.latent == "index":
        assert torch.equal(q.mean().argmax(-1), (mean / scale).argmax(-1))
        return
    torch.testing.assert_close(q.mean(), mean)
    # A unit of noise in one direction moves z by the scale of that direction.
    eps = torch.eye(H, dtype=torch.float64)[:, None].expand(H, B, H)
    torch.testing.assert_close(q.transport(eps)[0] - mean, torch.diag_embed(scale).transpose(0, 1))


@FAMILIES
def test_the_density_integrates_to_one(name: str) -> None:
    family, params = some(name)
    q = family(0.3 * params)
    if family.noise(1, B) is None:
        z, log_q, _ = q.draws(None)
        torch.testing.assert_close(log_q, torch.distributions.Categorical(q.mean()).log_prob(z))
        total = log_q.exp().sum(0)
    else:
        line = torch.linspace(-12, 12, 601, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)[:, None].expand(-1, B, H)
        total = q.frozen_log_q(grid).exp().sum(0) * (line[1] - line[0]) ** 2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


@CONTINUOUS
def test_transport_has_its_jacobian_its_inverse_and_the_density(name: str, dtype: torch.dtype) -> None:
    family, params = some(name, dtype=dtype)
    q, eps = family(params), noise_for(family, dtype=dtype)
    assert eps is not None
    z, log_det = q.transport(eps)
    torch.testing.assert_close(q.whiten(z), eps, rtol=1e-4, atol=1e-5)
    draws = q.draws(eps)
    assert torch.equal(draws.z, z)
    normal = -0.5 * (eps.square() + math.log(2 * math.pi)).sum(-1)
    torch.testing.assert_close(draws.log_q, normal - log_det, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q.frozen_log_q(z), draws.log_q, rtol=1e-4, atol=1e-5)
    if dtype == torch.float64:
        for b in range(B):
            one = family(params[b : b + 1])
            jacobian = torch.func.jacrev(lambda e, one=one: one.transport(e[None, None])[0][0, 0])(eps[0, b])
            torch.testing.assert_close(log_det[0, b], torch.linalg.slogdet(jacobian).logabsdet)


@CONTINUOUS
def test_a_family_that_composes_is_closed_under_its_transport(name: str) -> None:
    family, params = some(name)
    if not hasattr(family, "compose"):
        pytest.skip("it does not compose")
    inner, eps = params.flip(0), noise_for(family)
    both = family(family.compose(params, inner)).transport(eps)
    middle, first = family(inner).transport(eps)
    z, second = family(params).transport(middle)
    torch.testing.assert_close(both, (z, first + second))


def divergence(family: Any, params: Tensor, log_other: Any) -> Tensor:
    """KL(q ‖ other) [B] by quadrature."""
    nodes, weights = hermite()
    z, log_det = family(params).transport(nodes[:, None].expand(-1, len(params), H))
    log_q = -0.5 * (nodes.square() + math.log(2 * math.pi)).sum(-1)[:, None] - log_det
    return (weights[:, None] * (log_q - log_other(z))).sum(0)


@CONTINUOUS
def test_the_closed_divergence_is_the_integral(name: str) -> None:
    family, params = some(name)
    if not hasattr(family(params), "kl_standard_normal"):
        pytest.skip("it has no closed divergence")

    def prior(z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    torch.testing.assert_close(family(params).kl_standard_normal(), divergence(family, params, prior))


@FAMILIES
def test_a_small_natural_step_is_the_natural_gradient(name: str) -> None:
    """(λ′ − λ) / rate → F(λ)⁻¹ g up to directions that leave q as it is; F is the Hessian of the divergence in λ′."""
    family, params = some(name)
    if not hasattr(family, "natural_step"):
        pytest.skip("it has no natural step")
    gradient = torch.randn(params.shape, generator=generator("cpu", 3), dtype=torch.float64)
    if family.latent == "index":  # a gradient in logits, as a bound has one
        r = params.softmax(-1)
        gradient = r * (gradient - (r * gradient).sum(-1, keepdim=True))
    rate = 1e-6
    moved = (
        family.natural_step(params, gradient, rate, 1.0) - family.natural_step(params, 0 * gradient, rate, 1.0)
    ) / rate
    for b in range(B):
        one = params[b : b + 1]

        def from_here(other: Tensor, one: Tensor = one) -> Tensor:
            if family.latent == "index":
                p = one.log_softmax(-1)
                return (p.exp() * (p - other.log_softmax(-1))).sum()
            nodes, weights = hermite(12)
            z, _ = family(one).transport(nodes[:, None].expand(-1, 1, H))
            eps, log_det = family(other[None]).whiten(z), family(other[None]).transport(z)[1]
            return (weights[:, None] * (0.5 * eps.square().sum(-1) + log_det)).sum()

        fisher = torch.autograd.functional.hessian(from_here, one[0])
        assert isinstance(fisher, Tensor)
        torch.testing.assert_close(fisher @ moved[b], gradient[b], rtol=1e-4, atol=1e-4)
