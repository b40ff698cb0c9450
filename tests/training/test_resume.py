"""A run broken off anywhere and resumed from its last checkpoint equals the uninterrupted one bit for bit."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bit_for_bit import final, same
from torch import Tensor, nn

from vem.ascent.rules import SGD, Adam, Natural
from vem.ascent.starts import PCAStart
from vem.data.blobs import blobs
from vem.data.dataset import Data, Split
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.families.gaussian import DiagonalGaussian, FullGaussian
from vem.models.deep import DeepLatentModel
from vem.models.linear_gaussian import LinearGaussian
from vem.models.mixture import Mixture
from vem.models.networks import MLPFactory
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.exact_em import ExactEM
from vem.strategies.local import HeldOut, Local
from vem.training import checkpoint
from vem.training.fit import fit
from vem.training.schedules import Cosine
from vem.training.settings import Training
from vem.training.signals import InterruptedRun

ADAM = partial(torch.optim.Adam, lr=0.01)


class DropoutEncoder(nn.Module):
    """Draws from torch's global stream in training, and has running statistics."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def grey(device: torch.device, redrawn: bool) -> Data:
    """Grey levels, drawn anew each epoch or thresholded."""
    x = torch.rand(60, 6, generator=generator("cpu", 0)).to(device)
    x = x if redrawn else (x > 0.5).float()
    still = (x[:20] > 0.5).float()
    return Data("grey", Split(x), Split(still), Split(still), "binary", redrawn=redrawn)


def deep(device: torch.device) -> DeepLatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeepLatentModel((6,), 2, MLPFactory([8])).to(device)


def in_units(device: torch.device, units: str) -> DeepLatentModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DeepLatentModel((6,), 2, MLPFactory([8]), "gaussian", units=units).to(device)


def large(device: torch.device, num: int) -> Data:
    """Real data in the hundreds, a column larger than the others."""
    data = linear_gaussian(num=num, dims=6, latent=2).to(device, torch.float32)
    scale = torch.tensor([100.0, 100.0, 100.0, 100.0, 100.0, 3000.0], device=device)
    return replace(data, **{name: Split(data.split(name).x * scale) for name in ("train", "valid", "test")})


def local(rule: Any, family: Any = DiagonalGaussian, **options: Any) -> Local:
    return Local(family, ELBO(gradient="path"), ADAM, rule, PCAStart(), HeldOut(steps=3), **options)


def amortized(encoder: Any) -> Amortized:
    return Amortized(DiagonalGaussian, ELBO(), ADAM, encoder)


def dropout() -> Amortized:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return amortized(DropoutEncoder(6, 4))


# name → a fresh (model, strategy, data), all of it made again as a restarted process would
Parts = tuple[Any, Any, Data]
CASES: dict[str, Callable[[torch.device], Parts]] = {
    "local, adam rows": lambda d: (deep(d), local(Adam(), e_steps=2, order="e_then_m"), grey(d, False)),
    "local, natural rows, joint": lambda d: (deep(d), local(Natural(), FullGaussian), grey(d, False)),
    "local, alternating": lambda d: (
        deep(d), local(SGD(), schedule="alternating", tolerance=0.5, max_passes=2), grey(d, False)
    ),
    "amortized, redrawn data": lambda d: (deep(d), amortized(Mirror()), grey(d, True)),
    "amortized, dropout": lambda d: (deep(d), dropout(), grey(d, False)),
    "local, common units": lambda d: (in_units(d, "common"), local(Natural()), large(d, 60)),
    # A seventh batch of one row, which the encoder's batch norm cannot take.
    "amortized, units by column, a row that joins": lambda d: (in_units(d, "column"), dropout(), large(d, 67)),
    "exact EM, mixture": lambda d: (
        Mixture((2,), 3).to(d), ExactEM(ELBO(), restarts=2, tolerance=0.0), blobs(num=60).to(d, torch.float32)
    ),
    # With SQUAREM's longer steps, and the parameters that they start from.
    "exact EM, mixture of standardized columns": lambda d: (
        Mixture((6,), 3, covariance="full", standardize="auto").to(d), ExactEM(ELBO(), tolerance=0.0), large(d, 60)
    ),
    "exact EM, factor analysis": lambda d: (
        LinearGaussian((6,), 2, noise="diagonal", standardize="auto").to(d), ExactEM(ELBO(), tolerance=0.0),
        large(d, 60),
    ),
    "exact EM, linear-Gaussian": lambda d: (
        LinearGaussian((4,), 2).to(d), ExactEM(ELBO(), tolerance=0.0),
        linear_gaussian(num=60, dims=4, latent=2).to(d, torch.float32),
    ),
}  # fmt: skip


class BrokenOff(Exception):
    """Stands for a power cut."""


def settings(**changes: Any) -> Training:
    """Six batches an epoch (a ragged one last), a record every second epoch, so that records are under way."""
    return Training(**{
        "epochs": 7, "batch_size": 11, "rate": 0.01, "schedule": Cosine(), "records": 4, "valid_data": 10,
        "kl_warmup": 2.0, "checkpoint_seconds": 0.0, **changes,
    })  # fmt: skip


