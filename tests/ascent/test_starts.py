"""Where rows start: the PCA start is the exact posterior of a probabilistic PCA."""

from __future__ import annotations

import pytest
import torch
from oracles import maximum_likelihood_ppca

from vem.ascent.starts import PCAStart, PriorStart
from vem.models.linear_gaussian import LinearGaussian
from vem.noise import generator


def line_data(device: torch.device, dtype: torch.dtype = torch.float64, num: int = 300, size: int = 6) -> torch.Tensor:
    g = generator("cpu", "starts")
    z, weight, eps = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((num, 2), (2, size), (num, size)))
    return (3 * z @ weight + 0.7 * eps + 5).to(device, dtype)


def test_the_prior_start(device: torch.device, dtype: torch.dtype) -> None:
    start = PriorStart()
    start.fit(torch.zeros(5, 4, device=device, dtype=dtype), 3, generator(device, 0))
    mean, scale = start(torch.ones(2, 4, device=device, dtype=dtype))
    zeros = torch.zeros(2, 3, device=device, dtype=dtype)
    assert torch.equal(mean, zeros) and torch.equal(scale, zeros + 1)


def test_untempered_pca_is_the_posterior_at_maximum_likelihood(device: torch.device) -> None:
    x = line_data(device)
    start = PCAStart(temper=1.0)
    start.fit(x, 2, generator(device, 0))
    best = maximum_likelihood_ppca(x, 2)
    model = LinearGaussian((6,), 2, noise_floor=1e-12).to(device, torch.float64)
    with torch.no_grad():
        model.weight.copy_(best.weight)
        model.bias.copy_(best.bias)
        model.log_noise.copy_(best.noise.log())
    exact = model.exact_posterior(x[:10])
    mean, scale = start(x[:10])
    # Each direction's sign is free.
    sign = torch.sign((mean * exact.location).sum(0))
    torch.testing.assert_close(mean, sign * exact.location, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scale**2, (exact.scale_tril @ exact.scale_tril.mT).diagonal(dim1=1, dim2=2))


@pytest.mark.parametrize("temper", [None, 1.0, 50.0, 1e9])
def test_weak_directions_start_at_the_prior(temper: float | None, device: torch.device) -> None:
    x = line_data(device)
    start = PCAStart(temper)
    start.fit(x, 5, generator(device, 0))
    mean, scale = start(x)
    weak = scale[0] == 1
    assert bool(weak[-2:].all()) or temper == 1.0
    assert torch.equal(mean[:, weak], torch.zeros_like(mean[:, weak]))
    assert bool(((scale > 0) & (scale <= 1)).all())
    if temper == 1e9:
        assert bool(weak.all())


@pytest.mark.parametrize("latent", [1, 4, 9])
def test_degenerate_data_give_finite_starts(latent: int, device: torch.device, dtype: torch.dtype) -> None:
    x = torch.zeros(20, 2, 2, device=device, dtype=dtype)
    x[:, 0, 0] = torch.arange(20)  # one direction has all the variance: the residual is zero
    for temper in (None, 1.0):
        start = PCAStart(temper)
        start.fit(x, latent, generator(device, 0))
        mean, scale = start(x)
        assert mean.shape == scale.shape == (20, latent) and mean.dtype == dtype
        assert torch.isfinite(mean).all() and bool((scale > 0).all()) and torch.isfinite(scale.log()).all()


def test_very_wide_data_take_the_randomized_factorization(device: torch.device) -> None:
    g = generator("cpu", 1)
    z, weight, eps = (torch.randn(*s, generator=g) for s in ((200, 2), (2, 5000), (200, 5000)))
    x = (z @ weight + 0.01 * eps).to(device)
    before = torch.get_rng_state()
    start = PCAStart(1.0)
    start.fit(x, 2, generator(device, 0))
    assert torch.equal(before, torch.get_rng_state())
    mean, _ = start(x)
    # Two directions explain the data: x − x̄ is a linear function of the starting means.
    centred = x - x.mean(0)
    left = centred - mean @ torch.linalg.lstsq(mean, centred).solution
    assert left.square().mean().item() < 1e-3 * centred.square().mean().item()
