"""Two annealing runs enclose log p(x), where it is known and where it is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from oracle_models import bimodal, double_log_marginal, factorized_bernoulli, gaussian_posterior_model, simulate
from torch import Tensor

from vem.contracts import Draws, NoiseSpec
from vem.errors import VemError
from vem.evaluation.bounds.annealing import bidirectional, enclose, upper_bound
from vem.evaluation.bounds.annealing_path import Annealing
from vem.families.gaussian import DiagonalGaussianPosterior, FullGaussianPosterior
from vem.noise import generator

ROUGH = Annealing(temperatures=4, chains=3, leapfrog=1, curvature=0, pilot_temperatures=4)


def streams(device: torch.device, seed: int = 0) -> tuple[torch.Generator, torch.Generator]:
    return generator(device, seed, "pilot"), generator(device, seed, "anneal")


def standard(x: Tensor, size: int) -> DiagonalGaussianPosterior:
    zeros = torch.zeros(len(x), size, dtype=x.dtype, device=x.device)
    return DiagonalGaussianPosterior(zeros, zeros)


@pytest.mark.parametrize("size", [2, 10])
def test_rough_runs_enclose_the_truth_in_the_mean(size: int, device: torch.device) -> None:
    """So few temperatures that both bounds are visibly off: each on its own side."""
    model, _ = gaussian_posterior_model(20.0, size)
    found = bidirectional(model.to(device), 2000, model.best_diagonal, ROUGH, *streams(device))
    truth = double_log_marginal(model, found.x)
    for bound, sign in ((found.log_marginal.lower, -1), (found.log_marginal.upper, 1)):
        assert bound is not None
        off = sign * (bound - truth)
        assert off.mean() > 4 * off.std() / 2000**0.5, (size, sign)
        assert off.mean() < 2.5


@pytest.mark.parametrize("size", [2, 10, 50])
def test_the_width_closes_on_the_truth(size: int, device: torch.device, dtype: torch.dtype) -> None:
    model, _ = gaussian_posterior_model(100.0, size, dtype=dtype)
    found = bidirectional(model.to(device), 40, model.best_diagonal, Annealing(temperatures=10), *streams(device))
    truth = double_log_marginal(model, found.x)
    torch.testing.assert_close(found.log_marginal.lower, truth, rtol=0, atol=2e-3)
    torch.testing.assert_close(found.log_marginal.upper, truth, rtol=0, atol=2e-3)


def test_a_posterior_with_walls(device: torch.device) -> None:
    model, _ = factorized_bernoulli(10.0, 6, num=1)
    model = model.to(device)
    settings = Annealing(temperatures=20)
    found = bidirectional(model, 300, lambda x: standard(x, 6), settings, *streams(device))
    truth = model.log_marginal_exact(found.x.cpu())
    lower, upper = found.log_marginal.lower, found.log_marginal.upper
    assert lower is not None and upper is not None
    assert (lower - truth).mean() < 3 * (lower - truth).std() / 300**0.5
    assert (upper - truth).mean() > -3 * (upper - truth).std() / 300**0.5
    assert (upper - lower).mean() < 0.1


def test_a_q_that_misses_a_mode_shows_in_the_width(device: torch.device) -> None:
    """The lower bound is the mass of q's own mode, to 0.001 nats and without a sign of doubt; the width has one."""
    model, x = bimodal(scale=0.05, num=1)
    z, x = simulate(model, 400, 1, torch.float64)
    far = x[:, 0] > 0.5
    z, x = z[far], x[far]
    _, right = model.modes(x)
    one_mode = DiagonalGaussianPosterior(right, torch.full_like(right, math.log(0.05)))
    found = enclose(model, z, x, one_mode, Annealing(), *streams(device)).log_marginal
    assert found.lower is not None and found.upper is not None
    torch.testing.assert_close(found.lower, model.log_mass(x, 0.0, 12.0), rtol=0, atol=0.02)
    assert (found.diagnostics["ess"] > 7.5).all()
    width, left = found.upper - found.lower, z[:, 0] < 0
    assert width[left].min() > 3 and width[~left].max() < 0.1
    assert width.mean() > (model.log_marginal_exact(x) - found.lower).mean() > 0.5


def test_the_upper_bound_by_exact_weights() -> None:
    """Weights of two states, P = (.9, .1) and Q = (.3, .7), enumerated: E log (w̃ + Σ w)/(C+1) ≥ 0 and falls in C."""
    p, q = torch.tensor([0.9, 0.1], dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64)
    log_weight = (p / q).log()
    values = []
    for chains in (1, 2, 4):
        states = torch.cartesian_prod(*[torch.arange(2)] * (chains + 1)).reshape(-1, chains + 1)
        probability = p[states[:, 0]] * q[states[:, 1:]].prod(1)
        bound = upper_bound(log_weight[states[:, 1:]].T, log_weight[states[:, :1]].T)
        values.append(float(probability @ bound))
    assert values[0] > values[1] > values[2] > 0
    twice = torch.zeros(2, 1, dtype=torch.float64)
    torch.testing.assert_close(upper_bound(twice, twice), torch.zeros(1, dtype=torch.float64))


def test_gradients_and_ticks_of_both_directions(device: torch.device) -> None:
    model, _ = gaussian_posterior_model(4.0, 3)
    settings = Annealing(temperatures=5, chains=4, leapfrog=2, curvature=1, pilot_temperatures=3, pilot_chains=2)
    ticks: list[int] = []
    found = bidirectional(
        model.to(device), 3, model.best_diagonal, settings, *streams(device), tick=lambda: ticks.append(1)
    )
    pilot = 2 * 32 + 2 + 3 * 2 * 2
    assert found.decoder_gradients == pilot + (4 + 4 * 4 * 2) + (1 + 4 * 4 * 2)
    assert len(ticks) == 3 + 2 * 4
    assert found.z.shape == (3, 3) and found.x.shape == (3, 3)
    assert found.log_marginal.kind == "bidirectional, annealing from q* and its curvature, T=5, C=4, L=2"


def test_from_the_prior_and_from_a_full_gaussian(device: torch.device) -> None:
    model, _ = gaussian_posterior_model(4.0, 3)
    model = model.to(device)

    def exact(x: Tensor) -> FullGaussianPosterior:
        return model.exact_posterior(x)

    for start, tolerance in ((lambda x: None, 0.1), (exact, 1e-9)):
        found = bidirectional(model, 50, start, replace(Annealing(), curvature=0), *streams(device)).log_marginal
        assert found.lower is not None and found.upper is not None
        assert abs((found.upper - found.lower).mean()) < tolerance


class OneWay:
    """A q that can be drawn from and not inverted."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def noise(self, num_draws: int) -> NoiseSpec:
        return NoiseSpec("normal", (num_draws, len(self.x), 3))

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        return eps, eps.new_zeros(eps.shape[:-1])

    def draws(self, noise: Tensor | None) -> Draws:
        raise NotImplementedError

    def mean(self) -> Tensor:
        raise NotImplementedError


def test_refusals_say_what_to_do(device: torch.device) -> None:
    model, _ = gaussian_posterior_model(4.0, 3)
    model = model.to(device)
    with pytest.raises(VemError, match=r"OneWay has no whiten\(z\).*family=diagonal_gaussian"):
        bidirectional(model, 3, OneWay, Annealing(), *streams(device))
    with pytest.raises(VemError, match=r"evaluation\.simulated\.num_data=0"):
        bidirectional(model, 0, model.best_diagonal, Annealing(), *streams(device))
