"""Why the best leads, what each group loses, what cannot be concluded: as data, which sentences.py puts in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vem.report.alike import having, measured_alike, same_data
from vem.report.contenders import TEST, Rivals
from vem.report.findings import Axis
from vem.report.groups import TRAIN_SIZE
from vem.report.intervals import AGREE, LEVEL, OF_DATUM, Difference, Scores, paired, read_data, values_of
from vem.report.quantities import GAPS, elbo_order, estimate, fact, gaps_of
from vem.report.ranking import Ranking, entered
from vem.report.runs import DONE, RUNNING
from vem.report.unlike import measured_unlike, unconverged
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


# --- what cannot be concluded


@dataclass(frozen=True)
class Caution:
    """A reason to doubt: its ``kind``, the groups that it is about, and its numbers."""

    kind: str
    labels: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """What the cautions need beside the numbers.

    ``base``: the folder that directories are relative to. ``settings``: of each run, by its directory. ``states``: by
    label, how many runs are done, running, failed, …; ``alone``: the same of runs that no sweep planned. ``progress``:
    of the planned jobs of this table, as in :class:`vem.report.findings.Findings`. ``beside``: by directory of a
    measurement beside a run, that run.
    """

    base: Path
    settings: Mapping[str, Mapping[str, str]]
    states: Mapping[str, Mapping[str, int]]
    alone: Mapping[str, Mapping[str, int]]
    progress: Mapping[str, int]
    beside: Mapping[str, str]


def cautions(
    rows: Sequence[Row], found: Sequence[Ranking], axes: Sequence[Axis], sources: Sources
) -> Iterator[Caution]:
    """One for each reason to doubt, the weightiest first; ``found``: the whole table, then along an axis."""
    whole = found[0]
    yield from _without_result(sources)
    no_elbo = [row for row in rows if estimate(row, TEST, "elbo").mean is None and row["seeds"]]
    for reason, who in _by(no_elbo, lambda row: estimate(row, TEST, "elbo").reason).items():
        yield Caution("no_elbo", who, {"reason": reason})
    if no_elbo and len(no_elbo) == len(rows):
        yield Caution("no_elbo_at_all")
    for kind in ("checks_failed", "not_tested"):
        for what, who in _by(rows, lambda row, kind=kind: row.get(kind)).items():
            yield Caution(kind, who, {"what": what})
    yield from (Caution("remark", facts={"text": text}) for text in unconverged(rows, sources.settings))
    if one := tuple(row["label"] for row in rows if row["seeds"] == 1):
        every = len(one) > 1 and all(row["seeds"] <= 1 for row in rows)
        yield Caution("one_seed", one, {"every": every})
    if whole.compared > 1:
        alone = tuple(label for label in whole.having("open") if (whole.leads[label].low or 0) > 0)
        yield Caution("correction", alone, {"groups": len(whole.rows), "leads": whole.compared})
    yield from _bounds(rows)
    yield from _unequal(rows, found)
    for steps, who in _by(rows, lambda row: _ascent(row, sources.settings)).items():
        yield Caution("held_out_steps", who, {"steps": steps, "key": STEPS})
    yield from _seeds(rows, whole)
    if any(estimate(row, TEST, name).mean is not None for row in rows for name in BETWEEN_SAMPLES):
        yield Caution("two_samples")
    for axis in axes:
        if axis.together:
            yield Caution("changed_together", facts={"key": axis.key, "others": axis.together})
        if axis.key == TRAIN_SIZE:
            yield Caution("train_size")
    unlike = measured_unlike(rows, sources.base, sources.settings, sources.beside)
    yield from (Caution("remark", facts={"text": text}) for text in unlike)


def _by(rows: Sequence[Row], key: Any) -> dict[str, tuple[str, ...]]:
    """The labels of the groups by what is said of them; those of which nothing is said are left out."""
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if said := key(row):
            found[said] = (*found.get(said, ()), row["label"])
    return found


def _without_result(sources: Sources) -> Iterator[Caution]:
    """A sweep that is not over; runs at work, where no sweep tells of them; and those that will give no result."""
    jobs = sources.progress
    running, later = jobs.get("running", 0), jobs.get("waiting", 0) + jobs.get("stopped", 0)
    if running + later:
        yield Caution("jobs_left", facts={"running": running, "later": later, "planned": sum(jobs.values())})
    going = {label: n for label, found in sources.alone.items() if (n := _at_work(found))}
    if going:
        yield Caution("running", tuple(going), {"runs": sum(going.values())})
    lost = {label: sum(found.values()) - found.get(DONE, 0) - _at_work(found)
            for label, found in sources.states.items()}  # fmt: skip
    if any(lost.values()):
        yield Caution("no_result", tuple(label for label, n in lost.items() if n), {"runs": sum(lost.values())})


def _at_work(found: Mapping[str, int]) -> int:
    return sum(found.get(state, 0) for state in AT_WORK)


def _bounds(rows: Sequence[Row]) -> Iterator[Caution]:
    """Identification: what no number of seeds or data would mend."""
    if any(estimate(row, split, "inference_gap").one_sided for row in rows for split in (TEST, "train")):
        widths = {end: [fact(row, TEST, f"simulated_{end}") for row in rows] for end in ("width", "worst")}
        known = {end: [n for n in found if n is not None] for end, found in widths.items()}
        yield Caution("from_below", facts={end: max(found, default=None) for end, found in known.items()})


def _unequal(rows: Sequence[Row], found: Sequence[Ranking]) -> Iterator[Caution]:
    """Models that differ; and unequal compute of the best and the next best, of the table and along an axis."""
    known = entered(rows)
    differ = [key for key in ("model", "latent_dim") if len({row[key] for row in known} - {None}) > 1]
    if not differ and len({_decoder(row) for row in known}) > 1:
        differ = ["the number of parameters"]
    if differ:
        yield Caution("other_models", facts={"keys": differ})
    pairs = {(r.best["label"], r.second["label"]): (r.best, r.second) for r in found if len(r.rows) > 1}
    unequal = [spent for pair in pairs.values() if (spent := _spent(*pair)) is not None]
    if unequal:
        yield Caution("compute", facts={"pairs": unequal})


def _decoder(row: Row) -> tuple[Any, ...]:
    return row["model"], row["latent_dim"], row.get("num_parameters")


class Spent(NamedTuple):
    """What two groups spent, in decoder evaluations where they have one decoder, else in seconds of training."""

    best: str
    rival: str
    unit: str
    own: float
    other: float


def _spent(best: Row, second: Row) -> Spent | None:
    costs = {"decoder_evaluations": "decoder evaluations"} if _decoder(best) == _decoder(second) else {}
    for cost, unit in (costs | {"training_seconds": "seconds of training"}).items():
        one, other = (estimate(row, None, cost).mean for row in (best, second))
        if one and other and max(one / other, other / one) > UNEQUAL:
            return Spent(best["label"], second["label"], unit, one, other)
    return None


def _ascent(row: Row, settings: Mapping[str, Mapping[str, str]]) -> str | None:
    """The steps of a strategy that searches for q on test data too."""
    steps = (steps for d in row["directories"] if (steps := settings.get(d, {}).get(STEPS)) is not None)
    return next(steps, None) if estimate(row, TEST, "elbo").mean is not None else None


def _seeds(rows: Sequence[Row], whole: Ranking) -> Iterator[Caution]:
    many = [row for row in rows if row["seeds"] > 1]
    if many:
        yield Caution("over_seeds", facts={"num_data": many[0].get("num_data")})
    counts = {row["seeds"] for row in rows if row["seeds"]}
    if len(counts) > 1:
        yield Caution("unequal_seeds", facts={"fewest": min(counts), "most": max(counts)})
    elif len(set(whole.seeds.values())) > 1:
        yield Caution("other_seeds", tuple(whole.seeds))
