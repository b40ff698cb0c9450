"""Annealing against exact answers, and the faults that would void its bound."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from gap_cases import diagonal
from oracle_models import (
    bimodal,
    double_best_diagonal_bound,
    double_log_marginal,
    factorized_bernoulli,
    gaussian_posterior_model,
    simulate,
)  # fmt: skip
from torch import Tensor, nn

from vem.contracts import LogMarginal
from vem.errors import VemError
from vem.evaluation.bounds.annealing import anneal, follow, path_ess, upper_bound
from vem.evaluation.bounds.annealing_path import Annealing, Path, equal_shares, fixed_betas, pilot
from vem.evaluation.bounds.curvature import with_curvature
from vem.evaluation.bounds.hmc import Refresh, Target, frozen, log_ratio, refreshes, tempered, transition
from vem.evaluation.bounds.importance import importance_bound
from vem.evaluation.measured import Streams
from vem.families.gaussian import DiagonalGaussianPosterior, log_standard_normal
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.noise import fill, generator

PLAIN = Annealing(curvature=0)  # from q* as it is


def streams(device: torch.device, pilot: int = 0, run: int = 0) -> Streams:
    return lambda purpose: generator(device, pilot if purpose == "pilot" else run, purpose)


def small_vae(num: int, device: torch.device, hidden: int = 3) -> tuple[DeepLatentModel, Tensor]:
    """An untrained network, whose posterior is no Gaussian, and data for it."""
    torch.manual_seed(3)
    model = DeepLatentModel((6,), hidden, MLPFactory([8], "tanh")).double().to(device)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    x = (torch.rand(num, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) < 0.4).double()
    return model, x.to(device)


def wide_q(num: int, size: int, device: torch.device, scale: float = 0.7) -> DiagonalGaussianPosterior:
    return diagonal(torch.full((num, size), 0.1, dtype=torch.float64, device=device), scale)


# --- the answer


@pytest.mark.parametrize(
    ("size", "condition", "dtype"),
    [(2, 10.0, torch.float64), (10, 100.0, torch.float32), (50, 10.0, torch.float32), (50, 100.0, torch.float64)],
)
def test_a_gaussian_posterior_from_its_best_diagonal_q(
    size: int, condition: float, dtype: torch.dtype, device: torch.device
) -> None:
    """Within 0.01 nats in the mean over 100 data at the default budget, where the ELBO is far below."""
    model, x = gaussian_posterior_model(condition, size, num=100)
    truth = double_log_marginal(model, x)
    assert (truth - double_best_diagonal_bound(model, x)).mean() > 0.2
    model, x = model.to(device, dtype), x.to(device, dtype)
    with torch.no_grad():
        q = model.best_diagonal(x)
    found = anneal(model, x, q, Annealing(), streams(device))
    assert found.upper is None and found.lower.dtype == torch.float64
    error = found.lower.cpu() - truth
    assert abs(error.mean()) < 0.01 and error.abs().max() < 0.01
    torch.testing.assert_close(found.diagnostics["ess"], torch.full_like(found.lower, 8.0), rtol=1e-2, atol=0)


def test_weights_are_unbiased_on_a_frozen_path(device: torch.device) -> None:
    """E[w] = p(x) and, backward from exact draws of the posterior, E[1/w] = 1/p(x): bad step sizes and all."""
    model, x = gaussian_posterior_model(5.0, 2, num=4)
    model, x = model.to(device), x.to(device)
    chains = 20_000
    with frozen(model):
        target = Target(model, x, wide_q(4, 2, device, scale=1.0))
        betas = torch.tensor([0.0, 0.1, 0.4, 0.7, 1.0], dtype=torch.float64, device=device)[:, None].repeat(1, 4)
        steps = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64, device=device)[:, None].repeat(1, 4)
        g = generator(device, 1)
        noise = refreshes(g, (chains, 4, 2), torch.float64)
        ahead = follow(target, Path(betas, steps), target(next(noise).momentum), noise, leapfrog=2)
        z, _ = model.exact_posterior(x).transport(next(noise).momentum)
        back = follow(target, Path(betas, steps), target(target.base.whiten(z)), noise, leapfrog=2, backward=True)
        truth = model.log_marginal(x)
    assert ahead.log_weight.var(0).min() > 0.05  # far from a trivial path
    for run, sign in ((ahead, 1), (back, -1)):
        ratio = (sign * (run.log_weight - truth)).exp()
        error = ratio.std(0) / chains**0.5
        assert error.max() < 0.05
        assert ((ratio.mean(0) - 1).abs() < 4 * error).all()


def test_a_rotated_posterior_that_is_no_gaussian(device: torch.device) -> None:
    """Every coordinate a logistic wall at slope 10: 4.8 / 50 nats a dimension are missing from the ELBO."""
    model, x = factorized_bernoulli(10.0, 10, num=100)
    truth = model.log_marginal_exact(x)
    mean, scale = model.best_gaussian(x)
    gap = (truth - model.best_bound(x)).mean()
    found = anneal(model, x, DiagonalGaussianPosterior(mean, scale.log()), Annealing(), streams(device))
    error = found.lower - truth
    assert gap > 0.5
    assert abs(error.mean()) < 0.02 + 3 * error.std() / 10


def test_two_modes_from_the_prior(device: torch.device) -> None:
    model, x = bimodal(num=60)
    found = anneal(model, x, None, replace(PLAIN, temperatures=100), streams(device))
    error = found.lower - model.log_marginal_exact(x)
    assert -0.1 < error.mean() < 3 * error.std() / 60**0.5 and "the prior" in found.kind


# --- no adaptation in the run


def test_future_noise_changes_nothing_that_has_happened(device: torch.device) -> None:
    """The run is a pure function of path, start and noise, and each increment one of the noise before it."""
    model, x = small_vae(3, device)
    with frozen(model):
        target = Target(model, x, wide_q(3, 3, device))
        path = pilot(target, Annealing(temperatures=8), generator(device, 0)).path
        noise = refreshes(generator(device, 5), (4, 3, 3), torch.float64)
        start, first = target(next(noise).momentum), [next(noise) for _ in range(7)]
        other = first[:3] + [Refresh(-r.momentum, 1 - r.jitter, r.threshold / 2) for r in first[3:]]
        kept = copy.deepcopy(path)
        one, again, changed = (follow(target, path, start, iter(n), leapfrog=2) for n in (first, first, other))
    assert torch.equal(one.increments, again.increments)
    assert torch.equal(one.increments[:4], changed.increments[:4])
    assert not torch.equal(one.increments[4:], changed.increments[4:])
    assert torch.equal(path.betas, kept.betas) and torch.equal(path.step_sizes, kept.step_sizes)


def test_the_path_sees_only_the_pilot_stream(device: torch.device) -> None:
    model, x = small_vae(3, device)
    q, settings = wide_q(3, 3, device), Annealing(temperatures=6)
    runs = [anneal(model, x, q, settings, streams(device, run=s)) for s in (1, 2)]
    for name in ("beta", "step_size"):
        assert torch.equal(runs[0].diagnostics[name], runs[1].diagnostics[name])
    assert not torch.equal(runs[0].lower, runs[1].lower)


def test_step_sizes_that_adapt_while_annealing_are_caught(device: torch.device) -> None:
    """The planted fault: each chain's step follows what it has just met. Then E[w] is not p(x), by many errors."""
    model, x = gaussian_posterior_model(5.0, 2, num=1)
    model, x = model.to(device), x.to(device).expand(10_000, -1)  # a chain for each copy of one datum

    def mean_weight(adapting: bool) -> tuple[float, float]:
        target = Target(model, x, wide_q(len(x), 2, device, 1.0))
        noise = refreshes(generator(device, 1), (1, len(x), 2), torch.float64)
        point, step = target(next(noise).momentum), x.new_full((len(x),), 0.6)
        betas = fixed_betas("linear", 10, x)
        log_weight = torch.zeros_like(betas[0])
        for t in range(1, 11):
            log_weight += (betas[t] - betas[t - 1]) * log_ratio(point)[0]
            moved = transition(target, point, betas[t], step, next(noise), leapfrog=2)
            point = moved.point
            if adapting:
                step = step * torch.where(moved.acceptance[0] > 0.8, 2.0, 0.5)
        weight = (log_weight - model.log_marginal(x[:1])).exp()
        return float(weight.mean()), float(weight.std()) / len(x) ** 0.5

    with frozen(model):
        (right, error), (wrong, wrong_error) = mean_weight(False), mean_weight(True)
    assert abs(right - 1) < 4 * error
    assert abs(wrong - 1) > 6 * wrong_error


