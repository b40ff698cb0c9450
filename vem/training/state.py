"""What a run is made of while it trains: saved, restored, and looked through for numbers that are not finite."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vem.contracts import GenerativeModel, Schedule, Strategy
from vem.data.dataset import Data
from vem.errors import VemError
from vem.noise import generator
from vem.storage.records import BEST_CHECKPOINT, CHECKPOINT
from vem.training import checkpoint
from vem.training.meter import Meter, NonFiniteError
from vem.training.remedy import remedy
from vem.training.settings import Training
from vem.training.signals import InterruptedRun


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


class State:
    """Model, strategy, progress and random streams of one run; with a ``directory`` they are kept there."""

    def __init__(
        self,
        model: GenerativeModel,
        strategy: Strategy,
        data: Data,
        settings: Training,
        seed: int,
        directory: Path | None,
        config_hash: str | None,
    ) -> None:
        self.model, self.strategy, self.data, self.settings, self.seed = model, strategy, data, settings, seed
        self.directory, self.config_hash = directory, config_hash
        x = data.train.x
        self.device, self.dtype, self.num_data = x.device, x.dtype, len(data.train)
        self.noise = generator(self.device, seed, "noise")
        self.schedule = Schedule(x.new_ones(()), x.new_ones(()), x.new_zeros(()))
        self.meter = Meter()
        self.at = Progress()
        self.saved_at = time.monotonic()

    def save(self, name: str) -> None:
        """Write a checkpoint of that name, where there is a directory."""
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

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            VemError: it is damaged, of another model, strategy or config, or of another kind of device.
        """
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

    def restore_best(self) -> None:
        """Put model and strategy back to the best state."""
        if self.directory and (self.directory / BEST_CHECKPOINT).exists():
            path = self.directory / BEST_CHECKPOINT
            checkpoint.put(path, checkpoint.load(path, self.device, self.config_hash), self.model, self.strategy)

    def interrupt(self, name: str) -> None:
        """Save, and leave.

        Raises:
            InterruptedRun: always.
        """
        self.check_parameters()  # a state with NaN in it must not take the place of the last good one
        self.save(CHECKPOINT)
        where = f" in {self.directory}" if self.directory else ""
        raise InterruptedRun(
            f"stopped by {name} in epoch {self.at.epoch + 1}, step {self.at.step}; the checkpoint{where} is written: "
            "start the same command with the same hydra.run.dir, or hydra.sweep.dir, to go on."
        )

    def check_parameters(self) -> None:
        """Refuse a state with NaN in it.

        Raises:
            NonFiniteError: naming the first such tensor and the last good checkpoint.
        """
        state = {"model": self.model.state_dict(), "strategy": self.strategy.state_dict()}
        for name, tensor in _tensors(state, ""):
            # The extremes are NaN or infinite if any number is; nothing of the size of a λ table is made.
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            if not bool(torch.stack(tensor.aminmax()).isfinite().all()):
                step = self.at.step
                raise self.not_finite(f"step {step}: {name} became NaN or infinite", step)

    def not_finite(self, what: str, step: int) -> NonFiniteError:
        """The error for numbers that are not: what they are, and what may help."""
        helps = remedy(self.model, self.strategy, self.data.train.x, self.settings, step)
        return NonFiniteError(f"{what}; {self._last_good()} {helps}")

    def _last_good(self) -> str:
        path = self.directory / CHECKPOINT if self.directory else None
        if path and path.exists():
            return f"the last good checkpoint is {path} (epoch {checkpoint.load(path, 'cpu')['progress']['epoch']})."
        return "no checkpoint had been written yet."


def _tensors(state: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts and lists, with its place."""
    if isinstance(state, Tensor):
        yield path, state
    elif isinstance(state, dict | list | tuple):
        for key, child in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(child, f"{path}.{key}" if path else str(key))
