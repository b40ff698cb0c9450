"""Exact EM against eigenvalues, scikit-learn's paths, and itself with other batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracles import maximum_likelihood_ppca
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from vem.cli.messages import composed
from vem.contracts import Batch, Schedule, TrainingSet
from vem.errors import VemError
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM

SCHEDULE = Schedule(torch.ones(()), torch.ones(()), torch.zeros(()))
COVARIANCES = ("full", "diagonal", "tied", "spherical")
MODELS: dict[str, Callable[[int], Any]] = {
    **{kind: (lambda d, kind=kind: Mixture((d,), 4, covariance=kind)) for kind in COVARIANCES},
    "bernoulli": lambda d: Mixture((d,), 4, likelihood="bernoulli"),
    "ppca": lambda d: LinearGaussian((d,), 2),
    "factor_analysis": lambda d: LinearGaussian((d,), 2, noise="diagonal"),
    "standardized": lambda d: Mixture((d,), 4, covariance="tied", standardize="auto"),
    "standardized_ppca": lambda d: LinearGaussian((d,), 2, standardize="auto"),
}


def data(name: str, device: torch.device, dtype: torch.dtype, num: int = 400, size: int = 5) -> Tensor:
    """Clusters on a low-dimensional plane; thresholded for the Bernoulli mixture."""
    g = generator("cpu", "data")
    x = 3 * torch.randn(4, size, generator=g)[torch.randint(4, (num,), generator=g)]
    x = x + torch.randn(num, 2, generator=g) @ torch.randn(2, size, generator=g)
    x = x + 0.5 * torch.randn(num, size, generator=g)
    return ((x > 0) if name == "bernoulli" else x).to(device, dtype)


def run(strategy: ExactEM, model: nn.Module, x: Tensor, epochs: int, batch: int = 100, seed: int = 0) -> list[float]:
    """Epochs of EM in shuffled minibatches; the mean bound of each epoch. Stops when converged."""
    bounds = []
    for epoch in range(epochs):
        g = generator(x.device, seed, epoch)
        total = 0.0
        for rows in torch.randperm(len(x), generator=g, device=x.device).split(batch):
            noise = fill(strategy.noise(len(rows)), g, x.dtype)
            info = strategy.step(model, Batch(x[rows], rows), noise, SCHEDULE)
            assert info.bound is not None
            total += float(info.bound.value.double().sum())
        bounds.append(total / len(x))
        if strategy.end_epoch(model):
            break
    return bounds


@torch.no_grad()
def mean_log_marginal(model: Any, x: Tensor) -> float:
    return float(model.log_marginal(x).double().mean())


def started(name: Any, x: Tensor, seed: int = 0, redrawn: bool = False, **options: Any) -> tuple[ExactEM, Any]:
    """The strategy, set up on a model (or one of that name), and the model."""
    model = (MODELS[name](x.shape[1]) if isinstance(name, str) else name).to(x.device, x.dtype)
    strategy = ExactEM(ELBO(), **options)
    strategy.setup(model, TrainingSet(x, redrawn), generator(x.device, seed))
    return strategy, model


@pytest.mark.parametrize(("size", "latent"), [(6, 2), (10, 3)])
def test_ppca_reaches_the_maximum_likelihood_of_the_eigenvalues(device: torch.device, size: int, latent: int) -> None:
    x = 7 + data("ppca", device, torch.float64, size=size)
    best = maximum_likelihood_ppca(x, latent)
    strategy, model = started(LinearGaussian((size,), latent), x, tolerance=1e-9)
    bounds = run(strategy, model, x, 2000)
    assert len(bounds) < 2000, "did not converge"
    reached = mean_log_marginal(model, x)
    assert best.log_marginal.item() - 1e-4 < reached <= best.log_marginal.item() + 1e-9
    assert bounds[0] < best.log_marginal.item() - 0.1, "the start must be worse for this to say anything"
    torch.testing.assert_close(model.noise_variance()[0], best.noise.to(device), rtol=1e-2, atol=0)
    torch.testing.assert_close(model.bias, best.bias.to(device), rtol=0, atol=1e-6)


def test_factor_analysis_reaches_scikit_learns_likelihood(device: torch.device) -> None:
    truth = LinearGaussian((8,), 2, noise="diagonal").to(device, torch.float64)
    g = generator(device, "truth")
    with torch.no_grad():
        truth.weight.normal_(generator=g)
        truth.log_noise.normal_(generator=g).sub_(1)
        x = truth.sample(fill(truth.sample_noise(500), g, torch.float64))[1]
    judge = FactorAnalysis(2, tol=1e-9, max_iter=20_000, svd_method="lapack").fit(x.cpu().numpy())
    strategy, model = started("factor_analysis", x, tolerance=1e-9)
    bounds = run(strategy, model, x, 5000, batch=500)
    assert len(bounds) < 5000 and bounds[-1] > bounds[0] + 0.1
    assert mean_log_marginal(model, x) == pytest.approx(judge.score(x.cpu().numpy()), abs=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # one step at a time
@pytest.mark.parametrize("regularize", [0.0, 0.05])
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_mixture_follows_scikit_learns_lower_bound_path(
    device: torch.device, covariance: str, regularize: float
) -> None:
    x = data(covariance, device, torch.float64)
    strategy, model = started(Mixture((5,), 4, covariance=covariance, regularize=regularize), x, 3, tolerance=0.0)
    judge = GaussianMixture(
        4,
        covariance_type={"diagonal": "diag"}.get(covariance, covariance),
        reg_covar=regularize,
        tol=0.0,
        weights_init=model.log_weights().exp().detach().cpu().numpy(),
        means_init=model.components.means().detach().cpu().numpy(),
        precisions_init=precisions(model, covariance),
    )
    path = lower_bounds(judge, x.cpu().numpy(), 60)
    bounds = run(strategy, model, x, 60, batch=64)
    assert path[-1] - path[0] > 0.01, "the start must be worse for this to say anything"
    num = min(len(bounds), len(path))
    assert num > 10
    np.testing.assert_allclose(bounds[:num], path[:num], rtol=0, atol=1e-6)


def precisions(model: Mixture, covariance: str) -> np.ndarray:
    """The inverse covariances in the shape that scikit-learn wants."""
    if covariance in ("full", "tied"):
        tril = model.components.scale_tril().detach().cpu().numpy()
        inverse = np.linalg.inv(tril @ tril.transpose(0, 2, 1))
        return inverse if covariance == "full" else inverse[0]
    variance = model.components.variance().detach().cpu().numpy()
    return 1 / (variance if covariance == "diagonal" else variance[:, 0])


def lower_bounds(judge: GaussianMixture, x: np.ndarray, steps: int) -> list[float]:
    """scikit-learn's ``lower_bound_``, one EM step after the other."""
    judge.set_params(warm_start=True, max_iter=1)
    return [judge.fit(x).lower_bound_ for _ in range(steps)]


