"""Exact EM whatever the units: against eigenvalues with 60 digits, scikit-learn, and itself on other units."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from parts import schedule
from scipy.stats import multivariate_normal
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis
from torch import Tensor

from vem.contracts import Batch, TrainingSet
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.variance import MARGIN
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.exact_em import ExactEM


def example() -> np.ndarray:
    r = np.random.default_rng(2)
    return r.normal(size=(400, 2)) @ r.normal(size=(2, 6)) + 0.3 * r.normal(size=(400, 6))


TABLES = {
    "wine": lambda: datasets.load_wine().data,
    "iris": lambda: datasets.load_iris().data,
    "diabetes": lambda: datasets.load_diabetes(scaled=False).data,
    "example": example,
}


def closed_form(x: np.ndarray, latent: int) -> float:
    """The largest mean log p(x) of probabilistic PCA (Tipping and Bishop, 1999, eq. 7), with 60 digits."""
    with mpmath.workdps(60):
        num, size = x.shape
        columns = [[mpmath.mpf(v) for v in column] for column in x.T.tolist()]
        columns = [[v - mpmath.fsum(column) / num for v in column] for column in columns]
        covariance = mpmath.matrix(size, size)
        for i in range(size):
            for j in range(i + 1):
                covariance[i, j] = covariance[j, i] = mpmath.fdot(columns[i], columns[j]) / num
        values = sorted(mpmath.eigsy(covariance, eigvals_only=True), reverse=True)
        noise = mpmath.fsum(values[latent:]) / (size - latent)
        log_det = mpmath.fsum(map(mpmath.log, values[:latent])) + (size - latent) * mpmath.log(noise)
        return float(-(size * (mpmath.log(2 * mpmath.pi) + 1) + log_det) / 2)


def scales(size: int, key: int = 0) -> np.ndarray:
    return 10 ** np.random.default_rng(key).uniform(-4, 6, size)


def solved(x: np.ndarray | Tensor, latent: int, dtype: torch.dtype, seed: int = 0, **options: object) -> LinearGaussian:
    model = LinearGaussian((x.shape[1],), latent, standardize="auto", **options).to(dtype)  # type: ignore[arg-type]
    strategy = ExactEM(ELBO(), start="closed")
    strategy.setup(model, TrainingSet(torch.as_tensor(x).to(dtype), redrawn=False), generator("cpu", seed))
    return model


@torch.no_grad()
def mean_log_marginal(model: LinearGaussian | Mixture, x: np.ndarray | Tensor, dtype: torch.dtype) -> float:
    return float(model.log_marginal(torch.as_tensor(x).to(dtype)).double().mean())


@pytest.mark.parametrize(
    ("name", "key", "latent"),
    [("wine", 0, 2), ("wine", 1, 3), ("iris", 1, 2), ("diabetes", 2, 2), ("diabetes", 0, 3), ("example", 2, 3)],
)
def test_ppca_is_the_closed_form_in_any_units(name: str, key: int, latent: int, dtype: torch.dtype) -> None:
    x = TABLES[name]()
    x = torch.as_tensor(x[::2] * scales(x.shape[1], key)).to(dtype).double().numpy()
    truth = closed_form(x, latent)
    for seed in (0, 1):
        model = solved(x, latent, dtype, seed)
        assert mean_log_marginal(model, x, dtype) == pytest.approx(truth, abs=1e-5)
    # EM does not lead away from there, although its sums cancel where scales differ by 1e10.
    data, strategy = torch.as_tensor(x).to(dtype), ExactEM(ELBO(), start="closed")
    strategy.setup(model, TrainingSet(data, redrawn=False), generator("cpu", 0))
    for _ in range(6):
        noise = fill(strategy.noise(len(data)), generator("cpu", 1), dtype)
        strategy.step(model, Batch(data, torch.arange(len(data))), noise, schedule())
        if strategy.end_epoch(model):
            break
    else:
        pytest.fail("did not converge")
    assert mean_log_marginal(model, x, dtype) == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize(("num", "size"), [(5, 30), (8, 8), (4, 3), (30, 40), (200, 3)])
@pytest.mark.parametrize("latent", [1, 2, 6])
def test_any_shape_gives_the_density_that_it_says(num: int, size: int, latent: int, dtype: torch.dtype) -> None:
    """H ≥ D, N ≤ D, the noise at its floor: log p(x) is that of the covariance, and no smaller floor is worse."""
    x = np.random.default_rng(num).normal(size=(num, size)) * scales(size, 5) ** 0.3
    model = solved(x, latent, dtype, noise_floor=1e-2)
    assert model.columns is not None
    scale = model.columns.scale.double().numpy()
    weight = model.weight.detach().double().numpy() * scale[:, None]
    noise = model.noise_variance().detach().double().numpy() * scale**2
    mean = model.decode(torch.zeros(1, latent, dtype=torch.float64)).detach().numpy()[0]
    truth = multivariate_normal(mean, weight @ weight.T + np.diag(noise)).logpdf(x)
    np.testing.assert_allclose(model.log_marginal(torch.as_tensor(x).to(dtype)).detach(), truth, rtol=2e-5, atol=1e-3)
    if latent < min(num - 1, size) and not model.notes():
        assert truth.mean() == pytest.approx(closed_form(x, latent), abs=1e-4)
    if latent >= size and num > size:  # the covariance of the data itself
        full = multivariate_normal(x.mean(0), np.cov(x.T, bias=True)).logpdf(x).mean()
        assert truth.mean() == pytest.approx(full, abs=1e-4)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_constant_columns_one_datum_and_binary_data(noise: str, dtype: torch.dtype) -> None:
    constant = example()
    constant[:, 2] = 7.25
    binary = (example() > 0).astype(float)
    for x in (constant, binary, example()[:1], np.ones((3, 2))):
        model = solved(x, 2, dtype, noise=noise)
        assert np.isfinite(mean_log_marginal(model, x, dtype))
        assert np.isfinite(mean_log_marginal(model, x + 0.1, dtype))
    kept = solved(constant, 2, dtype, noise=noise)
    if noise == "isotropic":
        assert mean_log_marginal(kept, constant, dtype) == pytest.approx(closed_form(constant, 2), abs=1e-5)
    else:  # the other columns are as well off as without it
        others = np.delete(constant, 2, 1)
        floor = (1 + MARGIN) * float(kept._floor()) * float(kept.columns.scale[2]) ** 2  # type: ignore[union-attr]
        own = -0.5 * np.log(2 * np.pi * floor)
        assert mean_log_marginal(kept, constant, dtype) == pytest.approx(
            mean_log_marginal(solved(others, 2, dtype, noise=noise), others, dtype) + own, abs=1e-4
        )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # it does not end from every start
@pytest.mark.parametrize(("name", "latent"), [("wine", 2), ("wine", 3), ("iris", 3), ("diabetes", 2), ("example", 2)])
def test_factor_analysis_is_scikit_learns_best_in_any_units(name: str, latent: int, dtype: torch.dtype) -> None:
    x = TABLES[name]()
    columns = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng(0)
    starts = [rng.uniform(0.01, 1, x.shape[1]) for _ in range(3)]  # of scikit-learn's own search
    judges = [
        FactorAnalysis(latent, tol=1e-8, max_iter=2000, svd_method="lapack", noise_variance_init=start)
        for start in starts
    ]
    best = max(judge.fit(columns).score(columns) for judge in judges)
    scaled = x * scales(x.shape[1], 1)
    floor = {"noise_floor": 1e-12}  # scikit-learn's
    reached = [
        mean_log_marginal(solved(scaled, latent, dtype, seed, noise="diagonal", **floor), scaled, dtype)
        + float(np.log(scaled.std(0)).sum())
        for seed in (0, 1)
    ]
    # In float32 rounded parameters cost some: here a variance stands at 1e-12 of its column's.
    assert min(reached) > best - (2e-6 if dtype == torch.float64 else 1e-4)
    assert reached[0] == pytest.approx(reached[1], abs=1e-4)


@pytest.mark.parametrize("kind", ["factor_analysis", "diagonal", "full", "tied", "spherical", "ppca"])
def test_log_p_shifts_by_the_sum_of_the_log_scales(kind: str, dtype: torch.dtype) -> None:
    """Whole training from the same seed; under one noise or variance for all columns for one scale."""
    x = TABLES["wine"]()
    s = np.full(13, scales(1, 3)[0]) if kind in ("ppca", "spherical") else scales(13, 3)
    found = [_trained(kind, table, dtype) for table in (x, x * s)]
    assert found[1] + np.log(s).sum() == pytest.approx(found[0], abs=2e-4)


def _trained(kind: str, x: np.ndarray, dtype: torch.dtype) -> float:
    model: LinearGaussian | Mixture
    if kind in ("ppca", "factor_analysis"):
        noise = "isotropic" if kind == "ppca" else "diagonal"
        model = LinearGaussian((13,), 2, noise=noise, standardize="auto").to(dtype)
    else:
        model = Mixture((13,), 3, covariance=kind, standardize="auto", variance_floor=1e-2, regularize=1e-3).to(dtype)
    data = torch.as_tensor(x).to(dtype)
    strategy = ExactEM(ELBO(), start="closed")
    strategy.setup(model, TrainingSet(data, redrawn=False), generator("cpu", 0))
    for _ in range(5):
        model.maximize(model.statistics(data, model.exact_posterior(data)))
    return mean_log_marginal(model, data, dtype)


def test_auto_standardizes_for_exact_em_alone_and_old_states_load() -> None:
    x = torch.as_tensor(TABLES["wine"]())
    plain, auto = LinearGaussian((13,), 2).double(), LinearGaussian((13,), 2, standardize="auto").double()
    for model in (plain, auto):
        model.start(x, generator("cpu", 0))
    assert all(torch.equal(v, auto.state_dict()[k]) for k, v in plain.state_dict().items())
    auto.load_state_dict(plain.state_dict())
    trained = solved(x, 2, torch.float64)
    again = LinearGaussian((13,), 2, standardize="auto").double()  # a loaded model has met no strategy
    again.load_state_dict(trained.state_dict())
    assert torch.equal(again.log_marginal(x), trained.log_marginal(x))
    bernoulli = Mixture((3,), 2, likelihood="bernoulli", standardize=True)
    bernoulli.standardize_columns()
    assert bernoulli.columns is None


@pytest.mark.parametrize("kind", ["full", "diagonal", "tied", "spherical"])
def test_a_standardized_mixture_is_the_same_model_in_other_units(kind: str, dtype: torch.dtype) -> None:
    """Draws, means and densities are in the units of x: against the one that sees standardized columns."""
    x = torch.as_tensor(TABLES["iris"]() * scales(4, 7)).to(dtype)
    model = Mixture((4,), 3, covariance=kind, standardize=True, variance_floor=1e-3).to(dtype)
    model.start(x, generator("cpu", 1))
    assert model.columns is not None
    inner = Mixture((4,), 3, covariance=kind, variance_floor=1e-3).double()
    inner.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("columns")})
    u, log_scale = model.columns.inside(x), model.columns.log_scale()
    torch.testing.assert_close(model.log_marginal(x).double(), inner.log_marginal(u) - log_scale, rtol=1e-5, atol=1e-4)
    noise = {"z": torch.rand(50, dtype=dtype), "x": torch.randn(50, 4, dtype=dtype)}
    with torch.no_grad():
        z, drawn = model.sample(noise)
        other = inner.sample({k: v.double() for k, v in noise.items()})
    assert torch.equal(z, other[0])
    scale, shift = model.columns.scale.double(), model.columns.shift.double()
    # In units of the columns: where shift and draw cancel, what is left has no digits of its own.
    torch.testing.assert_close((drawn.double() - shift) / scale, other[1], rtol=1e-4, atol=1e-4)
    means = model.columns.outside(inner.components.means().detach())
    torch.testing.assert_close(model.decode(torch.arange(3)).double(), means, rtol=1e-4, atol=0)


def test_large_data_are_read_in_parts() -> None:
    """No float64 copy of the data: 40 MB of float32 are solved within 40 MB more."""
    import tracemalloc

    x = torch.randn(100_000, 20, generator=generator("cpu", 0)) * torch.arange(1.0, 21.0)
    tracemalloc.start()  # numpy's own; torch's tensors are counted by the size of what is asked for
    model = solved(x, 2, torch.float32)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()
    assert mean_log_marginal(model, x, torch.float32) == pytest.approx(
        float(multivariate_normal(np.zeros(20), np.diag(np.r_[np.full(18, (np.arange(1, 19) ** 2).mean()), 361, 400]))
              .logpdf(x[:2000].double().numpy()).mean()), abs=1.5)  # fmt: skip


def test_a_saddle_is_below_the_best_at_its_noise() -> None:
    x = torch.as_tensor(example())
    for noise in ("isotropic", "diagonal"):
        model = solved(x, 2, torch.float64, noise=noise)
        best = model.best_at_noise(x)
        assert best == pytest.approx(mean_log_marginal(model, x, torch.float64), abs=1e-6)
        with torch.no_grad():
            model.weight[:, 1] = 0.0  # stationary for EM, and no maximum
        assert model.best_at_noise(x) > mean_log_marginal(model, x, torch.float64) + 0.1
