"""Quadrature over one or two latent dimensions against closed forms and scipy.integrate."""

import math

import pytest
import torch
from oracle_models import (
    Oracle,
    bimodal,
    double_log_marginal,
    factorized_bernoulli,
    gaussian_posterior_model,
    rotation,
)  # fmt: skip
from torch import nn

from vem.errors import VemError
from vem.evaluation.bounds import quadrature as room
from vem.evaluation.bounds.quadrature import joint_on_grid, posterior_boxes, quadrature
from vem.families.gaussian import DiagonalGaussianPosterior, log_standard_normal
from vem.models.deep import DeepLatentModel

TIGHT = 1e-9  # nats, in float64


def judged(model, x, truth, dtype=torch.float64, **options):
    """The misses, after checking the shape of the answer and that its own error covers each of them."""
    tolerance = TIGHT if dtype == torch.float64 else 1e-4
    out = quadrature(model, x, **{"tolerance": tolerance, **options})
    assert out.kind == "quadrature" and out.lower is out.upper and out.lower.dtype == torch.float64
    assert (out.diagnostics["mc_variance"] == 0).all()
    miss, error = (out.lower - truth).abs(), out.diagnostics["error"]
    assert miss.shape == error.shape == (len(x),)
    assert (miss <= error).all(), (miss, error)
    return miss, error


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("condition", [1.5, 100, 1e4])
def test_linear_gaussian(size, condition, dtype):
    """Down to posterior widths of 0.01, between 1 and 2·10⁴ in density."""
    model, x = gaussian_posterior_model(condition, size, dtype=dtype, num=10)
    miss, error = judged(model, x, double_log_marginal(model, x), dtype)
    assert miss.max() < (1e-8 if dtype == torch.float64 else 2e-3 if condition == 1e4 else 1e-4)
    assert error.max() < (2e-8 if dtype == torch.float64 else 1e-2)


@pytest.mark.parametrize("slope", [1, 3, 10, 30])
@pytest.mark.parametrize("turn", [None, rotation(2, 3)])
def test_bernoulli_up_to_steps(slope, turn, dtype):
    model, x = factorized_bernoulli(slope, 2, dtype, turn, bias_scale=0.7, num=6)
    miss, error = judged(model, x, model.log_marginal_exact(x), dtype)
    assert miss.max() < (1e-8 if dtype == torch.float64 else 1e-4)
    assert error.max() < (1e-8 if dtype == torch.float64 else 3e-4)


@pytest.mark.parametrize(("tilt", "scale"), [(0.0, 0.3), (0.4, 0.1), (0.0, 0.02)])
def test_two_modes_as_islands(tilt, scale, dtype):
    model, x = bimodal(tilt, scale, dtype, num=6)
    truth = model.log_marginal_exact(x)
    miss, _ = judged(model, x, truth, dtype)
    assert miss.max() < (1e-8 if dtype == torch.float64 else 1e-3)
    # One mode alone would be off by about log 2.
    left = model.log_mass(x, -12.0, -tilt / 2)
    assert (truth - left).median() > 0.3


def test_loose_tolerance_costs_less_and_is_kept(monkeypatch):
    model, x = bimodal(0.4, 0.1, num=6)
    truth, points = model.log_marginal_exact(x), []
    count = []
    likelihood = model.log_likelihood
    monkeypatch.setattr(model, "log_likelihood", lambda x, z: (count.append(z[..., 0].numel()), likelihood(x, z))[1])
    for tolerance in (1e-2, 1e-4, 1e-9):
        count.clear()
        miss, error = judged(model, x, truth, tolerance=tolerance)
        assert miss.max() < tolerance and error.max() <= tolerance
        points.append(sum(count) / len(x))
    assert points == sorted(points) and points[1] < 25_000  # decoder evaluations a datum


def test_far_from_the_prior_the_box_widens():
    model, _ = gaussian_posterior_model(100, 2)
    x = torch.tensor([[0.0, 0.0], [300.0, -200.0], [-120.0, 40.0]], dtype=torch.float64)
    assert model.exact_posterior(x).mean().abs().max() > 17
    miss, _ = judged(model, x, double_log_marginal(model, x))
    assert miss.max() < 1e-7


