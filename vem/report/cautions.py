"""What cannot be concluded: the reasons to doubt as data, which templates/cautions.txt puts in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from vem.report.contenders import TEST
from vem.report.findings import Axis
from vem.report.groups import TRAIN_SIZE
from vem.report.kin import by
from vem.report.quantities import estimate, fact
from vem.report.ranking import Ranking, entered
from vem.report.runs import DONE, RUNNING
from vem.report.unlike import measured_unlike, unconverged
from vem.report.words import Row

UNEQUAL = 2.0  # times the compute
STEPS = "strategy.held_out.steps"
BETWEEN_SAMPLES = ("amortization_generalization", "model_generalization_best_elbo", "model_generalization_log_marginal")
AT_WORK = (RUNNING, "stopped")  # what may yet give a result


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
        for what, who in _by(rows, methodcaller("get", kind)).items():
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


def _by(rows: Sequence[Row], say: Callable[[Row], str | None]) -> dict[str, tuple[str, ...]]:
    """The labels of the groups by what is said of them; those of which nothing is said are left out."""
    found = by(map(say, rows), (row["label"] for row in rows))
    return {said: tuple(who) for said, who in found.items() if said}


def _without_result(sources: Sources) -> Iterator[Caution]:
    """A sweep that is not over; runs at work, where no sweep tells of them; and those that will give no result."""
    jobs = sources.progress
    running, later = jobs.get("running", 0), jobs.get("waiting", 0) + jobs.get("stopped", 0)
    if running + later:
        yield Caution("jobs_left", facts={"running": running, "later": later, "planned": sum(jobs.values())})
    lost = {state for found in sources.states.values() for state in found} - {DONE, *AT_WORK}
    for kind, states, looked_for in (("running", sources.alone, AT_WORK), ("no_result", sources.states, lost)):
        counts = {label: sum(found.get(state, 0) for state in looked_for) for label, found in states.items()}
        if any(counts.values()):
            yield Caution(kind, tuple(label for label, n in counts.items() if n), {"runs": sum(counts.values())})


def _bounds(rows: Sequence[Row]) -> Iterator[Caution]:
    """Identification: what no number of seeds or data would mend."""
    if any(estimate(row, split, "inference_gap").one_sided for row in rows for split in (TEST, "train")):
        widths = {end: [fact(row, TEST, f"simulated_{end}") or 0.0 for row in rows] for end in ("width", "worst")}
        yield Caution("from_below", facts={end: max(found) or None for end, found in widths.items()})


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
