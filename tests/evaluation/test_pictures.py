"""The arrays behind the figures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from vem.data.dataset import Data, Split
from vem.evaluation.pictures import GRID, NUM_SAMPLES, REACH, pictures
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.exact_em import ExactEM


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