def break_off(parts: Parts, at: int, directory: Path, where: str, **changes: Any) -> None:
    """Train until something breaks at a step (before or after it changed the state) or asks to stop."""
    model, strategy, data = parts
    step, count = strategy.step, 0

    def breaking(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and where == "before":
            raise BrokenOff
        info = step(*arguments)
        if count == at and where == "after":
            raise BrokenOff
        return info

    strategy.step = breaking
    with pytest.raises(BrokenOff):
        fit(model, strategy, data, settings(**changes), seed=5, directory=directory, progress_bar=False)


@pytest.mark.parametrize("name", CASES)
def test_a_broken_run_resumed_equals_the_uninterrupted_one(name: str, tmp_path: Path, device: torch.device) -> None:
    case = CASES[name]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    model, strategy, data = case(device)
    torch.manual_seed(99)  # the global stream of the process is none of the run's business
    done = fit(model, strategy, data, settings(), seed=5, directory=whole, progress_bar=False)
    # Before the first checkpoint, within an epoch, at an epoch's first and last step, twice in a row.
    for at, where in ((4, "after"), (15, "before"), (7, "after"), (13, "before")):
        break_off(case(device), at, broken, where)
    torch.manual_seed(3)
    again, second, data = case(device)
    resumed = fit(again, second, data, settings(), seed=5, directory=broken, progress_bar=False)
    assert resumed.step == done.step == 7 * 6
    same(final(broken, device), final(whole, device))
    same({**again.state_dict()}, {**model.state_dict()})
    same(second.state_dict(), strategy.state_dict())
    # The finished run is left as it is.
    third = case(device)
    left = fit(*third, settings(), seed=5, directory=broken, progress_bar=False)
    assert left.step == done.step
    same(final(broken, device), final(whole, device))
    same({**third[0].state_dict()}, {**model.state_dict()})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at", [3, 6, 20])
def test_a_stop_within_an_epoch_resumes_from_that_step(
    name: str, at: int, tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM writes a checkpoint between two steps of an epoch, with the sums that are under way."""
    case = CASES[name]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    fit(*case(device), settings(), seed=5, directory=whole, progress_bar=False)
    model, strategy, data = case(device)
    step, count = strategy.step, 0

    def asked(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    strategy.step = asked
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun, match=rf"stopped by SIGTERM.*step {at}; the checkpoint in .*stopped is written"):
        fit(model, strategy, data, settings(checkpoint_seconds=1e9), seed=5, directory=stopped, progress_bar=False)
    assert signal.getsignal(signal.SIGTERM) is handler
    progress = checkpoint.load(stopped / CHECKPOINT, device)["progress"]
    assert (progress["epoch"], progress["batch"]) == divmod(at, 6)
    fit(*case(device), settings(checkpoint_seconds=1e9), seed=5, directory=stopped, progress_bar=False)
    same(final(stopped, device), final(whole, device))


def test_a_stop_at_the_last_step_comes_before_evaluation(tmp_path: Path, device: torch.device) -> None:
    model, strategy, data = CASES["local, adam rows"](device)
    step = strategy.step

    def asked(*arguments: Any) -> Any:
        if float(arguments[-1].progress) > 1 - 1.5 / 42:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    strategy.step = asked
    with pytest.raises(InterruptedRun, match="stopped by SIGTERM after the last epoch, before evaluation"):
        fit(model, strategy, data, settings(), seed=5, directory=tmp_path, progress_bar=False)
    assert checkpoint.load(tmp_path / CHECKPOINT, device)["progress"]["finished"] is True


def test_another_seed_gives_another_run(tmp_path: Path, device: torch.device) -> None:
    results = []
    for seed in (1, 1, 2):
        model, strategy, data = CASES["amortized, dropout"](device)
        fit(model, strategy, data, settings(), seed=seed, progress_bar=False)
        results.append(model.decoder.last.weight.detach())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])


def test_keep_best_survives_a_break(tmp_path: Path, device: torch.device) -> None:
    case = CASES["local, adam rows"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    model, strategy, data = case(device)
    fit(model, strategy, data, settings(keep="best"), seed=5, directory=whole, progress_bar=False)
    break_off(case(device), 30, broken, "before", keep="best")
    again, second, data = case(device)
    fit(again, second, data, settings(keep="best"), seed=5, directory=broken, progress_bar=False)
    same({**again.state_dict()}, {**model.state_dict()})
    same(second.state_dict(), strategy.state_dict())


def test_the_best_state_does_not_put_the_checkpoint_off(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every record is the best so far, there is a checkpoint to go on from all the same."""
    clock = itertools.count()
    monkeypatch.setattr("vem.training.fit.time.monotonic", lambda: float(next(clock)))
    best = itertools.count()
    monkeypatch.setattr("vem.training.fit.Loop._valid_elbo", lambda self: {"elbo": float(next(best))})
    case = CASES["local, adam rows"](device)
    break_off(case, 30, tmp_path, "before", keep="best", records=7, checkpoint_seconds=3.0)
    assert (tmp_path / BEST_CHECKPOINT).exists() and (tmp_path / CHECKPOINT).exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, device: torch.device) -> None:
    fit(*CASES["amortized, dropout"](device), settings(epochs=1), directory=tmp_path, progress_bar=False)
    with pytest.raises(VemError, match=r"does not fit this model and strategy: name a fresh hydra\.run\.dir"):
        fit(*CASES["exact EM, mixture"](device), settings(epochs=1), directory=tmp_path, progress_bar=False)
