"""The loop: it knows the protocols only, keeps what it was told to keep, and names what went wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from bit_for_bit import same
from parts import amortized, train
from torch import Tensor, nn

from vem.cli.train import _not_converged
from vem.contracts import Batch, Bound, NoiseSpec, Schedule, StepInfo, TrainingSet
from vem.data.dataset import Data
from vem.data.linear_gaussian import linear_gaussian
from vem.errors import VemError
from vem.evaluation.elbo import score, spread
from vem.evaluation.gaps import summarize
from vem.evaluation.measured import Measured
from vem.families.gaussian import DiagonalGaussian
from vem.models.linear_gaussian import LinearGaussian
from vem.models.networks import MLPFactory
from vem.objectives.elbo import ELBO
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.strategies.amortized import Amortized
from vem.strategies.exact_em import ExactEM
from vem.training import checkpoint
from vem.training.fit import Progress
from vem.training.meter import NonFiniteError
from vem.training.schedules import Constant, Cosine
from vem.training.settings import Stop, Training


def data(device: torch.device, num: int = 55) -> Data:
    return linear_gaussian(num=num, num_valid=30, num_test=20, dims=4, latent=2).to(device, torch.float64)


def model(device: torch.device) -> LinearGaussian:
    return LinearGaussian((4,), 2).to(device, torch.float64)


def run(strategy: Any, device: torch.device, epochs: int, batch_size: int = 55, **settings: Any) -> Progress:
    return train(model(device), strategy, data(device), epochs, batch_size, **settings)


class Recorder:
    """A strategy without an ELBO that writes down what the loop does to it."""

    no_elbo = "q has no density"

    def __init__(self, converge_after: int = 10**9) -> None:
        self.rows: list[list[int]] = []
        self.rates: list[tuple[float, float, float]] = []
        self.noises: list[Tensor] = []
        self.epochs, self.converge_after = 0, converge_after

    def setup(self, model: Any, data: TrainingSet, generator: torch.Generator) -> None:
        self.num = len(data.x)

    def noise(self, batch_size: int, held_out: bool = False) -> dict[str, NoiseSpec]:
        return {"z": NoiseSpec("normal", (1, batch_size, 2))}

    def infer(self, model: Any, batch: Batch, noise: Any) -> Any:
        raise AssertionError("the loop must not ask a strategy without an ELBO for q")

    bound = infer

    def step(self, model: Any, batch: Batch, noise: Any, schedule: Schedule) -> StepInfo:
        assert batch.rows is not None
        self.rows.append(batch.rows.tolist())
        self.noises.append(noise["z"])
        self.rates.append((float(schedule.rate), float(schedule.kl_weight), float(schedule.progress)))
        return StepInfo(None, {"fit": torch.tensor(float(len(self.rows)))}, len(batch.x), 2)

    def end_epoch(self, model: Any) -> bool:
        self.epochs += 1
        return self.epochs >= self.converge_after

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


def test_batches_cover_the_data_each_epoch_and_the_ragged_one_is_used(device: torch.device) -> None:
    strategy = Recorder()
    done = run(strategy, device, 3, 10, rates=Cosine(), kl_warmup=2.0)
    assert [len(r) for r in strategy.rows] == [10, 10, 10, 10, 10, 5] * 3
    epochs = [[n for batch in strategy.rows[i : i + 6] for n in batch] for i in (0, 6, 12)]
    assert all(sorted(e) == list(range(55)) for e in epochs) and epochs[0] != epochs[1]
    assert [n.shape[1] for n in strategy.noises] == [10, 10, 10, 10, 10, 5] * 3
    assert not torch.equal(strategy.noises[0], strategy.noises[1]) and strategy.noises[0].dtype == torch.float64
    for step, (rate, weight, progress) in enumerate(strategy.rates):
        epoch = step / 6
        assert rate == pytest.approx(0.5 * (1 + math.cos(math.pi * epoch / 3)))
        assert weight == pytest.approx(min(1.0, (epoch + 1 / 12) / 2)) and progress == pytest.approx(epoch / 3)
    assert (done.epoch, done.step, done.decoder_evaluations, done.decoder_gradients) == (3, 18, 165, 36)


def test_a_strategy_without_an_elbo_trains_and_is_recorded(device: torch.device, tmp_path: Path) -> None:
    done = run(Recorder(), device, 2, valid_data=500, directory=tmp_path)
    assert [r["split"] for r in done.records] == ["train", "train"] and "elbo" not in done.records[0]
    assert [r["fit"] for r in done.records] == [1.0, 2.0]
    assert done.epoch_elbos == []
    x = data(device).test.x
    scores = score(model(device), Recorder(), x, spread(5, 20), training_rows=False, draws=2, seed=0, name="test")
    assert scores.elbo is None and summarize(Measured(scores))["elbo"] == {"value": None, "reason": "q has no density"}
    assert summarize(Measured(scores))["log_marginal"]["kind"] == "exact"


def test_keep_best_is_refused_where_there_is_no_best(device: torch.device, tmp_path: Path) -> None:
    best: dict[str, Any] = {"keep": "best", "valid_data": 5}
    with pytest.raises(VemError, match=r"keep=best goes by the validation ELBO, q has no density"):
        run(Recorder(), device, 2, directory=tmp_path, **best)
    with pytest.raises(VemError, match="no directory"):
        run(amortized(), device, 2, **best)


def test_the_loop_ends_when_the_strategy_has_converged(device: torch.device) -> None:
    done = run(Recorder(converge_after=4), device, 50, records=5)
    assert (done.epoch, done.converged) == (4, True)
    assert done.records[-1]["epoch"] == 4  # what was left since the last record is not lost


def test_the_loop_ends_when_the_elbo_has_converged(device: torch.device) -> None:
    done = run(ExactEM(ELBO(), tolerance=0.0), device, 500, stop=Stop(1e-3, window=3), records=5)
    assert done.converged and 6 <= done.epoch < 200 and len(done.epoch_elbos) == done.epoch
    assert Stop(1e-3, window=3).reached(done.epoch_elbos) and not Stop(1e-3, window=3).reached(done.epoch_elbos[:-1])


class Scripted(Recorder):
    """Bounds as they are told, one an epoch: the ELBO, and what is ascended where that is another function."""

    def __init__(self, elbos: Callable[[int], float], objective: Callable[[int], float] | None = None) -> None:
        super().__init__()
        self.elbos, self.objective = elbos, objective

    def step(self, model: Any, batch: Batch, noise: Any, schedule: Schedule) -> StepInfo:
        value = torch.full((len(batch.x),), self.elbos(self.epochs), dtype=torch.float64)
        terms = {} if self.objective is None else {"objective": torch.full_like(value, self.objective(self.epochs))}
        return StepInfo(Bound(value, value, terms), {}, 0)


def stopped(strategy: Any, device: torch.device, **options: Any) -> Any:
    return run(strategy, device, 100, **{"stop": Stop(0.01), **options})


def test_nothing_converges_inside_a_warm_up(device: torch.device) -> None:
    # The ELBO falls until the weight of the KL term is 1, rises for 20 epochs, and is then level.
    elbos = lambda epoch: -2.0 - 0.1 * epoch if epoch < 30 else min(-5.0 + 0.1 * (epoch - 30), -3.0)  # noqa: E731
    done = stopped(Scripted(elbos), device, kl_warmup=30.0)
    assert done.converged and done.epoch == 30 + 20 + 10
    assert stopped(Scripted(elbos), device).converged is True  # and without one it is the rise that is seen
    wide = stopped(Scripted(elbos), device, kl_warmup=30.0, stop=Stop(1e9))
    assert wide.converged and wide.epoch == 30 + 10
    never = stopped(Scripted(elbos), device, kl_warmup=100.0, stop=Stop(1e9))
    assert not never.converged and never.epoch == 100


def test_the_weighed_bound_is_watched_where_that_is_ascended(device: torch.device) -> None:
    falling, rising = (lambda epoch: -0.1 * epoch), (lambda epoch: min(0.1 * epoch, 2.0))
    done = stopped(Scripted(falling, rising), device)
    assert done.converged and done.epoch == 21 + 9  # 2.0 is reached in epoch 21
    assert not stopped(Scripted(falling), device).converged  # what falls for good does not converge
    assert {"elbo", "objective"} <= done.records[0].keys()


def test_what_a_weighed_bound_ascends_is_recorded(device: torch.device) -> None:
    def trained(**weights: float) -> dict[str, Any]:
        return run(amortized(objective=ELBO(**weights)), device, 1, kl_warmup=5.0).records[0]

    row = trained(kl_weight=0.1)  # of the objective itself, without the weight of the warm-up
    assert row["objective"] == pytest.approx(row["reconstruction"] - 0.1 * row["kl"])
    assert "objective" not in trained()


@pytest.mark.parametrize(
    ("kl_warmup", "elbos", "advice"),
    [
        (0, [-3.0 + 0.1 * n for n in range(12)], "raise training.epochs."),
        (12, [-3.0] * 12, "take training.epochs=22 or more, or a shorter training.kl_warmup."),
        (2.5, [-3.0] * 12, "take training.epochs=13 or more, or a shorter training.kl_warmup."),
        (0, [-3.0 - 0.1 * n for n in range(12)], "falling at the end: lower training.rate."),
    ],
)
def test_the_note_on_training_that_did_not_converge(kl_warmup: float, elbos: list[float], advice: str) -> None:
    settings = Training(12, 10, 1e-3, Constant(), Stop(0.01), kl_warmup=kl_warmup)
    records = [{"split": "train", "epoch": n, "elbo": elbo} for n, elbo in enumerate(elbos, 1)]
    done = Progress(epoch=12, records=records)
    stop = {"tolerance": 0.01, "window": 5}
    config = {"training": {"stop": stop, "epochs": 12, "kl_warmup": kl_warmup}, "seed": 0}
    (note,) = _not_converged(config, settings, done)
    assert note.startswith("training ended after 12 epochs, before it had converged (training.stop.tolerance=0.01): ")
    assert note.endswith(advice)
    assert _not_converged(config, settings, Progress(epoch=12, converged=True)) == []


def test_keep_best_restores_the_whole_best_state(device: torch.device, tmp_path: Path) -> None:
    learner, theta = amortized(rate=0.2), model(device)
    done = train(theta, learner, data(device), 30, 10, keep="best", valid_data=30, directory=tmp_path)
    valid = [r["elbo"] for r in done.records if r["split"] == "valid"]
    best_epoch = 1 + valid.index(max(valid))
    assert best_epoch < 30 and done.best == max(valid)
    # The state is that of a run that ended there: θ, φ and the optimizer's moments and counts.
    other, again = amortized(rate=0.2), model(device)
    train(again, other, data(device), best_epoch, 10)
    same({"m": theta.state_dict(), "s": learner.state_dict()}, {"m": again.state_dict(), "s": other.state_dict()})
    last = checkpoint.load(tmp_path / CHECKPOINT, device)
    best = checkpoint.load(tmp_path / BEST_CHECKPOINT, device)
    assert (last["progress"]["epoch"], best["progress"]["epoch"]) == (30, best_epoch)
    assert not torch.equal(last["model"]["weight"], best["model"]["weight"])


class Breaking(Amortized):
    """Amortized, but something breaks at a step."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(DiagonalGaussian, ELBO(), partial(torch.optim.SGD, lr=0.01), MLPFactory([]))
        self.at, self.what, self.count = at, what, 0

    def step(self, model: Any, batch: Batch, noise: Any, schedule: Schedule) -> StepInfo:
        self.count += 1
        if self.count == self.at and self.what == "data":
            batch = batch._replace(x=batch.x * math.nan)
        info = super().step(model, batch, noise, schedule)
        if self.count == self.at and self.what == "theta":
            with torch.no_grad():
                model.bias[0] = math.inf
        if self.count == self.at and self.what == "encoder":
            with torch.no_grad():
                next(self.encoder.parameters()).view(-1)[0] = math.nan
        return info


