"""How long to train, in what batches, and what to keep."""

from __future__ import annotations

from dataclasses import dataclass

from vem.errors import VemError, at_least, choice
from vem.training.schedules import RateSchedule


@dataclass(frozen=True)
class Stop:
    """Repeat until the ELBO converges: stop when the mean training ELBO over the last ``window`` epochs
    exceeds that of the ``window`` epochs before by less than ``tolerance`` nats per datum.

    ``tolerance=None`` trains for the full number of epochs.
    """

    tolerance: float | None = None
    window: int = 5

    def __post_init__(self) -> None:
        at_least(self.window, 1, "training.stop.window")

    def reached(self, elbos: list[float]) -> bool:
        """Whether training may stop, given the training ELBO of every epoch so far.

        >>> Stop(0.1, window=2).reached([-9.0, -5.0, -3.0, -3.0, -3.0, -2.95])
        True
        """
        if self.tolerance is None or len(elbos) < 2 * self.window:
            return False
        w = self.window
        return sum(elbos[-w:]) / w - sum(elbos[-2 * w : -w]) / w < self.tolerance


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
        at_least(self.epochs, 1, "training.epochs")
        at_least(self.batch_size, 1, "training.batch_size")
        at_least(self.records, 1, "training.records")
        at_least(self.valid_data, 0, "training.valid_data")
        at_least(self.kl_warmup, 0, "training.kl_warmup")
        at_least(self.checkpoint_seconds, 0, "training.checkpoint_seconds")
        if not self.rate > 0:
            raise VemError(f"training.rate={self.rate} must be positive.")
        choice(self.keep, ("last", "best"), "training.keep")
        if self.keep == "best" and not self.valid_data:
            raise VemError("training.keep=best goes by the validation ELBO: training.valid_data must be at least 1.")

    @property
    def record_every(self) -> int:
        """Epochs from one record to the next."""
        return -(-self.epochs // self.records)

    def kl_weight(self, epoch: float) -> float:
        """min(1, epoch / kl_warmup): the weight of the KL term, linear over the first epochs."""
        return min(1.0, epoch / self.kl_warmup) if self.kl_warmup else 1.0