# --- the transition


def test_a_transition_costs_its_leapfrog_steps_and_keeps_true_values(device: torch.device) -> None:
    model, x = small_vae(4, device)
    with frozen(model):
        target = Target(model, x, wide_q(4, 3, device))
        noise = refreshes(generator(device, 2), (5, 4, 3), torch.float64)
        point = target(next(noise).momentum)
        half = torch.full((4,), 0.5, dtype=torch.float64, device=device)
        before = target.gradients
        moved = transition(target, point, half, half, next(noise), leapfrog=4)
        assert target.gradients - before == 4 * 5
        fresh = target(moved.point.eps)
    torch.testing.assert_close(moved.point.value, fresh.value)
    torch.testing.assert_close(moved.point.gradient, fresh.gradient)
    rejected = (moved.point.eps == point.eps).all(-1)
    assert rejected.any() and not rejected.all()


def test_a_transition_leaves_its_temperature_invariant(device: torch.device) -> None:
    """Exact draws of π_β stay draws of π_β, at a step size that rejects many."""
    model, x = gaussian_posterior_model(8.0, 2, num=2)
    model, x = model.to(device), x.to(device)
    beta = torch.tensor([0.3, 0.8], dtype=torch.float64, device=device)
    num = 40_000
    with frozen(model):
        target = Target(model, x, wide_q(2, 2, device, 1.0))
        noise = refreshes(generator(device, 3), (num, 2, 2), torch.float64)
        # log π_β is quadratic: its mean and precision from the target itself.
        zero = torch.zeros(1, 2, 2, dtype=torch.float64, device=device)
        slope = [beta[:, None] * target(zero + e).gradient[0] - (1 - beta[:, None]) * e for e in torch.eye(3, 2).to(x)]
        precision = torch.stack([slope[2] - slope[0], slope[2] - slope[1]], -1)
        mean = torch.linalg.solve(precision, slope[2])
        tril = torch.linalg.cholesky(torch.linalg.inv(precision))
        draws = mean + torch.einsum("bij,sbj->sbi", tril, next(noise).momentum)
        after = target(draws)
        for _ in range(3):
            after = transition(target, after, beta, beta * 0 + 1.1, next(noise), leapfrog=2).point
    assert 0.1 < (after.eps == draws).all(-1).double().mean() < 0.9 or not torch.equal(after.eps, draws)
    spread = after.eps - mean
    error = 5 / num**0.5
    assert (torch.linalg.solve_triangular(tril, spread.mean(0)[..., None], upper=False).abs() < error).all()
    white = torch.linalg.solve_triangular(tril, spread.movedim(0, -1), upper=False)
    second = white @ white.mT / num
    torch.testing.assert_close(second, torch.eye(2).to(second).expand(2, 2, 2), rtol=0, atol=2 * error)