@pytest.mark.parametrize(
    ("what", "at", "message"),
    [
        ("data", 9, r"^step 9: elbo, reconstruction, kl, gradient_norm became NaN or infinite; no checkpoint.*Lower"),
        ("theta", 18, r"^step 18: model\.bias became NaN or infinite"),
        ("encoder", 18, r"^step 18: strategy\.encoder\.layers\.0\.weight became NaN or infinite"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(what: str, at: int, message: str, device: torch.device) -> None:
    with pytest.raises(NonFiniteError, match=message):
        run(Breaking(at, what), device, 3, 10)


def test_the_last_good_checkpoint_is_named_and_stays(device: torch.device, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 20: .*the last good checkpoint is .*checkpoint\.pt \(epoch 3\)"):
        run(Breaking(20, "data"), device, 5, 10, checkpoint_seconds=0.0, directory=tmp_path)
    state = checkpoint.load(tmp_path / CHECKPOINT, device)
    assert state["progress"]["epoch"] == 3 and torch.isfinite(state["model"]["weight"]).all()


def test_a_bound_that_is_finite_with_a_gradient_that_is_not(device: torch.device) -> None:
    class Cusp(nn.Module):
        """√|x − x| has value 0 and no gradient."""

        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (x @ self.w).abs().sqrt()

    with pytest.raises(NonFiniteError, match=r"^step 1: gradient_norm became NaN"):
        run(amortized(Cusp()), device, 1)
