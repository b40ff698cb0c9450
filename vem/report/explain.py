"""Why the best leads, and what each group loses: as data, which sentences.py puts in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vem.report.alike import having, measured_alike, same_data
from vem.report.contenders import TEST, Rivals
from vem.report.intervals import AGREE, LEVEL, OF_DATUM, Difference, Scores, paired, read_data, values_of
from vem.report.quantities import GAPS, elbo_order, estimate, gaps_of
from vem.report.ranking import Ranking
from vem.report.runs import RUNNING
from vem.report.words import EXACT, Row, failed_on, trusted

UNEQUAL = 2.0  # times the compute
STEPS = "strategy.held_out.steps"
BETWEEN_SAMPLES = ("amortization_generalization", "model_generalization_best_elbo", "model_generalization_log_marginal")
AT_WORK = (RUNNING, "stopped")  # what may yet give a result


# --- why the best leads


@dataclass(frozen=True)
class Lead:
    """ΔELBO = Δ log p(x) − Δ inference gap: the best group less the next best, paired.

    ``sides``: whether the numbers of the first, of the second, are lower bounds while those of the other are exact, so
    that a difference is limited from one side. ``loose``: both come from lower bounds, whose looseness may differ.
    """

    best: str
    rival: str
    gap: Difference
    marginal: Difference
    sides: tuple[bool, bool]
    loose: bool
    strategies: bool  # whether the two are different strategies

    @property
    def reaches_other_data(self) -> bool:
        """Whether no direction that is shown is one of these data alone."""
        return all(map(_on_other_data, (self.gap, self.marginal)))

    def limit(self, difference: Difference) -> str:
        """Whether a difference is ``at least`` or ``at most`` the size that is shown; empty where it is neither."""
        if not any(self.sides) or difference.mean is None:
            return ""
        return "at least" if self.sides[0] == (difference.mean > 0) else "at most"


def lead(ranking: Ranking, rivals: Rivals, base: Path) -> Lead | None:
    """Why the first of a ranking leads the second; None where their gaps or log p(x) are not known."""
    if len(ranking.rows) < 2:
        return None
    leaders = ranking.best, ranking.second
    gap, marginal = (_between(leaders, rivals, base, name) for name in ("inference_gap", "log_marginal_lower"))
    if gap is None or marginal is None or gap.mean is None or marginal.mean is None:
        return None
    first, second = map(_from_below, leaders)
    one_sided = first != second and all(trusted(row, TEST) for row in leaders)
    sides = (first, second) if one_sided else (False, False)
    strategies = leaders[0]["strategy"] != leaders[1]["strategy"]
    labels = leaders[0]["label"], leaders[1]["label"]
    return Lead(*labels, gap, marginal, sides, (first or second) and not one_sided, strategies)


def _from_below(row: Row) -> bool:
    """Whether log p(x) is known from below alone, or lies between two bounds of which this is the lower one."""
    lower, upper = estimate(row, TEST, "log_marginal_lower"), estimate(row, TEST, "log_marginal_upper").mean
    return lower.one_sided or (lower.mean is not None and upper is not None and upper - lower.mean > EXACT)


def _on_other_data(d: Difference) -> bool:
    """Whether a difference over seeds, where it shows a direction, is not one of these data alone."""
    if d.over == "data" or d.low is None or d.high is None or d.low <= 0 <= d.high:
        return True
    data = d.data_interval(LEVEL)
    return data is not None and not data[0] <= 0 <= data[1]


def _between(leaders: Sequence[Row], rivals: Rivals, base: Path, quantity: str) -> Difference | None:
    """The paired difference of another number than the ELBO, as :func:`paired` has it."""
    if any(estimate(row, TEST, quantity).mean is None for row in leaders):
        return None
    kept = []
    for row in leaders:
        runs = rivals.rows[row["label"]]
        alike = having(measured_alike(list(runs.values())), TEST, quantity)
        known = {seed: run for seed, run in runs.items() if estimate(run, TEST, quantity).mean is not None}
        kept.append({seed: run for seed, run in known.items() if run in alike})
    common = {seed for seed in kept[0].keys() & kept[1].keys() if same_data(TEST, kept[0][seed], kept[1][seed])}
    own, against = ({seed: _scores(of[seed], rivals, base, quantity) for seed in common} for of in kept)
    return paired(own, against)


def _scores(run: Row, rivals: Rivals, base: Path, quantity: str) -> Scores:
    """A number of one run, and that of each data point where the file has it and agrees."""
    mean = estimate(run, TEST, quantity).mean
    file = {} if run["directory"] in rivals.refused else read_data(base / run["directory"])
    found = values_of(file, TEST, OF_DATUM.get(quantity, (quantity,)))
    if mean is None or found is None or not np.isclose(found[1].mean(), mean, rtol=AGREE, atol=EXACT):
        return Scores(mean)
    return Scores(mean, *found)


# --- what each group loses


@dataclass(frozen=True)
class Number:
    """A mean in nats per data point, its 95 % interval over seeds (over the data of one seed), and that over data.

    ``at_least``: a lower bound, of whose intervals the lower ends alone limit it. ``most``: where log p(x) lies between
    two bounds, what the mean could be at most.
    """

    mean: float
    ends: tuple[float, float] | None
    data: tuple[float, float] | None
    seeds: int
    at_least: bool = False
    most: float | None = None

    @property
    def positive(self) -> bool:
        return self.ends is not None and self.ends[0] > 0

    @property
    def negative(self) -> bool:
        """Whether the measured mean lies below zero beyond its error, whatever it limits."""
        return self.ends is not None and self.ends[1] < 0

    @property
    def on_other_data(self) -> bool:
        """Whether it is positive beyond these data too."""
        return self.positive and self.data is not None and self.data[0] > 0

    def __neg__(self) -> Number:
        ends, data = (e and (-e[1], -e[0]) for e in (self.ends, self.data))
        return Number(-self.mean, ends, data, self.seeds)


@dataclass(frozen=True)
class Loss:
    """What a group loses of log p(x) on one split: its inference gap, and its parts by the name of the gap.

    ``kind``: ``none`` (the gap is below 0.001 nats), ``posterior`` (q is known to be the exact posterior), ``exact``
    (the gap to an exact log p(x), without a search for the best q), ``gaps`` (divided into its parts) or ``undivided``
    (the search for the best q failed its check ``converged``). ``generalization``: how much larger the amortization
    gap is on test data than on training data; ``overfit``: how much higher on training data ``overfit_in`` is,
    ``log_marginal`` or ``best_elbo``.
    """

    row: Row
    kind: str
    split: str
    gap: Number
    parts: Mapping[str, Number] = field(default_factory=dict)
    generalization: Number | None = None
    overfit: Number | None = None
    overfit_in: str = ""

    @property
    def label(self) -> str:
        return str(self.row["label"])


def losses(rows: Sequence[Row]) -> list[Loss]:
    """Of each group whose gaps were measured, the best test ELBO first."""
    return [found for row in sorted(rows, key=elbo_order) if (found := _loss(row)) is not None]


def _number(row: Row, split: str, quantity: str, sound: bool = True) -> Number | None:
    """A number of a group; ``sound``: whether the bounds on log p(x) that limit it passed their checks.

    Where they did not, it is no limit, and its error is that of any mean, alike to both sides.
    """
    found = estimate(row, split, quantity)
    if (mean := found.mean) is None:
        return None
    ends, data = (
        None
        if low is None or (high is None and not found.one_sided)
        else (low, 2 * mean - low if high is None else high)
        for low, high in ((found.low, found.high), (found.data_low, found.data_high))
    )
    most = found.identified_high
    most = most if sound and most is not None and most > mean + EXACT else None
    return Number(mean, ends, data, found.over or int(row["seeds"]), found.one_sided and sound, most)


def _loss(row: Row) -> Loss | None:
    split = next((split for split in (TEST, "train") if "inference" in gaps_of(row, split)), TEST)
    numbers = {kind: _number(row, split, name, trusted(row, split)) for kind, name in GAPS.items()}
    parts = {kind: number for kind, number in numbers.items() if number is not None}
    gap = parts.pop("inference", None)
    generalization = None
    if gap is None:
        elbo, marginal = (estimate(row, TEST, name).mean for name in ("elbo", "log_marginal"))
        if elbo is None or marginal is None:
            return None
        gap = _number(row, TEST, "exact_loss") or Number(marginal - elbo, None, None, row["seeds"])
        kind = "posterior" if abs(marginal - elbo) < EXACT else "exact"
    elif not gap.at_least and max(map(abs, (gap.mean, *(gap.ends or ())))) < EXACT:
        kind = "none"
    elif "converged" in failed_on(row, split):
        kind = "undivided"
    else:
        kind = "gaps"
        if "converged" not in failed_on(row, "train"):
            generalization = _number(row, TEST, "amortization_generalization")
    return Loss(row, kind, split, gap, parts if kind == "gaps" else {}, generalization, *_overfit(row))


def _overfit(row: Row) -> tuple[Number | None, str]:
    """Of the model: log p(x) on training data less that on test data where it is exact, else L[q*]."""
    exact = estimate(row, TEST, "model_generalization_log_marginal")
    least, most = exact.identified_low, exact.identified_high
    if least is not None and most is not None and most - least <= EXACT:
        return _number(row, TEST, "model_generalization_log_marginal"), "log_marginal"
    if "converged" in failed_on(row, "train") | failed_on(row, TEST):  # of bounds, each is loose by its own amount
        return None, ""
    return _number(row, TEST, "model_generalization_best_elbo"), "best_elbo"
