"""Likelihoods against torch's own densities: value, gradient, second derivative, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from vem.models.likelihoods import Gaussian, bernoulli_log_prob


@pytest.mark.parametrize("logit", [-1e4, 1e4, 0.0])
@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_bernoulli_at_extreme_logits(logit: float, pixel: float, device: torch.device, dtype: torch.dtype) -> None:
    out = torch.tensor([[logit, -logit]], device=device, dtype=dtype, requires_grad=True)
    x = torch.tensor([pixel, 1 - pixel], device=device, dtype=dtype)
    value = bernoulli_log_prob(out, x)
    (gradient,) = torch.autograd.grad(value.sum(), out)
    wrong = max((1 - 2 * pixel) * logit, 0.0)  # by how much the sign of the logits misses the pixels
    torch.testing.assert_close(value, torch.full_like(value, -2 * (wrong if logit else math.log(2))))
    torch.testing.assert_close(gradient, (x - out.sigmoid()).detach())


def test_bernoulli_under_vmap(device: torch.device) -> None:
    logits, x = torch.randn(6, 2, 3, 4, device=device), (torch.rand(3, 4, device=device) > 0.5).float()
    torch.testing.assert_close(torch.func.vmap(bernoulli_log_prob, (0, None))(logits, x), bernoulli_log_prob(logits, x))
    gradient = torch.func.vmap(torch.func.grad(lambda out: bernoulli_log_prob(out, x).sum()))(logits)
    torch.testing.assert_close(gradient, x - logits.sigmoid())


@pytest.mark.parametrize("scale", ["learned", 0.3])
def test_gaussian_against_torch(scale: str | float, device: torch.device, dtype: torch.dtype) -> None:
    likelihood = Gaussian((4, 5), scale).to(device, dtype)
    if scale == "learned":
        likelihood.start_scale(torch.tensor(0.8))
        torch.testing.assert_close(likelihood.scale(), torch.tensor(0.8, device=device, dtype=dtype))
    out = torch.randn(2, 3, 4, 5, device=device, dtype=dtype)
    x = torch.randn(3, 4, 5, device=device, dtype=dtype)
    sigma = torch.as_tensor(likelihood.scale(), device=device, dtype=dtype)
    torch.testing.assert_close(likelihood.log_prob(x, out), Independent(Normal(out, sigma), 2).log_prob(x))


def test_a_learned_scale_keeps_its_floor_and_says_so(device: torch.device) -> None:
    likelihood = Gaussian((2,), "learned", 0.1).to(device)
    assert likelihood.notes() == []
    likelihood.start_scale(torch.tensor(1e-9, device=device))
    assert likelihood.scale().item() == pytest.approx(0.2, rel=1e-5)
    with torch.no_grad():
        likelihood.raw_scale.fill_(-1e3)
    assert likelihood.scale().item() == pytest.approx(0.1)
    assert "reached its floor 0.1" in likelihood.notes()[0]
    assert Gaussian((2,), 0.001).notes() == []