def test_tempering_runs_from_q_to_the_joint(device: torch.device) -> None:
    model, x = small_vae(2, device)
    q = wide_q(2, 3, device)
    with frozen(model):
        point = Target(model, x, q)(torch.randn(4, 2, 3, dtype=torch.float64, device=device))
        draws = q.draws(point.eps)
        zero = torch.zeros(2, dtype=torch.float64, device=device)
        _, log_det = q.transport(point.eps)
        torch.testing.assert_close(tempered(point, zero), draws.log_q + log_det)
        joint = model.log_likelihood(x, draws.z) + model.log_prior(draws.z)
        torch.testing.assert_close(tempered(point, zero + 1), joint + log_det)


class Walled(nn.Module):
    """Fails beyond a wall that no draw from q meets, and chains do."""

    def __init__(self, value: float, wall: float) -> None:
        super().__init__()
        self.value, self.wall = value, wall
        self.linear = nn.Linear(2, 4, dtype=torch.float64)

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(z[:, :1] > self.wall, self.value * (1 + z.sum()), self.linear(z))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_trajectories_that_diverge_are_rejected(value: float, device: torch.device) -> None:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 0, 1, 0]] * 3, dtype=torch.float64, device=device)
    model = DeepLatentModel((4,), 2, Walled(value, 2.0)).to(device)
    found = anneal(model, x, wide_q(3, 2, device, 0.2), PLAIN, streams(device))
    assert found.lower.isfinite().all()
    assert (found.diagnostics["diverged"] > 0).all()