@pytest.mark.parametrize("name", [*COVARIANCES, "factor_analysis"])
def test_em_never_decreases_at_its_floors(device: torch.device, name: str, dtype: torch.dtype) -> None:
    """Four data a component, and two constant dimensions: every covariance is singular."""
    x = data(name, device, dtype, num=16)
    x[:, 3:] = 1.0
    strategy, model = started(name, x)
    strategy.tolerance = -1.0
    bounds = run(strategy, model, x, 40, batch=5)
    assert np.isfinite(bounds).all() and model.notes()
    allowed = 1e-9 if dtype == torch.float64 else 1e-3
    assert min(b - a for a, b in itertools.pairwise(bounds)) > -allowed


@pytest.mark.parametrize("name", ["tied", "ppca", "standardized"])
def test_minibatches_add_up_to_the_full_batch(device: torch.device, name: str) -> None:
    x = data(name, device, torch.float64)
    bounds, states = [], []
    for batch in (400, 37):
        strategy, model = started(name, x, tolerance=0.0)
        bounds.append(run(strategy, model, x, 8, batch=batch))
        states.append(model.state_dict())
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=0, atol=1e-9)
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-7, atol=1e-7)


def test_restarts_keep_the_best_start(device: torch.device) -> None:
    x = data("full", device, torch.float64)
    g = generator(device, 0)
    reached = []
    for _ in range(5):  # the same five starts, by hand
        model = MODELS["full"](5).to(device, torch.float64)
        model.start(x, g)
        for _ in range(3):
            model.maximize(model.statistics(x, model.exact_posterior(x)))
        reached.append(mean_log_marginal(model, x))
    _, model = started("full", x, restarts=5, restart_epochs=3)
    assert mean_log_marginal(model, x) == pytest.approx(max(reached), abs=1e-10)
    assert max(reached) > min(reached) + 1e-3, "the starts must differ for this to say anything"


