"""What holds of every bound on log p(x): weighted draws, quadrature, and annealing in one direction and in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gap_cases import diagonal
from oracle_models import Oracle, Shifted, gaussian_posterior_model
from torch import Tensor, nn

from vem.contracts import LogMarginal
from vem.errors import VemError
from vem.evaluation.bounds.annealing import anneal
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.bounds.importance import importance_bound, prior_monte_carlo
from vem.evaluation.bounds.quadrature import quadrature
from vem.families.gaussian import DiagonalGaussianPosterior
from vem.models.deep import DeepLatentModel
from vem.models.mixture import Mixture
from vem.noise import generator


def annealed(both: bool = False, **settings: Any) -> Callable[..., LogMarginal]:
    """From q, in one direction or, from some z that is taken for exact, in both."""

    def found(model: Any, x: Tensor, q: Any) -> LogMarginal:
        z = x.new_zeros(len(x), model.latent_size) if both else None
        budget = Annealing(temperatures=3, chains=60, **settings)
        return anneal(model, x, q, budget, lambda purpose: generator(x.device, purpose), z=z)

    return found


# (model, x, q) → what is known of log p(x)
BOUNDS: dict[str, Callable[[Any, Tensor, Any], LogMarginal]] = {
    "importance": lambda model, x, q: importance_bound(model, x, q, samples=5000, stream=generator(x.device, "draws")),
    "prior": lambda model, x, q: prior_monte_carlo(model, x, samples=5000, stream=generator(x.device, "draws")),
    "quadrature": lambda model, x, q: quadrature(model, x, centre=q),
    "annealing": annealed(curvature=0),
    "curved annealing": annealed(),
    "bidirectional": annealed(both=True),
}
EVERY = pytest.mark.parametrize("bound", BOUNDS)
FROM_Q = pytest.mark.parametrize("bound", [name for name in BOUNDS if name not in ("prior", "quadrature")])


class Broken(Oracle):
    """log p(x | z) is ``value`` for the data whose first coordinate is positive, where z_1 > ``wall``."""

    def __init__(self, value: float, wall: float = 0.0) -> None:
        super().__init__(2, 4)
        self.value, self.wall = value, wall

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        hit = (x[:, 0] > 0) & (z[..., 0] > self.wall)
        return torch.where(hit, self.value, -z.square().sum(-1))


def marked(*rows: int) -> tuple[Tensor, DiagonalGaussianPosterior]:
    """Nine data of which these are positive, and q = p(z)."""
    x = torch.zeros(9, 4, dtype=torch.float64)
    x[list(rows)] = 1
    return x, diagonal(x[:, :2] * 0, 1.0)


@EVERY
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_likelihood_that_is_not_a_number_names_the_data(bound: str, value: float) -> None:
    with pytest.raises(VemError, match=r"3 of 9 data .*2, 5, 7.*decoder") as error:
        BOUNDS[bound](Broken(value), *marked(2, 5, 7))
    assert str(value) in str(error.value).lower()


@EVERY
def test_an_impossible_z_has_weight_zero(bound: str) -> None:
    x, q = marked(4)
    found = BOUNDS[bound](Broken(-torch.inf, 0.5), x, q)
    assert found.lower.isfinite().all() and found.lower[4] < found.lower[3]


@pytest.mark.parametrize("bound", ["importance", "prior", "quadrature"])
def test_an_impossible_x_is_refused(bound: str) -> None:
    with pytest.raises(VemError, match=r"1 of 9 data .*rows 4.*log p\(x \| z\) = −∞"):
        BOUNDS[bound](Broken(-torch.inf, -torch.inf), *marked(4))


@FROM_Q
@pytest.mark.parametrize("log_scale", [-torch.inf, torch.inf, torch.nan])
def test_a_q_without_a_width_is_refused(bound: str, log_scale: float) -> None:
    model, x = gaussian_posterior_model(2, 3)
    q = diagonal(torch.zeros_like(x), 1.0)
    q.log_scale[[3, 11], 1] = log_scale
    with pytest.raises(VemError, match=r"no distribution for 2 of 20 data \(rows 3, 11.*variance"):
        BOUNDS[bound](model, x, q)


@EVERY
def test_an_index_is_enumerated(bound: str) -> None:
    model, x = Mixture((4,), 3), torch.zeros(2, 4)
    with pytest.raises(VemError, match=r"index.*enumerat"):
        BOUNDS[bound](model, x, model.exact_posterior(x))


@EVERY
def test_a_prior_that_is_not_standard_normal(bound: str) -> None:
    """By the exact posterior as q, but for what draws from the prior."""
    model, x = Shifted(), torch.tensor([[40.0], [46.0], [32.0]], dtype=torch.float64)
    q = diagonal((25 * x + 40) / 26, (25 / 26) ** 0.5)
    found = BOUNDS[bound](model, x, q)
    error = 4 * found.diagnostics["mc_variance"].sqrt() + 1e-6
    assert ((found.lower - model.log_marginal_exact(x)).abs() < error).all()


@EVERY
def test_the_model_is_left_alone(bound: str, device: torch.device) -> None:
    """No dropout, no graph, no gradient to θ; training mode and what is learned come back."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(2, 20), nn.Tanh(), nn.Dropout(0.5), nn.Linear(20, 6))
    model = DeepLatentModel((6,), 2, layers).double().to(device)
    model.decoder[0].bias.requires_grad_(False)
    learned = [p.requires_grad for p in model.parameters()]
    x = (torch.rand(3, 6) < 0.5).double().to(device)
    q = diagonal(x[:, :2] * 0, 0.7)
    model.eval()
    still = BOUNDS[bound](model, x, q).lower
    model.train()
    assert torch.equal(BOUNDS[bound](model, x, q).lower, still) and not still.requires_grad
    assert model.training and model.decoder[2].training
    assert [p.requires_grad for p in model.parameters()] == learned and all(p.grad is None for p in model.parameters())