class OneWay:
    """A q that can be drawn from and not inverted."""

    def transport(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        return eps, eps.new_zeros(eps.shape[:-1])

    def noise(self, num_draws: int) -> None:
        raise NotImplementedError

    mean = draws = noise


def test_backward_needs_a_transport_that_can_be_undone(device: torch.device) -> None:
    model, x = gaussian_posterior_model(4.0, 3)
    with pytest.raises(VemError, match=r"OneWay has no whiten\(z\).*family=diagonal_gaussian"):
        anneal(model.to(device), x.to(device), OneWay(), PLAIN, streams(device), z=x.to(device))


# --- the path


def test_one_temperature_is_importance_sampling(device: torch.device) -> None:
    model, x = small_vae(40, device)
    q = wide_q(40, 3, device)
    settings = replace(PLAIN, temperatures=1, chains=500)
    annealed = anneal(model, x, q, settings, streams(device))
    weighted = importance_bound(model, x, q, samples=500, stream=generator(device, 7))
    error = (annealed.diagnostics["mc_variance"] + weighted.diagnostics["mc_variance"]).sum().sqrt() / 40
    assert abs((annealed.lower - weighted.lower).mean()) < 4 * error
    assert annealed.diagnostics["decoder_gradients"] == 500 + 8 + 20 * 8 * 3


@pytest.mark.parametrize("both", [False, True])
def test_gradients_and_ticks_are_counted(both: bool, device: torch.device) -> None:
    """Of one direction, and of both: an exact z costs one gradient more."""
    model, x = small_vae(2, device)
    settings = Annealing(temperatures=7, chains=3, leapfrog=2, curvature=1, pilot_temperatures=4, pilot_chains=2)
    ticks: list[int] = []
    z = torch.zeros(2, 3, dtype=torch.float64, device=device) if both else None
    found = anneal(model, x, wide_q(2, 3, device), settings, streams(device), lambda: ticks.append(1), z)
    run = 6 * 3 * 2
    assert found.diagnostics["decoder_gradients"] == (2 * 32 + 2 + 4 * 2 * 2) + 3 + run + (1 + run if both else 0)
    assert len(ticks) == 4 + 6 * (1 + both)
    name = "annealing from q* and its curvature, T=7, C=3, L=2"
    assert found.kind == (f"bidirectional, {name}" if both else name) and (found.upper is not None) == both


def test_a_tick_may_stop_the_work(device: torch.device) -> None:
    model, x = small_vae(2, device)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anneal(model, x, wide_q(2, 3, device), PLAIN, streams(device), tick=stop)
    assert model.training and all(p.requires_grad for p in model.parameters())


def test_adaptive_temperatures_even_out_the_conditional_ess(device: torch.device) -> None:
    """From the prior most is lost in the first linear steps; equal shares of √Var[r] spread it."""
    model, x = gaussian_posterior_model(300.0, 10, num=30)
    model, x = model.to(device), x.to(device)
    worst = {}
    for schedule in ("linear", "sigmoid", "adaptive"):
        settings = Annealing(schedule=schedule, start="prior", temperatures=60, chains=32, pilot_temperatures=60)
        found = anneal(model, x, None, settings, streams(device))
        beta, ess = found.diagnostics["beta"], found.diagnostics["path_ess"]
        assert beta.shape == ess.shape == (60, 30)
        assert (beta.diff(dim=0) > 0).all() and torch.equal(beta[-1], torch.ones_like(beta[-1]))
        worst[schedule] = float(ess.mean(1).min())
    assert worst["adaptive"] > worst["sigmoid"] > worst["linear"], worst
    assert worst["adaptive"] > 0.85


def test_equal_shares_of_a_known_length() -> None:
    """Spread 2β has the length β²: equal shares stand at the square roots, up to the even tenth."""
    knots = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    betas = equal_shares(knots, 2 * knots, 10)
    length = (betas.square() + 0.1 * betas) / 1.1
    torch.testing.assert_close(length[:, 0], torch.linspace(0, 1, 11, dtype=torch.float64), rtol=0, atol=1e-4)
    nothing = equal_shares(knots, torch.full_like(knots, torch.nan), 4)
    torch.testing.assert_close(nothing[:, 0], torch.linspace(0, 1, 5, dtype=torch.float64))


def test_path_ess_by_hand() -> None:
    """Two chains: equal weights at first, then 1 and 3 going on equally, then undone."""
    increments = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [0.0, -math.log(3.0)]])[..., None]
    found = path_ess(increments.double()).flatten()
    # (½·1 + ½·3)² / (½·1 + ½·9) = 0.8; then 1; then weights ¼, ¾ and u = 1, ⅓: (½)² / (¼ + 1/12) = 0.75.
    torch.testing.assert_close(found, torch.tensor([0.8, 1.0, 0.75], dtype=torch.float64))


