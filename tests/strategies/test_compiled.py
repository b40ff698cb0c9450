"""strategy.compile=true changes the speed and not the numbers."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch

from vem.ascent.rules import Natural
from vem.ascent.starts import PCAStart
from vem.contracts import Batch, Schedule, Strategy, TrainingSet
from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian
from vem.models.deep import DeepLatentModel
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.objectives.elbo import ELBO
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.compiled import compiled
from vem.strategies.local import HeldOut, Local

ADAM = partial(torch.optim.Adam, lr=1e-2, fused=True)


def strategy(name: str, compile: bool) -> Strategy:
    if name == "amortized":
        return Amortized(DiagonalGaussian, ELBO(), ADAM, Mirror(), compile=compile)
    return Local(DiagonalGaussian, ELBO(gradient="path"), ADAM, Natural(), PCAStart(), HeldOut(), compile=compile)


def trained(name: str, compile: bool) -> tuple[list[float], list[torch.Tensor]]:
    """The bounds of four steps and the parameters after them, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DeepLatentModel((6,), 2, MLPFactory((5,))).double()
    x = (torch.rand(20, 6, generator=generator("cpu", "x")) < 0.5).double()
    chosen = strategy(name, compile)
    chosen.setup(model, TrainingSet(x, False), generator("cpu", "setup"))
    one = torch.ones((), dtype=torch.float64)
    noise = generator("cpu", "noise")
    values = []
    for step in range(4):
        rows = torch.arange(10) + 10 * (step % 2)
        drawn = fill(chosen.noise(10), noise, torch.float64)
        info = chosen.step(model, Batch(x[rows], rows), drawn, Schedule(one, one, 0 * one))
        assert info.bound is not None
        values.append(float(info.bound.value.mean()))
    return values, [p.detach() for p in model.parameters()]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
# What a user sees once in a process, from inside torch; nothing that vem could do otherwise.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ["amortized", "local"])
def test_compiled_steps_equal_plain_ones(name: str) -> None:
    values, params = trained(name, False)
    fast_values, fast_params = trained(name, True)
    assert fast_values == pytest.approx(values, abs=1e-9)
    for a, b in zip(params, fast_params, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(VemError, match=r"compile=false"):
        compiled(trained, True, torch.device("cpu"))
    assert compiled(trained, False, torch.device("cpu")) is trained
