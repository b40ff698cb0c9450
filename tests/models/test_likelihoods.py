"""Likelihoods against torch's own densities: value, gradient, second derivative, extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.nn import functional as F

from vem.errors import VemError
from vem.models.likelihoods import Gaussian, bernoulli_log_prob, make_likelihood
from vem.noise import generator


def judge(logits: Tensor, x: Tensor) -> Tensor:
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def test_bernoulli_value_gradient_and_second_derivative(device: torch.device, dtype: torch.dtype) -> None:
    g = generator(device, 0)
    logits = 3 * torch.randn(4, 5, 7, generator=g, device=device, dtype=dtype)
    x = (torch.rand(5, 7, generator=g, device=device) > 0.5).to(dtype)
    direction, outer = torch.randn_like(logits), torch.randn(4, 5, generator=g, device=device, dtype=dtype)
    results = []
    for log_prob in (bernoulli_log_prob, judge):
        out = logits.clone().requires_grad_()
        value = log_prob(out, x)
        (gradient,) = torch.autograd.grad((outer * value).sum(), out, create_graph=True)
        (second,) = torch.autograd.grad((gradient * direction).sum(), out)
        results.append((value.detach(), gradient.detach(), second))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("logit", [-1e4, 1e4, 0.0])
@pytest.mark.parametrize("pixel", [0.0, 1.0])
def test_bernoulli_at_extreme_logits(logit: float, pixel: float, device: torch.device, dtype: torch.dtype) -> None:
    out = torch.tensor([[logit, -logit]], device=device, dtype=dtype, requires_grad=True)
    x = torch.tensor([pixel, 1 - pixel], device=device, dtype=dtype)
    value = bernoulli_log_prob(out, x)
    (gradient,) = torch.autograd.grad(value.sum(), out)
    torch.testing.assert_close(value, judge(out, x))
    torch.testing.assert_close(gradient, torch.autograd.grad(judge(out, x).sum(), out)[0])
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bernouli", (2,), 1.0, 0.1), "did you mean 'bernoulli'"),
        (("gaussian", (2,), "learnt", 0.1), r"scale='learnt' is not known"),
        (("gaussian", (2,), 0.0, 0.1), r"scale=0\.0 must be positive"),
        (("gaussian", (2,), math.nan, 0.1), r"scale=nan must be positive"),
        (("gaussian", (2,), "learned", 0.0), r"scale_floor=0\.0 must be positive"),
    ],
)
def test_bad_likelihoods_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(VemError, match=message):
        make_likelihood(*arguments)