def test_the_pilot_meets_its_acceptance(device: torch.device) -> None:
    model, x = gaussian_posterior_model(10.0, 50, num=30)
    model, x = model.to(device), x.to(device)
    for goal in (0.65, 0.9):
        settings = replace(PLAIN, acceptance=goal, leapfrog=1, pilot_temperatures=40)
        found = anneal(model, x, model.best_diagonal(x), settings, streams(device))
        assert float(found.diagnostics["acceptance"].mean()) == pytest.approx(goal, abs=0.06)


# --- curvature


def test_newton_passes_find_a_gaussian_posterior(device: torch.device) -> None:
    """From a q far off, in bounded steps: mean, covariance, the determinant and the inverse."""
    model, x = gaussian_posterior_model(50.0, 8, num=5)
    model, x = model.to(device), x.to(device)
    exact = model.exact_posterior(x)
    with frozen(model):
        found = with_curvature(Target(model, x, wide_q(5, 8, device, 0.5)), 8, generator(device, 0))
        torch.testing.assert_close(found.mean(), exact.mean(), rtol=1e-6, atol=1e-6)
        covariance = 0.25 * found.matrix @ found.matrix.mT
        torch.testing.assert_close(covariance, (exact.scale_tril @ exact.scale_tril.mT).detach())
        eps = torch.randn(6, 5, 8, dtype=torch.float64, device=device)
        z, log_det = found.transport(eps)
        torch.testing.assert_close(log_standard_normal(eps) - log_det, exact.frozen_log_q(z))
        torch.testing.assert_close(found.whiten(z), eps)


def test_curvature_leaves_a_q_that_it_cannot_better(device: torch.device) -> None:
    """Two far modes and a q that spans them: a Newton step often harms, and then the q stays as it was."""
    model, x = bimodal(scale=0.05, num=100)
    model, x = model.to(device), x.to(device)
    q = diagonal(x.new_zeros(100, 2), 0.8)
    with frozen(model):
        found = with_curvature(Target(model, x, q), 2, generator(device, 0))
        eps = torch.randn(1000, 100, 2, generator=generator(device, 1), dtype=torch.float64, device=device)
        before, after = (log_ratio(Target(model, x, p)(eps)) for p in (q, found))
    gain, error = (after - before).mean(0), (after - before).std(0) / 1000**0.5
    kept = (found.matrix == torch.eye(2).to(x)).all(-1).all(-1)
    assert 0 < kept.sum() < 100 and not gain[kept].any()
    assert (gain >= -5 * error).double().mean() > 0.97