def test_start_keep_leaves_the_model_alone(device: torch.device) -> None:
    x = data("full", device, torch.float64)
    strategy, model = started("full", x)
    run(strategy, model, x, 5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    keep, _ = started(model, x, 1, start="keep")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert run(keep, model, x, 2)[0] > run(*started("full", x), x, 1)[0]


def test_convergence_is_the_rise_in_nats_per_datum_and_never_on_redrawn_data(device: torch.device) -> None:
    x = data("diagonal", device, torch.float64)
    strategy, model = started("diagonal", x, tolerance=1e-3)
    bounds = run(strategy, model, x, 500)
    rises = [b - a for a, b in itertools.pairwise(bounds)]
    assert 2 < len(bounds) < 500 and rises[-1] < 1e-3 <= min(rises[:-1])
    strategy, model = started("diagonal", x, redrawn=True, tolerance=10.0)
    assert len(run(strategy, model, x, 5)) == 5
    assert not strategy.end_epoch(model), "no step, no M-step"


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_no_convergence_is_said_on_a_saddle(seed: int, dtype: torch.dtype) -> None:
    """One column in thousandths: from the model's own start EM rises by less than 1e-6 a step long before its end."""
    r = np.random.default_rng(2)
    y = r.normal(size=(400, 2)) @ r.normal(size=(2, 6)) + 0.3 * r.normal(size=(400, 6))
    y[:, 0] *= 1000
    x = torch.as_tensor(y).to(dtype)
    best = maximum_likelihood_ppca(x.double(), 2).log_marginal.item()
    for start, most in (("closed", 5), ("model", 40)):
        strategy, model = started(LinearGaussian((6,), 2, standardize="auto"), x, seed, start=start)
        assert strategy.by_gain and strategy.longer
        bounds = run(strategy, model, x, most)
        if start == "closed":
            assert len(bounds) < most and bounds[-1] == pytest.approx(best, abs=1e-5)
        else:
            assert len(bounds) == most and bounds[-1] < best - 0.04
            assert min(b - a for a, b in itertools.pairwise(bounds)) < 1e-3


def overlapping(num: int = 500) -> Tensor:
    """Two clusters 1.5 standard deviations apart: EM crawls."""
    g = generator("cpu", "overlap")
    x = torch.randn(num, 1, generator=g, dtype=torch.float64)
    return x + 1.5 * torch.randint(2, (num, 1), generator=g)


def test_longer_steps_reach_the_same_maximum_in_fewer_epochs() -> None:
    x, runs = 1e4 * overlapping(), []
    for accelerate in (False, True):
        model = Mixture((1,), 2, standardize="auto")
        strategy, model = started(model, x, 1, accelerate=accelerate, tolerance=1e-5)
        runs.append(run(strategy, model, x, 2000, batch=500))
    plain, longer = runs
    assert 2 * len(longer) < len(plain) < 2000
    assert longer[-1] == pytest.approx(plain[-1], abs=3e-5)
    assert min(b - a for a, b in itertools.pairwise(longer)) > -1e-10


def test_what_is_still_to_come_must_be_small_too() -> None:
    """Where EM crawls the rises are below the tolerance while ten times as much is still to come."""
    x, ends = overlapping(), {}
    for name in ("rise", "gain", "end"):
        options: dict[str, Any] = {"accelerate": True} if name == "end" else {"convergence": name}
        strategy, model = started(Mixture((1,), 2), x, tolerance=1e-9 if name == "end" else 1e-5, **options)
        ends[name] = run(strategy, model, x, 2000, batch=500)[-1]
    assert ends["end"] - ends["gain"] < 3e-5
    assert ends["end"] - ends["rise"] > 5e-5


def test_a_model_without_closed_forms_is_refused_with_the_remedy() -> None:
    from vem.models.deep import DeepLatentModel

    model = DeepLatentModel((3,), 2, nn.Linear(2, 3))
    with pytest.raises(VemError, match=r"DeepLatentModel.*model=mixture"):
        ExactEM(ELBO()).setup(model, TrainingSet(torch.zeros(4, 3), redrawn=False), torch.Generator())


def test_gmm_brings_its_own_model() -> None:
    """``strategy=gmm`` alone composes the mixture; a key of the model can still be set beside it."""
    config = composed(["strategy=gmm", "model.components=7"])
    assert config["strategy"]["_target_"].endswith("ExactEM") and config["model"]["components"] == 7
    Mixture((3,), **{**{k: v for k, v in config["model"].items() if k != "_target_"}, "likelihood": "bernoulli"})


def test_a_state_from_before_the_longer_steps_is_taken_and_that_of_another_strategy_is_not() -> None:
    whole = ExactEM(ELBO()).state_dict()
    before = {k: v for k, v in whole.items() if k not in ("last_rise", "settled", "anchor", "step_limit")}
    other = ExactEM(ELBO())
    other.load_state_dict({**before, "count": 7})
    assert other.state_dict() == {**whole, "count": 7}
    with pytest.raises(KeyError):
        other.load_state_dict({"encoder": {}, "optimizer": {}})
