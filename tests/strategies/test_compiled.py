"""strategy.compile=true changes the speed and not the numbers."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import pytest
import torch
from parts import amortized, deep, local, schedule

from vem.contracts import Batch, TrainingSet
from vem.errors import VemError
from vem.models.networks import MLPFactory
from vem.noise import fill, generator
from vem.strategies.amortized import Mirror
from vem.strategies.compiled import compiled

STRATEGIES = {"amortized": partial(amortized, Mirror()), "local": local}


def trained(name: str, compile: bool) -> tuple[list[float], list[torch.Tensor]]:
    """The bounds of four steps and the parameters after them, in float64."""
    model = deep(decoder=MLPFactory((5,))).double()
    x = (torch.rand(20, 6, generator=generator("cpu", "x")) < 0.5).double()
    chosen = STRATEGIES[name](compile=compile)
    chosen.setup(model, TrainingSet(x, False), generator("cpu", "setup"))
    noise, values = generator("cpu", "noise"), []
    for step in range(4):
        rows = torch.arange(10) + 10 * (step % 2)
        drawn = fill(chosen.noise(10), noise, torch.float64)
        info = chosen.step(model, Batch(x[rows], rows), drawn, schedule(dtype=torch.float64))
        assert info.bound is not None
        values.append(float(info.bound.value.mean()))
    return values, [p.detach() for p in model.parameters()]


@pytest.mark.slow
# What a user sees once in a process, from inside torch; nothing that vem could do otherwise.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        # Each kernel costs a second of g++: one strategy goes all the way, the other as far as the traced graph.
        pytest.param("local", "inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")),
        ("amortized", "aot_eager"),
    ],
)
def test_compiled_steps_equal_plain_ones(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(torch, "compile", partial(_counted, made, torch.compile, backend))
    if backend == "aot_eager":  # which needs no compiler
        monkeypatch.setattr(shutil, "which", lambda name: name)
    values, params = trained(name, False)
    assert not made
    fast_values, fast_params = trained(name, True)
    assert made and fast_values == pytest.approx(values, abs=1e-9)
    for a, b in zip(params, fast_params, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def _counted(made: list[Any], compile: Any, backend: str, function: Any, **options: Any) -> Any:
    made.append(function)
    return compile(function, backend=backend, **options)


def test_without_a_compiler_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(VemError, match=r"compile=false"):
        compiled(trained, True, torch.device("cpu"))
    assert compiled(trained, False, torch.device("cpu")) is trained