# --- two runs enclose log p(x), where it is known and where it is not

ROUGH = Annealing(temperatures=4, chains=3, leapfrog=1, curvature=0, pilot_temperatures=4)


class Simulated(NamedTuple):
    x: Tensor
    bound: LogMarginal
    truth: Tensor


def bidirectional(
    model: Any, num: int, start: Callable[[Tensor], Any], settings: Annealing, device: torch.device
) -> Simulated:
    """Both bounds of pairs that are drawn from the model, and log p(x)."""
    dtype = next(p.dtype for p in model.parameters())
    with torch.no_grad():
        z, x = model.sample(fill(model.sample_noise(num), generator(device, "pairs"), dtype))
        found = anneal(model, x, start(x), settings, streams(device), z=z)
    truth = model.log_marginal_exact if hasattr(model, "log_marginal_exact") else partial(double_log_marginal, model)
    return Simulated(x, found, truth(x).cpu())


@pytest.mark.parametrize("size", [2, 10])
def test_rough_runs_enclose_the_truth_in_the_mean(size: int, device: torch.device) -> None:
    """So few temperatures that both bounds are visibly off: each on its own side."""
    model, _ = gaussian_posterior_model(20.0, size)
    found = bidirectional(model.to(device), 2000, model.best_diagonal, ROUGH, device)
    for bound, sign in ((found.bound.lower, -1), (found.bound.upper, 1)):
        off = sign * (bound.cpu() - found.truth)
        assert off.mean() > 4 * off.std() / 2000**0.5, (size, sign)
        assert off.mean() < 2.5


@pytest.mark.parametrize(("size", "dtype"), [(2, torch.float64), (10, torch.float32), (50, torch.float64)])
def test_the_width_closes_on_the_truth(size: int, dtype: torch.dtype, device: torch.device) -> None:
    model, _ = gaussian_posterior_model(100.0, size, dtype=dtype)
    found = bidirectional(model.to(device), 40, model.best_diagonal, Annealing(temperatures=10), device)
    for bound in (found.bound.lower, found.bound.upper):
        torch.testing.assert_close(bound.cpu(), found.truth, rtol=0, atol=2e-3)


def test_a_posterior_with_walls(device: torch.device) -> None:
    model, _ = factorized_bernoulli(10.0, 6, num=1)
    settings = Annealing(temperatures=20)
    found = bidirectional(model.to(device), 300, lambda x: diagonal(torch.zeros_like(x), 1.0), settings, device)
    low, high = found.bound.lower - found.truth, found.bound.upper - found.truth
    assert low.mean() < 3 * low.std() / 300**0.5 and high.mean() > -3 * high.std() / 300**0.5
    assert (high - low).mean() < 0.1


def test_a_q_that_misses_a_mode_shows_in_the_width(device: torch.device) -> None:
    """The lower bound is the mass of q's own mode, to 0.001 nats and without a sign of doubt; the width has one."""
    model, x = bimodal(scale=0.05, num=1)
    z, x = simulate(model, 200, 1, torch.float64)
    far = x[:, 0] > 0.5
    z, x = z[far], x[far]
    _, right = model.modes(x)
    found = anneal(model, x, diagonal(right, 0.05), Annealing(), streams(device), z=z)
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


def test_from_the_prior_and_from_a_full_gaussian(device: torch.device) -> None:
    model, _ = gaussian_posterior_model(4.0, 3)
    model = model.to(device)
    for start, tolerance in ((lambda x: None, 0.1), (model.exact_posterior, 1e-9)):
        found = bidirectional(model, 50, start, PLAIN, device).bound
        assert abs((found.upper - found.lower).mean()) < tolerance
