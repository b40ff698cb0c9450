"""A run broken off anywhere and resumed from its last checkpoint equals the uninterrupted one bit for bit."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from bit_for_bit import final, same
from parts import amortized, deep, local, seeded
from torch import Tensor, nn

from vem.ascent.rules import SGD, Adam
from vem.data.blobs import blobs
from vem.data.dataset import Data, Split
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.models.mixture import Mixture
from vem.noise import generator
from vem.objectives.elbo import ELBO
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.strategies.amortized import Amortized, Mirror
from vem.strategies.exact_em import ExactEM
from vem.training import checkpoint
from vem.training.fit import fit
from vem.training.schedules import Cosine
from vem.training.settings import Training
from vem.training.signals import InterruptedRun


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


def large(device: torch.device, num: int) -> Data:
    """Real data in the hundreds, a column larger than the others."""
    data = linear_gaussian(num=num, dims=6, latent=2).to(device, torch.float32)
    scale = torch.tensor([100.0, 100.0, 100.0, 100.0, 100.0, 3000.0], device=device)
    return replace(data, **{name: Split(data.split(name).x * scale) for name in ("train", "valid", "test")})


def dropout() -> Amortized:
    with seeded(1):
        return amortized(DropoutEncoder(6, 4))


# name → a fresh (model, strategy, data), all of it made again as a restarted process would
Parts = tuple[Any, Any, Data]
CASES: dict[str, Callable[[torch.device], Parts]] = {
    "local, adam rows": lambda d: (deep().to(d), local(rule=Adam(), e_steps=2, order="e_then_m"), grey(d, False)),
    "local, alternating": lambda d: (
        deep().to(d), local(rule=SGD(), schedule="alternating", tolerance=0.5, max_passes=2), grey(d, False)
    ),
    "amortized, redrawn data": lambda d: (deep().to(d), amortized(Mirror()), grey(d, True)),
    "amortized, dropout": lambda d: (deep().to(d), dropout(), grey(d, False)),
    # A seventh batch of one row, which the encoder's batch norm cannot take.
    "amortized, units by column, a row that joins": lambda d: (
        deep(likelihood="gaussian", units="column").to(d), dropout(), large(d, 67)
    ),
    # With SQUAREM's longer steps, and the parameters that they start from.
    "exact EM, mixture of standardized columns": lambda d: (
        Mixture((6,), 3, covariance="full", standardize="auto").to(d), ExactEM(ELBO(), tolerance=0.0), large(d, 60)
    ),
    "exact EM, mixture": lambda d: (
        Mixture((2,), 3).to(d), ExactEM(ELBO(), restarts=2, tolerance=0.0), blobs(num=60).to(d, torch.float32)
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


def at_step(strategy: Any, at: int, happens: Callable[[], None], where: str = "before") -> None:
    """Let something happen at a step, before or after it changes the state."""
    step, numbers = strategy.step, itertools.count(1)

    def counted(*arguments: Any) -> Any:
        now = next(numbers) == at
        if now and where == "before":
            happens()
        info = step(*arguments)
        if now and where == "after":
            happens()
        return info

    strategy.step = counted


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def break_off(parts: Parts, at: int, directory: Path, where: str, **changes: Any) -> None:
    """Train until the power is cut at a step."""

    def cut() -> None:
        raise BrokenOff

    at_step(parts[1], at, cut, where)
    with pytest.raises(BrokenOff):
        trained(parts, directory, **changes)


def trained(parts: Parts, directory: Path | None, seed: int = 5, **changes: Any) -> Any:
    return fit(*parts, settings(**changes), seed=seed, directory=directory, progress_bar=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, device: torch.device) -> Any:
    """The uninterrupted run of a case: its directory, its progress, its model and strategy."""

    @cache
    def run(name: str) -> tuple[Path, Any, Any, Any]:
        directory, parts = tmp_path_factory.mktemp("whole"), CASES[name](device)
        torch.manual_seed(99)  # the global stream of the process is none of the run's business
        return directory, trained(parts, directory), *parts[:2]

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_broken_run_resumed_equals_the_uninterrupted_one(
    name: str, tmp_path: Path, whole: Any, device: torch.device
) -> None:
    case, (directory, done, model, strategy) = CASES[name], whole(name)
    # Before the first checkpoint, within an epoch, at an epoch's first and last step, twice in a row.
    for at, where in ((4, "after"), (15, "before"), (7, "after"), (13, "before")):
        break_off(case(device), at, tmp_path, where)
    torch.manual_seed(3)
    for _ in range(2):  # and the finished run is left as it is
        again, second, data = case(device)
        resumed = trained((again, second, data), tmp_path)
        assert resumed.step == done.step == 7 * 6
        same(final(tmp_path, device), final(directory, device))
        same({**again.state_dict()}, {**model.state_dict()})
        same(second.state_dict(), strategy.state_dict())


STOPS = [(name, 20) for name in CASES] + [("local, adam rows", 3), ("amortized, dropout", 6)]


@pytest.mark.parametrize(("name", "at"), STOPS)
def test_a_stop_within_an_epoch_resumes_from_that_step(
    name: str, at: int, tmp_path: Path, whole: Any, device: torch.device
) -> None:
    """SIGTERM writes a checkpoint between two steps of an epoch, with the sums that are under way."""
    parts = CASES[name](device)
    at_step(parts[1], at, terminate)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun, match=rf"stopped by SIGTERM.*step {at}; the checkpoint in .* is written"):
        trained(parts, tmp_path, checkpoint_seconds=1e9)
    assert signal.getsignal(signal.SIGTERM) is handler
    progress = checkpoint.load(tmp_path / CHECKPOINT, device)["progress"]
    assert (progress["epoch"], progress["batch"]) == divmod(at, 6)
    trained(CASES[name](device), tmp_path, checkpoint_seconds=1e9)
    same(final(tmp_path, device), final(whole(name)[0], device))


def test_a_stop_at_the_last_step_comes_before_evaluation(tmp_path: Path, device: torch.device) -> None:
    parts = CASES["local, adam rows"](device)
    at_step(parts[1], 42, terminate)
    with pytest.raises(InterruptedRun, match="stopped by SIGTERM after the last epoch, before evaluation"):
        trained(parts, tmp_path)
    assert checkpoint.load(tmp_path / CHECKPOINT, device)["progress"]["finished"] is True


def test_another_seed_gives_another_run(device: torch.device) -> None:
    results = []
    for seed in (1, 1, 2):
        parts = CASES["amortized, dropout"](device)
        trained(parts, None, seed)
        results.append(parts[0].decoder.last.weight.detach())
    assert torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])


def test_keep_best_survives_a_break(tmp_path: Path, device: torch.device) -> None:
    case, states = CASES["local, adam rows"], []
    (tmp_path / "broken").mkdir(), (tmp_path / "whole").mkdir()
    break_off(case(device), 30, tmp_path / "broken", "before", keep="best")
    for name in ("whole", "broken"):
        model, strategy, data = case(device)
        trained((model, strategy, data), tmp_path / name, keep="best")
        states.append([{**model.state_dict()}, strategy.state_dict()])
    same(*states)


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
    trained(CASES["amortized, dropout"](device), tmp_path, epochs=1)
    with pytest.raises(VemError, match=r"does not fit this model and strategy: name a fresh hydra\.run\.dir"):
        trained(CASES["exact EM, mixture"](device), tmp_path, epochs=1)
