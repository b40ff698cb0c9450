"""The arrays behind the figures: what they show, densities where they belong, gaps that closed forms know."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vem.ascent.rules import Natural
from vem.ascent.starts import PCAStart
from vem.contracts import Batch
from vem.data.dataset import Data, Split
from vem.evaluation.pictures import GRID, NUM_SAMPLES, NUM_WORST, REACH, pictures, planes, worst_rows
from vem.families.gaussian import DiagonalGaussian, DiagonalGaussianPosterior, FullGaussianPosterior
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.exact_em import ExactEM
from vem.strategies.local import HeldOut, Local


def some_data(device: torch.device) -> Data:
    x = (torch.rand(40, 4, 4, generator=generator("cpu", 0)) > 0.5).float()
    labels = torch.arange(40) % 3
    split = Split(x, labels)
    return Data("made", split, Split(x[:20], labels[:20]), Split(x[:25], labels[:25]), "binary", (4, 4)).to(
        device, torch.float32
    )


@pytest.mark.parametrize("latent", [2, 3])
def test_a_deep_model(latent: int, device: torch.device) -> None:
    data = some_data(device)
    model = DeepLatentModel((4, 4), latent, MLPFactory([5])).to(device)
    strategy = Amortized(DiagonalGaussian, ELBO(), partial(torch.optim.Adam, lr=0.01), Mirror())
    strategy.setup(model, data.training_set(), generator(device, 0))
    arrays: dict[str, Any] = pictures(model, strategy, data, seed=1)
    assert arrays["latent_means"].shape == (25, latent) and arrays["labels"].tolist() == [n % 3 for n in range(25)]
    assert arrays["samples"].shape == (NUM_SAMPLES, 4, 4)
    assert arrays["chosen_x"].shape == arrays["reconstructions"].shape == (10, 4, 4)
    means = torch.as_tensor(arrays["latent_means"], device=device)
    chosen = [n for n in range(25) if any((data.test.x[n].cpu().numpy() == c).all() for c in arrays["chosen_x"])]
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(arrays["reconstructions"]), model.decode(means[chosen]).cpu())
    assert ("decoded_grid" in arrays) == (latent == 2)
    if latent == 2:  # the top left corner is z = (−REACH, REACH)
        assert arrays["decoded_grid"].shape == (GRID, GRID, 4, 4)
        with torch.no_grad():
            corner = model.decode(torch.tensor([-REACH, REACH], device=device)).cpu()
        torch.testing.assert_close(torch.as_tensor(arrays["decoded_grid"][0, 0]), corner)


def test_a_mixture(device: torch.device) -> None:
    data = some_data(device)
    model = Mixture((4, 4), 3, likelihood="bernoulli").to(device)
    strategy = ExactEM(ELBO())
    strategy.setup(model, data.training_set(), generator(device, 0))
    arrays = pictures(model, strategy, data, seed=1)
    assert arrays["component_means"].shape == (3, 4, 4) and arrays["latent_means"].shape == (25, 3)
    assert arrays["component_weights"].sum() == pytest.approx(1.0, abs=1e-5)
    expected = torch.einsum("bk,kij->bij", *map(torch.as_tensor, (arrays["latent_means"], arrays["component_means"])))
    found = torch.as_tensor(arrays["reconstructions"])
    assert all((expected - row).abs().amax((1, 2)).min() < 1e-5 for row in found)


def rows_of(split: str, **columns: Any) -> list[dict[str, Any]]:
    return [{"split": split, "row": n, "label": None, **{k: v[n] for k, v in columns.items()}} for n in range(20)]


def test_the_worst_data_are_those_with_the_largest_loss() -> None:
    elbo = [-10.0 - n % 7 for n in range(20)]
    best = [value + n % 5 for n, value in enumerate(elbo)]
    upper = [value + n % 3 for n, value in enumerate(elbo)]

    def worst(*rows: dict[str, Any]) -> list[int]:
        return [row["row"] for row in worst_rows(rows)]

    train, test = rows_of("train", elbo=elbo), rows_of("test", elbo=elbo, best_elbo=best, log_marginal_lower=upper)
    by_gap = sorted(range(20), key=lambda n: (-(n % 3), n))[:NUM_WORST]
    assert worst(*train, *test) == by_gap and {row["split"] for row in worst_rows([*train, *test])} == {"test"}
    without = [{k: v for k, v in row.items() if k != "log_marginal_lower"} for row in test]
    assert worst(*without) == sorted(range(20), key=lambda n: (-(n % 5), n))[:NUM_WORST]
    lowest = sorted(range(20), key=lambda n: (-(n % 7), n))[:NUM_WORST]
    assert worst(*train) == lowest
    rounding = [value + 1e-6 * (n % 3) for n, value in enumerate(elbo)]
    assert worst(*rows_of("test", elbo=elbo, log_marginal_lower=rounding)) == lowest
    lost = [row | ({"elbo": float("nan")} if row["row"] == 6 else {}) for row in train]
    assert 6 in worst(*train) and 6 not in worst(*lost) and len(worst(*lost)) == NUM_WORST
    assert worst() == [] and worst_rows([{"split": "test", "row": 0, "label": None}]) == []


@pytest.mark.parametrize("splits", ["train", "train test"])
@pytest.mark.parametrize("how", ["amortized", "local"])
def test_the_pictures_of_the_worst_are_those_of_their_rows(how: str, splits: str, device: torch.device) -> None:
    data = some_data(device)
    model = DeepLatentModel((4, 4), 2, MLPFactory([5])).to(device)
    adam = partial(torch.optim.Adam, lr=0.01)
    strategy: Any = Amortized(DiagonalGaussian, ELBO(), adam, Mirror())
    if how == "local":
        strategy = Local(DiagonalGaussian, ELBO(), adam, Natural(), PCAStart(), HeldOut(steps=3))
    strategy.setup(model, data.training_set(), generator(device, 0))
    measured = [row for split in splits.split() for row in rows_of(split, elbo=[-float(n) for n in range(20)])]
    arrays: dict[str, Any] = pictures(model, strategy, data, seed=1, per_datum=measured)
    split, rows = splits.split()[-1], list(range(19, 19 - NUM_WORST, -1))
    assert arrays["worst_row"].tolist() == rows and set(arrays["worst_split"].tolist()) == {split}
    x = data.split(split).x[rows]
    assert (arrays["worst_x"] == x.cpu().numpy()).all()
    assert arrays["worst_label"].tolist() == [n % 3 for n in rows]
    if how == "local" and split == "test":
        return  # fresh rows, raised on noise of their own
    stored = torch.tensor(rows, device=device) if how == "local" else None
    mean = strategy.infer(model, Batch(x, stored), {}).mean()
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(arrays["worst_reconstruction"]), model.decode(mean).cpu())


# --- densities in the plane


def linear(device: torch.device, noise: float = 0.3, num: int = 3) -> tuple[LinearGaussian, Tensor]:
    model = LinearGaussian((4,), 2).to(device, torch.float64)
    weight = torch.tensor([[1.0, 0.8], [0.2, 0.9], [0.5, 0.5], [-0.3, 0.4]], dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(weight)
        model.log_noise.fill_(math.log(noise))
    x = torch.randn(num, 4, generator=generator("cpu", 1), dtype=torch.float64).to(device)
    return model, x


def qs(model: LinearGaussian, x: Tensor) -> dict[str, Any]:
    with torch.no_grad():
        return {"exact": model.exact_posterior(x), "diagonal_gaussian": model.best_diagonal(x)}


def drawn(model: Any, x: Tensor, posteriors: dict[str, Any]) -> dict[str, Any]:
    rows = 10 * torch.arange(len(x))
    found = planes(model, x, rows, posteriors)
    file = io.BytesIO()
    np.savez_compressed(file, **found)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        return {name: read[name] for name in read.files}


def mass(found: dict[str, Any], density: np.ndarray) -> np.ndarray:
    widths = np.diff(found["posterior_axes"][..., :2], axis=-1)[..., 0]
    return np.asarray(density.sum((-2, -1)) * widths.prod(-1))


@pytest.mark.parametrize("noise", [0.3, 1e-4])
def test_gaps_and_densities_of_a_linear_gaussian(noise: float, device: torch.device) -> None:
    model, x = linear(device, noise)
    found = drawn(model, x, qs(model, x))
    assert found["posterior_names"].tolist() == ["exact", "diagonal_gaussian"]
    assert found["posterior_rows"].tolist() == [0, 10, 20] and found["posterior_x"].shape == (3, 4)
    best = (model.log_marginal(x) - model.best_diagonal_bound(x)).detach().cpu()
    np.testing.assert_allclose(found["posterior_gaps"][0], 0, atol=1e-5)
    np.testing.assert_allclose(found["posterior_gaps"][1], best, rtol=1e-5)
    # Everything lies in the picture, and fills it: q is nowhere a speck.
    np.testing.assert_allclose(mass(found, found["posterior_truth"]), 1, atol=0.01)
    for density in found["posterior_q"]:
        assert (mass(found, density) > 0.985).all()
    inside = found["posterior_truth"] > 1e-2 * found["posterior_truth"].max((1, 2), keepdims=True)
    assert (inside.any(1).sum(1) > 30).all() and (inside.any(2).sum(1) > 30).all()
    np.testing.assert_allclose(found["posterior_q"][0], found["posterior_truth"], rtol=0.02, atol=1e-2 / noise)


def test_rows_are_z2_and_columns_are_z1(device: torch.device) -> None:
    model, x = linear(device)
    found = drawn(model, x, qs(model, x))
    mean = model.exact_posterior(x).mean().detach().cpu().numpy()
    for n in range(3):
        z1, z2 = found["posterior_axes"][n]
        assert (np.diff(z1) > 0).all() and (np.diff(z2) > 0).all()
        for density in (found["posterior_truth"][n], found["posterior_q"][1, n]):
            row, column = np.unravel_index(density.argmax(), density.shape)
            assert abs(z1[column] - mean[n, 0]) < z1[2] - z1[0] and abs(z2[row] - mean[n, 1]) < z2[2] - z2[0]


class Square(nn.Module):
    """A decoder that z and −z give the same x: every posterior has two modes."""

    def forward(self, z: Tensor) -> Tensor:
        return z.square()


def two_modes(device: torch.device) -> tuple[DeepLatentModel, Tensor]:
    model = DeepLatentModel((2,), 2, Square(), likelihood="gaussian", scale=0.2, data_start=False)
    return model.to(device, torch.float64), torch.tensor([[1.5, 0.02]], dtype=torch.float64, device=device)


def by_sums(model: DeepLatentModel, x: Tensor, q: DiagonalGaussianPosterior) -> Tensor:
    """KL(q ‖ p(z | x)) by sums over a fine grid."""
    axis = torch.linspace(-4, 4, 801, dtype=x.dtype, device=x.device)
    z = torch.cartesian_prod(axis, axis)[:, None]
    with torch.no_grad():
        log_joint, log_q = model.log_likelihood(x, z) + model.log_prior(z), q.frozen_log_q(z)
    area = float(axis[1] - axis[0]) ** 2
    log_marginal = log_joint.logsumexp(0) + math.log(area)
    return (log_q.exp() * (log_q - log_joint + log_marginal)).sum(0) * area


def test_both_modes_are_in_the_picture(device: torch.device) -> None:
    model, x = two_modes(device)
    one = DiagonalGaussianPosterior(torch.tensor([[1.22, 0.0]]).to(x), torch.tensor([[0.08, 0.2]]).to(x).log())
    kl = by_sums(model, x, one)
    found = drawn(model, x, {"one mode": one})
    assert float(found["posterior_gaps"][0, 0]) == pytest.approx(float(kl[0]), abs=1e-5) and float(kl[0]) > math.log(2)
    assert mass(found, found["posterior_truth"]) == pytest.approx(1, abs=0.01)
    z1 = found["posterior_axes"][0, 0]
    left = found["posterior_truth"][0][:, z1 < 0].sum() / found["posterior_truth"][0].sum()
    assert left == pytest.approx(0.5, abs=0.01)


def test_a_q_far_away_widens_the_picture_and_a_broken_one_does_not(device: torch.device) -> None:
    model, x = linear(device)
    good = qs(model, x)
    far = FullGaussianPosterior(torch.full_like(x[:, :2], 5.0), 0.1 * torch.eye(2).to(x).expand(3, 2, 2))
    location = torch.zeros_like(x[:, :2])
    location[1, 0] = torch.nan
    broken = DiagonalGaussianPosterior(location, torch.zeros_like(location))
    plain = drawn(model, x, good)
    found = drawn(model, x, good | {"far": far})
    assert (found["posterior_axes"][..., -1] > 5.2).all() and (plain["posterior_axes"][..., -1] < 4).all()
    assert (mass(found, found["posterior_q"][2]) > 0.985).all() and (found["posterior_gaps"][2] > 10).all()
    found = drawn(model, x, {"broken": broken} | good)
    assert np.isnan(found["posterior_gaps"][0]).tolist() == [False, True, False]
    assert (found["posterior_q"][0, 1] == 0).all() and np.isfinite(found["posterior_axes"]).all()
    np.testing.assert_allclose(found["posterior_axes"][1], plain["posterior_axes"][1])


def test_float32_is_enough(device: torch.device) -> None:
    model, x = linear(device)
    model, x = model.float(), x.float()
    found = drawn(model, x, qs(model, x))
    np.testing.assert_allclose(found["posterior_gaps"][0], 0, atol=1e-5)
    assert found["posterior_q"].dtype == np.float32


def test_no_plane_no_picture(device: torch.device) -> None:
    model, x = linear(device)
    opaque = type("Opaque", (), {"mean": None, "transport": None})()
    assert planes(model, x, torch.arange(3), {"opaque": opaque}) == {}
    x = torch.zeros(2, 4, device=device)
    assert planes(LinearGaussian((4,), 3).to(device), x, torch.arange(2), {}) == {}
    assert planes(Mixture((4,), 2).to(device), x, torch.arange(2), {}) == {}
