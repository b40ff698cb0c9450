"""The one training loop. It knows only the protocols: no strategy, model or family by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vem.contracts import Batch, GenerativeModel, Schedule, Strategy
from vem.data.dataset import Data
from vem.errors import VemError
from vem.evaluation.elbo import score, spread
from vem.noise import fill, generator
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.training import checkpoint
from vem.training.batches import batches_of, joins_lone_row
from vem.training.meter import Meter, NonFiniteError
from vem.training.remedy import remedy
from vem.training.settings import Training
from vem.training.signals import InterruptedRun, stop_requests


@dataclass
class Progress:
    """Where training stands. Everything here goes into the checkpoint as it is."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the epoch that is under way
    step: int = 0
    flushed: int = 0  # the step of the last record
    decoder_evaluations: int = 0
    decoder_gradients: int = 0
    seconds: float = 0.0  # of training steps alone: no validation, no checkpoints
    converged: bool = False
    finished: bool = False
    best: float | None = None
    epoch_elbos: list[float] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


class Loop:
    """Training of one model by one strategy on one data set; :func:`fit` runs it.

    Everything random is keyed by (seed, purpose, epoch) or carried in the checkpoint, so that a run killed
    anywhere and resumed equals the uninterrupted run bit for bit.
    """

    def __init__(
        self,
        model: GenerativeModel,
        strategy: Strategy,
        data: Data,
        settings: Training,
        seed: int,
        directory: Path | None,
        on_record: Callable[[list[dict[str, Any]]], None] | None,
        progress_bar: bool,
        config_hash: str | None,
    ) -> None:
        self.model, self.strategy, self.data, self.settings = model, strategy, data, settings
        self.seed, self.directory, self.on_record, self.progress_bar = (
            seed,
            directory,
            on_record,
            progress_bar,
        )
        self.config_hash = config_hash
        x = data.train.x
        self.device, self.dtype, self.num_data = x.device, x.dtype, len(data.train)
        self.noise = generator(self.device, seed, "noise")
        self.schedule = Schedule(x.new_ones(()), x.new_ones(()), x.new_zeros(()))
        self.meter = Meter()
        self.at = Progress()
        self.saved_at = time.monotonic()
        if settings.keep == "best" and (directory is None or strategy.no_elbo is not None):
            why = strategy.no_elbo or "and fit() was given no directory to keep it in"
            raise VemError(f"training.keep=best goes by the validation ELBO, {why}: take training.keep=last.")
        training_set = data.training_set()
        strategy.setup(model, training_set, generator(self.device, seed, "setup"))
        self.joined = joins_lone_row(model, strategy, training_set.x, settings.batch_size, self.schedule, seed)
        self.batches = -(-self.num_data // settings.batch_size) - self.joined

    def run(self) -> Progress:
        """Train from where the checkpoint left off to the end."""
        # vem draws from streams of its own; dropout in a user's network draws from torch's global one.
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(generator("cpu", self.seed, "global").initial_seed())
            return self._run()

    def _run(self) -> Progress:
        at, settings = self.at, self.settings
        self._resume()
        if not at.finished:
            bar = tqdm(
                total=settings.epochs,
                initial=at.epoch,
                unit="epoch",
                leave=False,
                disable=None if self.progress_bar else True,
            )
            with bar, stop_requests() as asked:
                while at.epoch < settings.epochs and not at.converged:
                    self._epoch(asked)
                    bar.update()
                    if at.epoch_elbos:
                        bar.set_postfix_str(f"ELBO {at.epoch_elbos[-1]:.2f} nats/datum")
            at.finished = True
            self._save(CHECKPOINT)
            if asked.name:
                raise InterruptedRun(
                    f"stopped by {asked.name} after the last epoch, before evaluation: start the same command with "
                    "the same hydra.run.dir, or hydra.sweep.dir, to finish."
                )
        if settings.keep == "best":
            self._restore_best()
        return at

    def _epoch(self, asked: Any) -> None:
        at, settings = self.at, self.settings
        order = torch.randperm(
            self.num_data,
            generator=generator(self.device, self.seed, "shuffle", at.epoch),
            device=self.device,
        )
        x = self.data.train_x(at.epoch)
        started = time.perf_counter()
        for index in batches_of(order, settings.batch_size, self.joined)[at.batch :]:
            self._step(x, index)
            at.batch += 1
            if asked.name and at.batch < self.batches:
                self._count_seconds(started)
                self._interrupted(asked.name)
        at.converged = self.strategy.end_epoch(self.model)
        at.epoch, at.batch = at.epoch + 1, 0
        self._count_seconds(started)
        last = at.epoch == settings.epochs or at.converged
        if last or settings.stop.tolerance is not None or at.epoch % settings.record_every == 0:
            self._record(last)
        if asked.name and not last:
            self._interrupted(asked.name)

    def _step(self, x: Tensor, index: Tensor) -> None:
        at = self.at
        self._set_schedule(at.epoch + at.batch / self.batches)
        noise = fill(self.strategy.noise(len(index)), self.noise, self.dtype)
        info = self.strategy.step(self.model, Batch(x.index_select(0, index), index), noise, self.schedule)
        self.meter.add(info, len(index))
        at.step += 1
        at.decoder_evaluations += info.decoder_evaluations
        at.decoder_gradients += info.decoder_gradients

    def _set_schedule(self, epoch: float) -> None:
        settings = self.settings
        self.schedule.rate.fill_(settings.schedule(epoch, settings.epochs))
        self.schedule.progress.fill_(epoch / settings.epochs)
        # Half a batch on: a weight of exactly zero would leave the first KL gradient out.
        self.schedule.kl_weight.fill_(settings.kl_weight(epoch + 0.5 / self.batches))

    def _count_seconds(self, started: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.at.seconds += time.perf_counter() - started

    def _record(self, last: bool) -> None:
        """One row for the steps since the last record, one for the validation data; a checkpoint if due."""
        at = self.at
        try:
            means = self.meter.flush(at.flushed + 1)
        except NonFiniteError as error:
            raise self._not_finite(str(error), error.step or at.step) from None
        self._check_parameters()
        at.flushed = at.step
        if "elbo" in means:
            at.epoch_elbos.append(means["elbo"])
        common = {
            "epoch": at.epoch, "step": at.step, "seconds": at.seconds,
            "decoder_evaluations": at.decoder_evaluations, "decoder_gradients": at.decoder_gradients,
        }  # fmt: skip
        rates = {"rate": float(self.schedule.rate), "kl_weight": float(self.schedule.kl_weight)}
        at.records.append({**common, "split": "train", **means, **rates})
        valid = self._valid_elbo()
        if valid:
            at.records.append({**common, "split": "valid", **valid})
            self._keep_best(valid["elbo"])
        if self.settings.stop.reached(self.settings.watched(at.records)):
            at.converged = True
        if self.on_record:
            self.on_record(at.records)
        if not last and time.monotonic() - self.saved_at >= self.settings.checkpoint_seconds:
            self._save(CHECKPOINT)

    def _valid_elbo(self) -> dict[str, float]:
        valid, num = self.data.valid, self.settings.valid_data
        if not num or self.strategy.no_elbo is not None:
            return {}
        rows = spread(num, len(valid))
        scores = score(
            self.model,
            self.strategy,
            valid.x,
            rows,
            training_rows=False,
            draws=1,
            seed=self.seed,
            name="monitor",
        )
        terms = {"elbo": scores.elbo, "reconstruction": scores.reconstruction, "kl": scores.kl}
        return {name: float(v.mean()) for name, v in terms.items() if v is not None}

    def _keep_best(self, elbo: float) -> None:
        at = self.at
        if self.settings.keep == "best" and (at.best is None or elbo > at.best):
            at.best = elbo
            # The whole state of this moment: a best θ beside the last optimizer state would be no checkpoint.
            self._save(BEST_CHECKPOINT)

    def _restore_best(self) -> None:
        if self.directory and (self.directory / BEST_CHECKPOINT).exists():
            path = self.directory / BEST_CHECKPOINT
            checkpoint.put(path, checkpoint.load(path, self.device, self.config_hash), self.model, self.strategy)

    def _interrupted(self, name: str) -> None:
        self._check_parameters()  # a state with NaN in it must not take the place of the last good one
        self._save(CHECKPOINT)
        where = f" in {self.directory}" if self.directory else ""
        raise InterruptedRun(
            f"stopped by {name} in epoch {self.at.epoch + 1}, step {self.at.step}; the checkpoint{where} is written: "
            "start the same command with the same hydra.run.dir, or hydra.sweep.dir, to go on."
        )

    def _last_good(self) -> str:
        path = self.directory / CHECKPOINT if self.directory else None
        if path and path.exists():
            return f"the last good checkpoint is {path} (epoch {checkpoint.load(path, 'cpu')['progress']['epoch']})."
        return "no checkpoint had been written yet."

    def _not_finite(self, what: str, step: int) -> NonFiniteError:
        helps = remedy(self.model, self.strategy, self.data.train.x, self.settings, step)
        return NonFiniteError(f"{what}; {self._last_good()} {helps}")

    def _check_parameters(self) -> None:
        state = {"model": self.model.state_dict(), "strategy": self.strategy.state_dict()}
        for name, tensor in _tensors(state, ""):
            # The extremes are NaN or infinite if any number is; nothing of the size of a λ table is made.
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            if not bool(torch.stack(tensor.aminmax()).isfinite().all()):
                step = self.at.step
                raise self._not_finite(f"step {step}: {name} became NaN or infinite", step)

    def _save(self, name: str) -> None:
        if self.directory is None:
            return
        state = {
            "progress": asdict(self.at), "model": self.model.state_dict(), "strategy": self.strategy.state_dict(),
            "device": self.device.type, "noise": self.noise.get_state(), "global": self._global_streams(),
            "meter": self.meter.state_dict(), "config_hash": self.config_hash,
        }  # fmt: skip
        checkpoint.save(self.directory / name, state)
        if name == CHECKPOINT:  # the best state is none to go on from: it must not put the next checkpoint off
            self.saved_at = time.monotonic()

    def _global_streams(self) -> list[Tensor]:
        on_gpu = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        return [torch.get_rng_state(), *on_gpu]

    def _resume(self) -> None:
        path = self.directory / CHECKPOINT if self.directory else None
        if path is None or not path.exists():
            return
        state = checkpoint.load(path, self.device, self.config_hash)
        if state["device"] != self.device.type:
            raise VemError(
                f"{path} was written with device={state['device']}, and random streams do not go from one kind of "
                f"device to another: give device={state['device']}, or name a fresh hydra.run.dir."
            )
        checkpoint.put(path, state, self.model, self.strategy)
        self.noise.set_state(state["noise"].cpu())
        torch.set_rng_state(state["global"][0].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["global"][1].cpu(), self.device)
        self.meter.load_state_dict(state["meter"])
        for key, value in state["progress"].items():
            setattr(self.at, key, value)


def _tensors(state: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts and lists, with its place."""
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, dict | list | tuple):
        for key, child in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(child, f"{path}.{key}" if path else str(key))


def fit(
    model: GenerativeModel,
    strategy: Strategy,
    data: Data,
    settings: Training,
    *,
    seed: int = 0,
    directory: Path | None = None,
    on_record: Callable[[list[dict[str, Any]]], None] | None = None,
    progress_bar: bool = True,
    config_hash: str | None = None,
) -> Progress:
    """Train ``model`` by ``strategy`` on ``data.train``: maximize (1/N) Σ_n L_n, nats per datum.

    Works in place. With a ``directory`` it writes checkpoints there and goes on from the one it finds.
    ``on_record`` receives all records whenever one is added. ``config_hash`` goes into the checkpoints, which
    are refused where it is another.

    Raises:
        NonFiniteError: a bound, a term or a parameter became NaN or infinite; names the step, the term and the
            last good checkpoint.
        InterruptedRun: SIGTERM or Ctrl-C, after the checkpoint was written.
        VemError: a checkpoint that is damaged or does not fit; a full disk.
    """
    return Loop(model, strategy, data, settings, seed, directory, on_record, progress_bar, config_hash).run()
