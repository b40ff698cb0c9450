"""The arrays behind the figures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from vem.ascent.rules import Natural
from vem.ascent.starts import PCAStart
from vem.contracts import Batch
from vem.data.dataset import Data, Split
from vem.evaluation.pictures import GRID, NUM_SAMPLES, NUM_WORST, REACH, pictures, worst_rows
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
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