def test_beyond_every_box():
    model, _ = gaussian_posterior_model(100, 1)
    with pytest.raises(VemError, match=r"1 of 2 data.*edge"):
        quadrature(model, torch.tensor([[0.0], [1e5]], dtype=torch.float64))


class Needle(Oracle):
    """p(x | z) = ½ N(x; 0, 1) + ½ N(x; 0, 1) [r(z)]: r a needle of width s at 1/3 with as much prior mass as the rest.

    The needle lies between the points of any coarse grid; log p(x) = log N(x; 0, 1) exactly.
    """

    width = 1e-6

    def log_likelihood(self, x, z):
        log_needle = log_standard_normal((z - 1 / 3) / self.width) - math.log(self.width)
        ratio = torch.logaddexp(torch.zeros_like(log_needle), log_needle - log_standard_normal(z)) - math.log(2)
        return log_standard_normal(x) + ratio


def test_a_needle_in_flat_land_is_found_where_q_points_at_it():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    truth = log_standard_normal(x)
    missed = quadrature(Needle(1), x).lower
    torch.testing.assert_close(missed, truth - math.log(2), rtol=0, atol=1e-6)  # what no grid can know
    q = DiagonalGaussianPosterior(torch.full((2, 1), 1 / 3).double(), torch.zeros(2, 1).double())
    miss, _ = judged(Needle(1), x, truth, centre=q)
    assert miss.max() < 1e-8


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), 1e30, 20.0])
def test_a_hint_that_is_wrong_does_no_harm(wild):
    model, x = gaussian_posterior_model(10, 2, num=3)
    q = DiagonalGaussianPosterior(torch.full((3, 2), wild).double(), torch.zeros(3, 2).double())
    miss, _ = judged(model, x, double_log_marginal(model, x), centre=q)
    assert miss.max() < 1e-8


def test_a_hint_beyond_the_box_widens_it():
    """A mode at z = 11 that the points within ± 8 do not see."""

    class Far(Needle):
        def log_likelihood(self, x, z):
            log_far = log_standard_normal((z - 11) / 0.01) - math.log(0.01)
            return log_standard_normal(x) + torch.logaddexp(torch.zeros_like(log_far), log_far - log_standard_normal(z))

    x = torch.zeros(1, 1, dtype=torch.float64)
    q = DiagonalGaussianPosterior(torch.full((1, 1), 11.0).double(), torch.zeros(1, 1).double())
    miss, _ = judged(Far(1), x, log_standard_normal(x) + math.log(2), centre=q)
    assert miss.max() < 1e-8


class Box(Oracle):
    """x is possible only for |z_1| < 1.1: log p(x | z) = −∞ elsewhere. A jump, where the rule converges slowly."""

    def log_likelihood(self, x, z):
        inside = z[..., 0].abs() < 1.1
        return torch.where(inside, torch.zeros_like(z[..., 0]), -torch.inf).expand(-1, len(x))


def test_a_jump_does_not_converge_and_says_so():
    x = torch.zeros(2, 1, dtype=torch.float64)
    truth = math.log(math.erf(1.1 / 2**0.5))
    out = quadrature(Box(2), x, tolerance=1e-9)
    error = out.diagnostics["error"]
    assert (error > 1e-9).all()  # owned up to
    assert ((out.lower - truth).abs() <= error).all() and error.max() < 0.01


def test_what_quadrature_does_not_do():
    model, x = gaussian_posterior_model(10, 3)
    with pytest.raises(VemError, match=r"latent_dim=3.*at most 2.*annealing"):
        quadrature(model, x)
    model, x = gaussian_posterior_model(10, 2)
    for tolerance in (0, -1.0, float("nan")):
        with pytest.raises(VemError, match=r"^tolerance="):
            quadrature(model, x, tolerance=tolerance)


# --- deep models: a shared coarse grid, dropout, blocks


