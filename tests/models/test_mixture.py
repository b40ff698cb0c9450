"""Mixtures against scipy, and against plain enumeration in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parts import scattered
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from vem.errors import VemError
from vem.families.categorical import CategoricalPosterior
from vem.models.mixture import Mixture, kmeans, kmeans_plus_plus
from vem.noise import generator
from vem.objectives.elbo import ELBO

KINDS = ("full", "diagonal", "tied", "spherical", "bernoulli")
K, EVENT = 3, (2, 2)


def mixture(kind: str, components: int = K, event: tuple[int, ...] = EVENT, **options: float) -> Mixture:
    if kind == "bernoulli":
        return Mixture(event, components, likelihood="bernoulli", **options)
    return Mixture(event, components, covariance=kind, **options)


def made(device: torch.device, kind: str, dtype: torch.dtype = torch.float64) -> Mixture:
    """A mixture whose parameters are all away from their defaults."""
    return scattered(mixture(kind).to(device, dtype), generator(device, "made", kind))


def data(device: torch.device, kind: str, num: int = 30, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(num, *EVENT, generator=generator(device, "data"), device=device, dtype=dtype)
    return (x > 0).to(dtype) if kind == "bernoulli" else 2 * x + 1


def covariances(model: Mixture, floor: float = 1e-6) -> np.ndarray:
    """Σ [K, D, D] from the raw parameters, with numpy only."""
    raw = {k: v.detach().cpu().double().numpy() for k, v in model.components.named_parameters()}
    pivots = floor + np.exp(raw["raw_variance"])
    size = raw["mean"].shape[1]
    if "lower" not in raw:
        return np.stack([np.diag(np.broadcast_to(row, size)) for row in pivots])
    tril = np.stack([np.tril(low, -1) + np.diag(np.sqrt(p)) for low, p in zip(raw["lower"], pivots, strict=True)])
    return np.broadcast_to(tril @ tril.transpose(0, 2, 1), (K, size, size))


def log_joint(model: Mixture, x: Tensor) -> np.ndarray:
    """log p(x, z = k) [B, K] by enumeration."""
    flat = x.flatten(1).cpu().double().numpy()
    logits = model.weight_logits.detach().cpu().double().numpy()
    log_weights = logits - logsumexp(logits)
    if "logits" in dict(model.components.named_parameters()):
        p = 1 / (1 + np.exp(-model.components.logits.detach().cpu().double().numpy()))
        density = [[np.log(np.where(row == 1, pk, 1 - pk)).sum() for pk in p] for row in flat]
        return np.array(density) + log_weights
    means = model.components.means().detach().cpu().double().numpy()
    normals = [multivariate_normal(m, c) for m, c in zip(means, covariances(model), strict=True)]
    return np.stack([n.logpdf(flat) for n in normals], 1) + log_weights


@pytest.mark.parametrize("kind", KINDS)
def test_any_index_gives_its_own_density(device: torch.device, kind: str) -> None:
    """Not only the enumeration 0 … K − 1: z is gathered."""
    model, x = made(device, kind), data(device, kind)
    z = torch.randint(K, (5, len(x)), generator=generator(device, 1), device=device)
    joint = (model.log_prior(z) + model.log_likelihood(x, z)).detach().cpu().numpy()
    truth = log_joint(model, x)
    expected = np.take_along_axis(truth.T, z.cpu().numpy(), 0)
    np.testing.assert_allclose(joint, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["diagonal", "spherical", "tied", "full"])
def test_float32_keeps_its_digits_at_small_variances_far_from_zero(device: torch.device, kind: str) -> None:
    model = made(device, kind)
    x = 1000 + 1e-2 * data(device, kind)
    with torch.no_grad():
        model.components.mean.mul_(1e-2).add_(1000)
        model.components.raw_variance.sub_(9)
        if kind in ("full", "tied"):
            model.components.lower.mul_(1e-2)
        single = made(device, kind, torch.float32)
        single.load_state_dict(model.state_dict())
        model.load_state_dict(single.state_dict())  # the same numbers, rounded once
    exact = model.log_marginal(x.float().double())
    assert exact.abs().max() > 5
    torch.testing.assert_close(single.log_marginal(x.float()).double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_floors_the_m_step_never_lowers_the_bound(device: torch.device, kind: str) -> None:
    """Two data for each component in four dimensions: every covariance is singular."""
    floor = {"probability_floor": 0.2} if kind == "bernoulli" else {"variance_floor": 0.3}
    model = mixture(kind, **floor).to(device, torch.float64)
    x = data(device, kind, 6) * (1 if kind == "bernoulli" else 0.5)
    r = torch.eye(K, dtype=x.dtype, device=device).repeat(2, 1) * 0.98 + 0.02 / 3
    q = CategoricalPosterior(r.log())
    model.maximize(model.statistics(x, q))
    best = ELBO()(model, x, q, None).value.mean()
    if kind == "bernoulli":
        means = model.components.means()
        assert means.min() >= 0.2 - 1e-12 and means.max() <= 0.8 + 1e-12
    else:
        assert np.linalg.eigvalsh(covariances(model, 0.3)).min() >= 0.3
        assert len(model.notes()) == 1 and "model.variance_floor" in model.notes()[0]
    g = generator(device, 2)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(200):
        model.load_state_dict(state)
        with torch.no_grad():
            for name, p in model.named_parameters():
                step = 0.05 * torch.randn(p.shape, generator=g, device=device, dtype=p.dtype)
                p.add_(step.abs() if name.endswith("raw_variance") else step)
            if kind == "bernoulli":
                model.components.logits.clamp_(-np.log(4.0), np.log(4.0))
        inside = kind == "bernoulli" or np.linalg.eigvalsh(covariances(model, 0.3)).min() >= 0.3003
        assert not inside or ELBO()(model, x, q, None).value.mean() <= best + 1e-12


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_a_singular_covariance_is_at_its_floor_whatever_its_pivots(kind: str, dtype: torch.dtype) -> None:
    """A sum of two columns beside them: one eigenvalue is zero, no column is constant."""
    x = torch.randn(50, 2, generator=generator("cpu", "sum"), dtype=torch.float64)
    x = torch.cat([x, x.sum(1, keepdim=True)], 1).to(dtype)
    for one, low in ((x, 1), (x[:, :2], 0)):
        model = Mixture((one.shape[1],), 1, covariance=kind).to(dtype)
        model.start(one, generator("cpu", 0))
        assert low == (f"1 of {one.shape[1]} variances of the mixture reached their floor" in " ".join(model.notes()))


@pytest.mark.parametrize("kind", KINDS)
def test_start_finds_separate_clusters(device: torch.device, kind: str, dtype: torch.dtype) -> None:
    labels = torch.arange(600, device=device) % K
    if kind == "bernoulli":
        p = torch.tensor([[0.95, 0.95, 0.05, 0.05], [0.05, 0.05, 0.95, 0.95], [0.95, 0.05, 0.95, 0.05]])
        x = torch.bernoulli(p.to(device, dtype)[labels], generator=generator(device, 4))
    else:
        centers = torch.tensor([[0.0, 0, 0, 0], [20, 0, 0, 0], [0, 0, 20, 0]], device=device, dtype=dtype)
        x = centers[labels] + torch.randn(600, 4, generator=generator(device, 4), device=device, dtype=dtype)
    found = 0
    for seed in range(5):
        model = mixture(kind, event=(4,)).to(device, dtype)
        model.start(x, generator(device, seed))
        assigned = model.exact_posterior(x).log_probs.argmax(1)
        purity = sum(int(torch.bincount(assigned[labels == k], minlength=K).max()) for k in range(K)) / 600
        found += purity > 0.9 and len(assigned.unique()) == K
        assert int(model.num_data) == 600 and model.notes() == []
    assert found == 5


@pytest.mark.parametrize("kind", KINDS)
def test_more_components_than_distinct_data_stays_finite(device: torch.device, kind: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0, 1, 1, 0], [1.0, 1, 0, 0]], device=device, dtype=dtype).repeat(20, 1).view(-1, *EVENT)
    model = mixture(kind, components=5).to(device, dtype)
    model.start(x, generator(device, 5))
    for _ in range(30):
        model.maximize(model.statistics(x, model.exact_posterior(x)))
        assert all(torch.isfinite(p).all() for p in model.parameters())
        assert torch.isfinite(model.log_marginal(x)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_component_is_left_alone_and_reported(device: torch.device, kind: str, dtype: torch.dtype) -> None:
    model, x = made(device, kind, dtype), data(device, kind, dtype=dtype)
    before = {k: v.clone() for k, v in model.components.state_dict().items()}
    r = torch.tensor([[0.5, 0.5, 0.0]], device=device, dtype=dtype).expand(len(x), K)
    model.maximize(model.statistics(x, CategoricalPosterior(r.log())))
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert torch.isfinite(model.log_marginal(x)).all()
    for name, value in model.components.state_dict().items():
        if value.dim() and len(value) == K:
            assert torch.equal(value[2], before[name][2]) and not torch.equal(value[0], before[name][0])
    assert any("1 of 3 components died" in note and "2" in note for note in model.notes())


def test_kmeans_plus_plus_takes_each_distinct_datum_once(device: torch.device) -> None:
    x = torch.arange(6.0, device=device)[:, None].repeat(50, 1)
    for seed in range(20):
        centers = kmeans_plus_plus(x, 6, generator(device, seed))
        assert sorted(centers.flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    # Chosen with probability ∝ squared distance: from 0, the datum at 3 nine times as often as the one at 1.
    y = torch.tensor([[0.0], [1.0], [3.0]], device=device)
    pairs = [kmeans_plus_plus(y, 2, generator(device, "p", s)).flatten().tolist() for s in range(1500)]
    second = [b for a, b in pairs if a == 0]
    assert abs(second.count(3.0) / len(second) - 0.9) < 5 * (0.09 / len(second)) ** 0.5
    assert abs(len(second) / 1500 - 1 / 3) < 5 * (2 / 9 / 1500) ** 0.5


def test_kmeans_lowers_the_distance_and_keeps_an_empty_cluster(device: torch.device) -> None:
    x = torch.randn(300, 3, generator=generator(device, 8), device=device) + 1000

    def cost(labels: Tensor) -> float:
        return sum(float((x[labels == k] - x[labels == k].mean(0)).square().sum()) for k in labels.unique())

    start = torch.cat([x[:3], x.new_full((1, 3), -1e4)])
    costs = [cost(kmeans(x, start, steps)) for steps in (0, 1, 3, 10)]
    assert costs[0] > costs[1] > costs[2] >= costs[3]
    assert (kmeans(x, start, 10) < 3).all()


def test_more_components_than_data() -> None:
    model = Mixture((2,), 5)
    with pytest.raises(VemError, match=r"components=5 .* 4 training data"):
        model.start(torch.randn(4, 2), torch.Generator())


@pytest.mark.parametrize("size", [7, 49, 130, 998])
def test_a_component_with_one_datum_is_alive_and_one_without_is_dead(size: int) -> None:
    """One datum far from the rest has a component of its own, in float32 whatever N is; a third has none."""
    x = torch.cat([torch.randn(size, 2, generator=generator("cpu", size)), torch.tensor([[100.0, 100.0]])])
    model = Mixture((2,), 3, covariance="diagonal", variance_floor=0.1)
    r = torch.zeros(size + 1, 3)
    r[:-1, 0] = r[-1, 1] = 1.0
    model.maximize(model.statistics(x, CategoricalPosterior(r.clamp_min(1e-30).log())))
    dead = [note for note in model.notes() if "died" in note]
    assert len(dead) == 1 and dead[0].startswith("1 of 3") and ": 2." in dead[0]
