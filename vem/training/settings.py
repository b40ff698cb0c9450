"""How long to train, in what batches, and what to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from vem.errors import VemError, at_least, choice, positive
from vem.training.schedules import RateSchedule

# A fall of this share of the level is float32's rounding of a mean.
ROUNDING = 1e-7


@dataclass(frozen=True)
class Stop:
    """Repeat until the ELBO converges: stop when the mean of what is ascended over the last ``window`` epochs exceeds
    that of the ``window`` epochs before by less than ``tolerance`` nats per datum.

    A fall by more than twice its standard error is no convergence, one within it is the noise of a plateau. The error
    is that of the difference of the two means, from the scatter of the epochs in each window; with ``window=1`` there
    is no scatter, and a fall by more than the tolerance is none.

    ``tolerance=None`` trains for the full number of epochs.
    """

    tolerance: float | None = None
    window: int = 5

    def __post_init__(self) -> None:
        at_least(self.window, 1, "window")

    def reached(self, values: Sequence[float]) -> bool:
        """Whether training may stop, given what was ascended in every epoch of one objective so far.

        >>> Stop(0.1, window=2).reached([-9.0, -5.0, -3.0, -3.0, -3.0, -2.95])
        True
        """
        gain = self._gain(values)
        return gain is not None and gain < (self.tolerance or 0.0) and not self.falls(values)

    def falls(self, values: Sequence[float]) -> bool:
        """Whether the last window lies below the one before by more than noise."""
        gain = self._gain(values)
        if gain is None or self.tolerance is None:
            return False
        before, last = values[-2 * self.window : -self.window], values[-self.window :]
        one = self.window == 1
        noise = self.tolerance if one else 2 * math.sqrt((variance(before) + variance(last)) / self.window)
        return -gain > max(noise, ROUNDING * abs(fmean(last)))

    def _gain(self, values: Sequence[float]) -> float | None:
        """From window to window; None where none was asked for, or the epochs are too few."""
        if self.tolerance is None or len(values) < 2 * self.window:
            return None
        return fmean(values[-self.window :]) - fmean(values[-2 * self.window : -self.window])


@dataclass(frozen=True)
class Training:
    """The ``training`` group of the config.

    About ``records`` rows are written to metrics.csv over the run, or one for each epoch with a stopping
    tolerance (each the mean over the epochs since the last, with the ELBO of ``valid_data`` validation data
    beside it); ``checkpoint_seconds`` is the least time
    between two checkpoints; ``keep=best`` ends with the state that had the best validation ELBO.

    Raises:
        VemError: a number out of range.
    """

    epochs: int
    batch_size: int
    rate: float
    schedule: RateSchedule
    stop: Stop = Stop()
    keep: str = "last"
    kl_warmup: float = 0.0
    records: int = 30
    valid_data: int = 500
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        at_least(self.epochs, 1, "epochs")
        at_least(self.batch_size, 1, "batch_size")
        at_least(self.records, 1, "records")
        at_least(self.valid_data, 0, "valid_data")
        at_least(self.kl_warmup, 0, "kl_warmup")
        at_least(self.checkpoint_seconds, 0, "checkpoint_seconds")
        positive(self.rate, "rate")
        choice(self.keep, ("last", "best"), "keep")
        if self.keep == "best" and not self.valid_data:
            raise VemError("training.keep=best goes by the validation ELBO: training.valid_data must be at least 1.")

    @property
    def record_every(self) -> int:
        """Epochs from one record to the next."""
        return -(-self.epochs // self.records)

    def kl_weight(self, epoch: float) -> float:
        """min(1, epoch / kl_warmup): the weight of the KL term, linear over the first epochs."""
        return min(1.0, epoch / self.kl_warmup) if self.kl_warmup else 1.0

    def objective(self, epoch: float) -> tuple[float, ...]:
        """What the schedules make of the objective at ``epoch``: where it is equal, one function is ascended.

        Every schedule that changes what is ascended belongs in here.
        """
        return (self.kl_weight(epoch),)

    def settled(self, epoch: int) -> bool:
        """Whether one objective is ascended from ``epoch`` to the next, at a rate that does not rise: no warm-up."""
        rate, later = (self.schedule(e, self.epochs) for e in (epoch, epoch + 1))
        return self.objective(epoch) == self.objective(epoch + 1) and later <= rate * (1 + 1e-9)

    def watched(self, records: Sequence[Mapping[str, Any]]) -> list[float]:
        """What was ascended in each of the last epochs, as many as the stopping rule reads, of one objective.

        ``records``: all of the run, one for each epoch. The column ``objective``, where there is one, else the ELBO.
        """
        found: list[float] = []
        name = None
        for row in reversed(records):
            if row["split"] == "train":
                name = name or ("objective" if "objective" in row else "elbo")
                if name not in row or not self.settled(row["epoch"] - 1) or len(found) == 2 * self.stop.window:
                    break
                found.append(row[name])
        return found[::-1]
