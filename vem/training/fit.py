"""The one training loop. It knows only the protocols: no strategy, model or family by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from vem.contracts import Batch, GenerativeModel, Strategy
from vem.data.dataset import Data
from vem.errors import VemError
from vem.evaluation.elbo import score, spread
from vem.noise import fill, generator
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.training.batches import batches_of, joins_lone_row
from vem.training.meter import NonFiniteError
from vem.training.settings import Training
from vem.training.signals import InterruptedRun, stop_requests
from vem.training.state import Progress, State

Record = Callable[[list[dict[str, Any]]], None]


def fit(
    model: GenerativeModel,
    strategy: Strategy,
    data: Data,
    settings: Training,
    *,
    seed: int = 0,
    directory: Path | None = None,
    on_record: Record | None = None,
    progress_bar: bool = True,
    config_hash: str | None = None,
) -> Progress:
    """Train ``model`` by ``strategy`` on ``data.train``: maximize (1/N) Σ_n L_n, nats per datum.

    Works in place. With a ``directory`` it writes checkpoints there and goes on from the one it finds. Everything
    random is keyed by (seed, purpose, epoch) or carried in the checkpoint, so that a run killed anywhere and resumed
    equals the uninterrupted run bit for bit. ``on_record`` receives all records whenever one is added.
    ``config_hash`` goes into the checkpoints, which are refused where it is another.

    Raises:
        NonFiniteError: a bound, a term or a parameter became NaN or infinite; names the step, the term and the
            last good checkpoint.
        InterruptedRun: SIGTERM or Ctrl-C, after the checkpoint was written.
        VemError: a checkpoint that is damaged or does not fit; a full disk.
    """
    loop = Loop(model, strategy, data, settings, seed, directory, config_hash)
    # vem draws from streams of its own; dropout in a user's network draws from torch's global one.
    with torch.random.fork_rng(devices=[loop.device] if loop.device.type == "cuda" else []):
        torch.manual_seed(generator("cpu", seed, "global").initial_seed())
        loop.resume()
        if not loop.at.finished:
            loop.run(on_record, progress_bar)
        if settings.keep == "best":
            loop.restore_best()
    return loop.at


class Loop(State):
    """Epochs, batches and records of one run; :func:`fit` sets it going."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        strategy, settings = self.strategy, self.settings
        if settings.keep == "best" and (self.directory is None or strategy.no_elbo is not None):
            why = strategy.no_elbo or "and fit() was given no directory to keep it in"
            raise VemError(f"training.keep=best goes by the validation ELBO, {why}: take training.keep=last.")
        training_set = self.data.training_set()
        strategy.setup(self.model, training_set, generator(self.device, self.seed, "setup"))
        self.joined = joins_lone_row(
            self.model, strategy, training_set.x, settings.batch_size, self.schedule, self.seed
        )
        self.batches = -(-self.num_data // settings.batch_size) - self.joined

    def run(self, on_record: Record | None, progress_bar: bool) -> None:
        """Train to the end: the epochs, in them the batches, and now and then a record.

        Raises:
            InterruptedRun: a signal asked for it; the checkpoint is written.
        """
        at, settings, strategy = self.at, self.settings, self.strategy
        hidden = None if progress_bar else True
        bar = tqdm(total=settings.epochs, initial=at.epoch, unit="epoch", leave=False, disable=hidden)
        with bar, stop_requests() as asked:
            while at.epoch < settings.epochs and not at.converged:
                shuffle = generator(self.device, self.seed, "shuffle", at.epoch)
                order = torch.randperm(self.num_data, generator=shuffle, device=self.device)
                x = self.data.train_x(at.epoch)
                started = time.perf_counter()
                for rows in batches_of(order, settings.batch_size, self.joined)[at.batch :]:
                    self._step(x, rows)
                    at.batch += 1
                    if asked.name and at.batch < self.batches:
                        self._count_seconds(started)
                        self.interrupt(asked.name)
                at.converged = strategy.end_epoch(self.model)
                at.epoch, at.batch = at.epoch + 1, 0
                self._count_seconds(started)
                last = at.epoch == settings.epochs or at.converged
                if last or settings.stop.tolerance is not None or at.epoch % settings.record_every == 0:
                    self._record(last, on_record)
                if asked.name and not last:
                    self.interrupt(asked.name)
                bar.update()
                if at.epoch_elbos:
                    bar.set_postfix_str(f"ELBO {at.epoch_elbos[-1]:.2f} nats/datum")
        at.finished = True
        self.save(CHECKPOINT)
        if asked.name:
            raise InterruptedRun(
                f"stopped by {asked.name} after the last epoch, before evaluation: start the same command with "
                "the same hydra.run.dir, or hydra.sweep.dir, to finish."
            )

    def _step(self, x: Tensor, rows: Tensor) -> None:
        at, settings, schedule = self.at, self.settings, self.schedule
        epoch = at.epoch + at.batch / self.batches
        schedule.rate.fill_(settings.schedule(epoch, settings.epochs))
        schedule.progress.fill_(epoch / settings.epochs)
        # Half a batch on: a weight of exactly zero would leave the first KL gradient out.
        schedule.kl_weight.fill_(settings.kl_weight(epoch + 0.5 / self.batches))
        noise = fill(self.strategy.noise(len(rows)), self.noise, self.dtype)
        info = self.strategy.step(self.model, Batch(x.index_select(0, rows), rows), noise, schedule)
        self.meter.add(info, len(rows))
        at.step += 1
        at.decoder_evaluations += info.decoder_evaluations
        at.decoder_gradients += info.decoder_gradients

    def _count_seconds(self, started: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.at.seconds += time.perf_counter() - started

    def _record(self, last: bool, on_record: Record | None) -> None:
        """One row for the steps since the last record, one for the validation data; a checkpoint if due."""
        at = self.at
        try:
            means = self.meter.flush(at.flushed + 1)
        except NonFiniteError as error:
            raise self.not_finite(str(error), error.step or at.step) from None
        self.check_parameters()
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
            if self.settings.keep == "best" and (at.best is None or valid["elbo"] > at.best):
                at.best = valid["elbo"]
                # The whole state of this moment: a best θ beside the last optimizer state would be no checkpoint.
                self.save(BEST_CHECKPOINT)
        if self.settings.stop.reached(self.settings.watched(at.records)):
            at.converged = True
        if on_record:
            on_record(at.records)
        if not last and time.monotonic() - self.saved_at >= self.settings.checkpoint_seconds:
            self.save(CHECKPOINT)

    def _valid_elbo(self) -> dict[str, float]:
        valid, num = self.data.valid, self.settings.valid_data
        if not num or self.strategy.no_elbo is not None:
            return {}
        scores = score(
            self.model, self.strategy, valid.x, spread(num, len(valid)), training_rows=False, draws=1, seed=self.seed,
            name="monitor",
        )  # fmt: skip
        terms = {"elbo": scores.elbo, "reconstruction": scores.reconstruction, "kl": scores.kl}
        return {name: float(v.mean()) for name, v in terms.items() if v is not None}
