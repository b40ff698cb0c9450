"""How much to measure when training is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vem.ascent.best import BestSettings
from vem.contracts import Family
from vem.errors import VemError, at_least, choice
from vem.evaluation.bounds.annealing_path import Annealing
from vem.evaluation.checks import Thresholds
from vem.storage.records import SPLITS


class _Part:
    """A part of the settings whose numbers, where they are given, are at least 1.

    Raises:
        VemError: one is below 1.
    """

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                at_least(value, 1, name)


@dataclass(frozen=True)
class Importance(_Part):
    """The importance-weighted bound: ``samples`` draws of q* for each data point."""

    samples: int = 5000


@dataclass(frozen=True)
class Prior(_Part):
    """Naive Monte Carlo: ``samples`` draws of the prior for each data point, shown with its effective sample size."""

    samples: int = 5000


@dataclass(frozen=True)
class SimulatedData(_Part):
    """Bidirectional Monte Carlo on ``num_data`` data simulated from the model."""

    num_data: int = 200


@dataclass(frozen=True)
class Diagnostics(_Part):
    """Active units, KL per dimension and ELBO surgery over ``num_data`` data of a split (None: all of them)."""

    points: int = 1000
    num_data: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """The ``evaluation`` group of the config.

    Up to ``num_data`` data of each split, spread evenly over it, are scored with ``draws`` draws of q each; 0 measures
    nothing. In the ``splits`` more is measured, of ``gap_data`` of these data (None: of all), but for what is None:

    - ``best``: the best q of the strategy's own family, and of every further one in ``families``;
    - ``annealing``: log p(x) where it is neither exact nor, for H ≤ 2, a quadrature;
    - ``importance``, ``prior``: two further lower bounds, shown beside it;
    - ``simulated``: how wide the interval is on data that the model made;
    - ``diagnostics``: what the latent code holds.

    ``strict``: a failed check is an error. ``checks``: when a check fails.

    Raises:
        VemError: a number out of range, or a part that needs another one.
    """

    num_data: int = 10_000
    draws: int = 10
    splits: Sequence[str] = SPLITS
    gap_data: int | None = None
    best: BestSettings | None = None
    families: Mapping[str, Callable[[int], Family]] = field(default_factory=dict)
    annealing: Annealing | None = None
    importance: Importance | None = None
    prior: Prior | None = None
    simulated: SimulatedData | None = None
    diagnostics: Diagnostics | None = None
    checks: Thresholds = field(default_factory=Thresholds)
    strict: bool = False

    def __post_init__(self) -> None:
        at_least(self.num_data, 0, "num_data")
        at_least(self.draws, 1, "draws")
        if self.gap_data is not None:
            at_least(self.gap_data, 1, "gap_data")
        for name in self.splits:
            choice(name, SPLITS, "splits")
        if self.simulated is not None and self.annealing is None:
            raise VemError("evaluation.simulated needs evaluation.annealing: it measures how wide that interval is.")
        if self.gap_data is not None and not self.long:
            raise VemError(
                f"evaluation.gap_data={self.gap_data} says of how many data the gaps are, and this evaluation measures "
                "none: take evaluation=brief or evaluation=gaps, or leave it null."
            )
        needs_best = {
            "evaluation.importance": self.importance is not None,
            "evaluation.annealing.start=best": self.annealing is not None and self.annealing.start == "best",
            "evaluation.families": bool(self.families),
        }
        for name, needed in needs_best.items():
            if needed and self.best is None:
                raise VemError(f"{name} needs the best q, and evaluation.best is null: set evaluation/best=default.")

    @property
    def long(self) -> bool:
        """Whether more is measured than the ELBO: work that is kept piece by piece and can go on."""
        return any(part is not None for part in (self.best, self.annealing, self.prior))

    def of(self, split: str) -> Evaluation:
        """What is measured of one split: of those that are not named in ``splits``, the ELBO alone."""
        if split in self.splits:
            return self
        return replace(
            self, best=None, families={}, annealing=None, importance=None, prior=None, simulated=None,
            diagnostics=None, gap_data=None,
        )  # fmt: skip
