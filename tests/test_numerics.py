"""The shared numerical pieces, above all 0 · (−∞)."""

from __future__ import annotations

import math

import pytest
import torch

from vem.numerics import mean_and_se, weighted_sum


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_draw_without_weight_adds_nothing_whatever_it_is(
    bad: float, device: torch.device, dtype: torch.dtype
) -> None:
    log_weight = torch.tensor([[0.0, math.log(0.5)], [-math.inf, math.log(0.5)]], device=device, dtype=dtype)
    f = torch.tensor([[2.0, 3.0], [bad, 5.0]], device=device, dtype=dtype)
    log_weight.requires_grad_()
    f.requires_grad_()
    total = weighted_sum(log_weight, f)
    torch.testing.assert_close(total, torch.tensor([2.0, 4.0], device=device, dtype=dtype))
    for gradient in torch.autograd.grad(total.sum(), (log_weight, f)):
        assert torch.isfinite(gradient).all()


def test_an_infinity_with_weight_stays(device: torch.device) -> None:
    assert (
        weighted_sum(torch.zeros(1, 1, device=device), torch.full((1, 1), -math.inf, device=device)).item() == -math.inf
    )


def test_a_weighted_sum_is_the_mean_over_draws(device: torch.device, dtype: torch.dtype) -> None:
    f = torch.randn(7, 3, device=device, dtype=dtype)
    torch.testing.assert_close(weighted_sum(torch.full_like(f, -math.log(7)), f), f.mean(0))


def test_gradients(device: torch.device) -> None:
    log_weight = torch.randn(3, 2, device=device, dtype=torch.float64, requires_grad=True)
    f = torch.randn(3, 2, device=device, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(weighted_sum, (log_weight, f))


def test_mean_and_standard_error() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    mean, se = mean_and_se(values)
    assert mean == pytest.approx(3.0) and se == pytest.approx(values.std().item() / math.sqrt(3))
    mean, se = mean_and_se(torch.tensor([4.0]))
    assert mean == 4.0 and math.isnan(se)
    assert mean_and_se(torch.full((10_000_000,), 0.1))[0] == pytest.approx(float(torch.tensor(0.1)), abs=1e-12)