def deep(likelihood="bernoulli", dtype=torch.float64):
    torch.manual_seed(0)
    layers = [nn.Linear(2, 30), nn.Tanh(), nn.Linear(30, 40)]
    model = DeepLatentModel((5, 8), 2, nn.Sequential(*layers, nn.Unflatten(1, (5, 8))), likelihood).to(dtype)
    with torch.no_grad():
        model.decoder[0].weight.mul_(3)
        model.decoder[2].weight.mul_(4)
    x = model.sample({k: torch.rand(s.shape).to(dtype) for k, s in model.sample_noise(5).items()})[1].detach()
    return model, x


def dense(model, x, reach=8.0, num=400):
    """log p(x) by one dense midpoint grid over ± reach."""
    axis = (torch.arange(num, dtype=torch.float64) + 0.5) / num * 2 * reach - reach
    z = torch.cartesian_prod(axis, axis)
    out = []
    with torch.no_grad():
        for datum in x:
            parts = [model.log_likelihood(datum[None], p[:, None]) for p in z.split(2**16)]
            out.append((torch.cat(parts).squeeze(1) + model.log_prior(z)).logsumexp(0))
    return torch.stack(out) + 2 * math.log(2 * reach / num)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_deep_model_against_a_dense_grid(likelihood):
    model, x = deep(likelihood)
    miss, _ = judged(model, x[:2], dense(model, x[:2]))
    assert miss.max() < 1e-7


def test_small_blocks_give_the_same_numbers(monkeypatch):
    model, x = deep()
    whole = quadrature(model, x)
    monkeypatch.setattr(room, "MAX_FLOATS", 2**12)
    sizes = []
    likelihood = model.log_likelihood
    monkeypatch.setattr(
        model, "log_likelihood", lambda x, z: (sizes.append(z[..., 0].numel() * 40), likelihood(x, z))[1]
    )
    parts = quadrature(model, x)
    torch.testing.assert_close(parts.lower, whole.lower, rtol=0, atol=1e-12)
    assert max(sizes) <= 2**12


def test_the_first_grid_is_decoded_once_for_all_data(monkeypatch):
    model, x = deep()
    count = []
    decode = model.decoder.forward
    monkeypatch.setattr(model.decoder, "forward", lambda z: (count.append(len(z)), decode(z))[1])
    quadrature(model, x)
    few = sum(count)
    count.clear()
    quadrature(model, x.repeat(3, 1, 1))
    assert sum(count) - few == 2 * (few - room.FIRST_POINTS[2])


# --- the density for pictures


def test_the_grid_has_rows_along_the_second_axis(dtype):
    model, x = gaussian_posterior_model(9, 2, dtype=dtype, num=3)
    boxes = torch.tensor([[-3.0, 2.0], [-1.0, 4.0]]).expand(3, 2, 2).to(dtype)
    axes, log_joint = joint_on_grid(model, x, boxes, 7)
    assert axes.shape == (3, 2, 7) and log_joint.shape == (3, 7, 7)
    for axis, (low, high) in enumerate([(-3, 2), (-1, 4)]):
        torch.testing.assert_close(axes[0, axis], torch.linspace(low, high, 7).double())
    for row, column in ((0, 0), (0, 6), (6, 0), (2, 5)):
        z = torch.stack([axes[:, 0, column], axes[:, 1, row]], -1)[None].to(dtype)
        with torch.no_grad():
            truth = (model.log_likelihood(x, z) + model.log_prior(z)).squeeze(0).double()
        torch.testing.assert_close(log_joint[:, row, column], truth, rtol=1e-4, atol=1e-3)


def test_boxes_cover_both_modes_and_little_else():
    model, x = bimodal(0.0, 0.1, num=8)
    boxes, log_marginal = posterior_boxes(model, x)
    torch.testing.assert_close(log_marginal, quadrature(model, x).lower, rtol=0, atol=0)
    left, right = model.modes(x)
    assert (boxes[..., 0] < torch.minimum(left, right)).all() and (boxes[..., 1] > torch.maximum(left, right)).all()
    _, log_joint = joint_on_grid(model, x, boxes, 301)
    cell = (boxes[..., 1] - boxes[..., 0]).prod(-1) / 300**2
    mass = (log_joint - log_marginal[:, None, None]).exp().sum((1, 2)) * cell
    assert ((mass > 0.995) & (mass < 1.005)).all()
    assert (boxes[..., 1] - boxes[..., 0]).max() < 10
