"""Where training ends in a NaN the message names what can help there, and it does."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from parts import adam, deep, seeded, train
from sklearn.datasets import load_wine
from torch import Tensor, nn

from vem.ascent.rules import Natural
from vem.ascent.starts import PriorStart
from vem.data.dataset import Data, Split
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.networks import MLPFactory
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.local import HeldOut, Local
from vem.training.meter import NonFiniteError
from vem.training.remedy import remedy
from vem.training.schedules import Constant
from vem.training.settings import Training

WINE = torch.as_tensor(load_wine().data)


class Broken(nn.Module):
    """A user's network that gives NaN from its start on."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x) + torch.nan


def end(
    x: Tensor, units: str = "none", encoder: Any = None, model: Any = None, rate: float = 0.01,
    dtype: torch.dtype = torch.float32, local: bool = False, kl_warmup: float = 0.0, epochs: int = 2,
) -> str:  # fmt: skip
    """How a short training ends."""
    x = x.to(dtype)
    made = model or deep((13,), 2, MLPFactory([50]), "gaussian", units=units)
    with seeded():
        encoder = encoder() if isinstance(encoder, type | partial) else encoder
    optimizer = partial(torch.optim.SGD, lr=rate) if rate > 1 else adam(rate)
    strategy: Any = Amortized(DiagonalGaussian, ELBO(), optimizer, encoder or Mirror())
    if local:
        strategy = Local(DiagonalGaussian, ELBO(), optimizer, Natural(), PriorStart(), HeldOut(steps=1))
    data = Data("wine", Split(x), Split(x[:9]), Split(x[9:19]), "real")
    try:
        train(made.to(dtype), strategy, data, epochs, 50, rate=rate, kl_warmup=kl_warmup)
    except NonFiniteError as error:
        return str(error)
    return "done"


def test_unscaled_data_in_the_networks() -> None:
    for encoder in (None, partial(nn.Linear, 13, 4)):
        for x in (WINE * 1e4, (WINE - WINE.mean(0)) * 1e4):
            said = end(x, encoder=encoder)
            assert f"from {x.min():.4g} to {x.max():.4g}" in said and "take model.units=common" in said
            assert end(x, "common", encoder) == end(x, "column", encoder) == "done"  # the remedy helps
    assert "the encoder works with" in end(WINE * 1e4, "auto", partial(nn.Linear, 13, 4))


def test_before_the_first_step_no_rate_is_the_cause() -> None:
    said = remedy(deep((13,), likelihood="gaussian"), object(), WINE, Training(1, 50, 0.01, Constant()), step=1)
    assert "take model.units=common" in said and "rate" not in said and "float64" not in said


def test_a_tractable_model_has_no_units() -> None:
    said = end(WINE, model=LinearGaussian((13,), 2), encoder=MLPFactory([50]))
    assert "scale the columns in the file" in said and "model.units=common" not in said
    scaled = (WINE - WINE.mean(0)) / WINE.std(0)
    assert end(scaled, model=LinearGaussian((13,), 2), encoder=MLPFactory([50])) == "done"


def test_a_network_that_starts_broken() -> None:
    said = end(WINE, "common", Broken)
    assert "No step had been taken" in said and "model.units" not in said and "training.rate" not in said
    assert "dtype=float64" in said and "dtype=float64" not in end(WINE, "common", Broken, dtype=torch.float64)


def test_a_rate_that_is_too_high() -> None:
    said = end(WINE, "common", rate=1e6)
    assert "Lower training.rate, set training.kl_warmup, or take dtype=float64" in said and "model.units" not in said
    assert "kl_warmup" not in end(WINE, "common", rate=1e6, kl_warmup=1.0)
    assert "(or strategy.rule.rate)" in end(WINE, "common", rate=1e20, local=True)
    assert end(WINE, "common") == "done"


@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_far_too_small_or_too_large(factor: float) -> None:
    x = torch.as_tensor(np.asarray(WINE)) / 1000 * factor
    said = end(x, rate=1e6)
    assert "take model.units=common" in said
    assert end(x, "common") == "done"
