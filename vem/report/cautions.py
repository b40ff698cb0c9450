"""What cannot be concluded: one seed, failed checks, what was not measured or did not finish, unequal terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vem.report.comparable import TRAIN_SIZE
from vem.report.estimates import GENERALIZATION, MODEL_GENERALIZATION
from vem.report.findings import Axis
from vem.report.measured_unlike import measured_unlike
from vem.report.race import Race
from vem.report.runs import DONE, RUNNING
from vem.report.starts import unconverged
from vem.report.table import number
from vem.report.words import Row, listed, name, plural

UNEQUAL = 2.0  # times the compute
STEPS = "strategy.held_out.steps"
AT_WORK = (RUNNING, "stopped")  # what may yet give a result
MOST_PAIRS = 3  # whose compute is told


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


def cautions(rows: Sequence[Row], races: Sequence[Race], axes: Sequence[Axis], sources: Sources) -> list[str]:
    """A sentence for each reason to doubt, the weightiest first; ``races``: the whole table, then along an axis."""
    return [
        *_between(sources.progress),
        *_without_result(sources),
        *_undefined(rows),
        *_checks(rows),
        *_not_tested(rows),
        *unconverged(rows, sources.settings),
        *_one_seed(rows),
        *_correction(races[0]),
        *_lower_only(rows),
        *_other_models(rows),
        *_compute(races),
        *_held_out(rows, sources.settings),
        *_seeds(rows, races[0]),
        *_two_samples(rows),
        *_axes(axes),
        *measured_unlike(rows, sources.base, sources.settings, sources.beside),
    ]


def _between(progress: Mapping[str, int]) -> Iterator[str]:
    """A sweep that is not over."""
    running, later = progress.get("running", 0), progress.get("waiting", 0) + progress.get("stopped", 0)
    if running + later:
        parts = [f"{n} {what}" for n, what in ((running, "running"), (later, "not begun or stopped")) if n]
        have = "has" if running + later == 1 else "have"
        yield (f"{running + later} of {plural(sum(progress.values()), 'planned job')} {have} no result yet "
               f"({', '.join(parts)}). This is a state in between: the order may still change.")  # fmt: skip


def _without_result(sources: Sources) -> Iterator[str]:
    """Runs that gave no result: those at work, where no sweep tells of them, and those that will give none."""
    going = {label: n for label, found in sources.alone.items() if (n := _at_work(found))}
    ended = {label: sum(found.values()) - found.get(DONE, 0) for label, found in sources.states.items()}
    lost = {label: n for label in ended if (n := ended[label] - _at_work(sources.states[label]))}
    if going:
        are = "is" if sum(going.values()) == 1 else "are"
        yield (f"{plural(sum(going.values()), 'run')} of {listed(list(going))} {are} not finished yet: means are over "
               "the others, and the order may still change.")  # fmt: skip
    if lost:
        yield (f"{plural(sum(lost.values()), 'run')} of {listed(list(lost))} gave no result (failed, killed or "
               "damaged). Means are over those that finished; the others may have been the worse ones.")  # fmt: skip


def _at_work(found: Mapping[str, int]) -> int:
    return sum(found.get(state, 0) for state in AT_WORK)


def _undefined(rows: Sequence[Row]) -> Iterator[str]:
    missing = [row for row in rows if row["test_elbo_mean"] is None and row["seeds"]]
    reasons: dict[str, list[str]] = {}
    for row in missing:
        reasons.setdefault(str(row["test_elbo_reason"]), []).append(row["label"])
    for reason, who in reasons.items():
        have, are = ("has", "it is") if len(who) == 1 else ("have", "they are")
        yield f"{listed(who)} {have} no test ELBO ({reason}), so {are} not compared."
    if missing and len(missing) == len(rows):
        yield "No group has a test ELBO, so no strategy can be called the best."


def _one_seed(rows: Sequence[Row]) -> Iterator[str]:
    one = [row["label"] for row in rows if row["seeds"] == 1]
    if one:
        who = "Every group has" if not any(row["seeds"] > 1 for row in rows) and len(one) > 1 else f"{listed(one)}:"
        yield (f"{who} one seed alone. Intervals are then over test data: they do not tell how another seed would "
               "move the numbers, and it may change the order.")  # fmt: skip


def _seeds(rows: Sequence[Row], found: Race) -> Iterator[str]:
    many = [row for row in rows if row["seeds"] > 1]
    if many:
        data = many[0].get("num_data")
        on = f" of {plural(data, 'datum').replace('datums', 'data')}" if data else ""
        yield (f"Intervals over seeds tell how another seed would move the numbers on this test set{on}; "
               "intervals over data tell how other test data would.")  # fmt: skip
    counts = {row["seeds"] for row in rows if row["seeds"]}
    if len(counts) > 1:
        yield (f"The groups have unequal numbers of seeds ({min(counts)} to {max(counts)}): differences are over the "
               "seeds that both groups of a pair have.")  # fmt: skip
    elif len(set(found.seeds.values())) > 1:
        yield (f"{listed(list(found.seeds))} do not have the same seeds: each mean is over the group's own, a "
               "difference over the seeds that both have, so that it is not the difference of the means.")  # fmt: skip


def _correction(found: Race) -> Iterator[str]:
    """What “corrected” means, and what the table's intervals, which are not, would say."""
    if found.compared < 2:
        return
    alone = [label for label in found.having("open") if (found.leads[label].low or 0) > 0]
    yield (
        f"{plural(len(found.rows), 'group')} were compared, and the best was picked from the same test data. A "
        f"corrected interval allows for all {found.compared} leads that this answer judges (Bonferroni), one in the "
        "table for its pair alone."
        + (f" Without the correction the lead over {listed(alone)} would count." if alone else "")
    )


def _checks(rows: Sequence[Row]) -> Iterator[str]:
    failed: dict[str, list[str]] = {}
    for row in rows:
        if row.get("checks_failed"):
            failed.setdefault(row["checks_failed"], []).append(row["label"])
    for names, who in failed.items():
        yield (f"{listed(who)}: checks failed ({names}). The bounds and gaps measured there are in doubt; "
               "evaluation.json says what was found.")  # fmt: skip


def _not_tested(rows: Sequence[Row]) -> Iterator[str]:
    untested: dict[str, list[str]] = {}
    for row in rows:
        if row.get("not_tested"):
            untested.setdefault(row["not_tested"], []).append(row["label"])
    for what, who in untested.items():
        rest = " If it does not, every number here is off by as much." if what.startswith("whether") else ""
        yield f"{listed(who)}: not tested: {what}.{rest}"


def _lower_only(rows: Sequence[Row]) -> Iterator[str]:
    """Identification: what no number of seeds or data would mend."""
    if not any(row.get(f"{split}_inference_gap_at_least") for row in rows for split in ("test", "train")):
        return
    text = ("“At least”: log p(x) is known from below alone, so that approximation and inference gaps may be larger, "
            "and their intervals have a lower end alone.")  # fmt: skip
    widths, worst = (
        [row[key] for row in rows if row.get(key := f"test_log_marginal_simulated_{end}") is not None]
        for end in ("width", "worst")
    )
    if widths and worst:
        text += (f" On data made by the models themselves the bounds miss at most {number(max(widths), 3)} nats in the "
                 f"mean and {number(max(worst), 3)} for one datum.")  # fmt: skip
    yield text


def _other_models(rows: Sequence[Row]) -> Iterator[str]:
    known = [row for row in rows if row["test_elbo_mean"] is not None]
    sizes = {row["latent_dim"] for row in known} - {None}
    models = {row["model"] for row in known}
    differ = [key for key, found in (("model", models), ("latent_dim", sizes)) if len(found) > 1]
    if not differ and len({_decoder(row) for row in known}) > 1:
        differ = ["the number of parameters"]
    if differ:
        yield (f"Groups that differ in {' and '.join(differ)} have different models: a higher ELBO there may be a "
               "better model and not better inference, and decoder evaluations do not cost the same.")  # fmt: skip


def _compute(races: Sequence[Race]) -> Iterator[str]:
    """Unequal compute of the best and the next best, of the table and at each value of an axis."""
    pairs = {(r.best["label"], r.second["label"]): (r.best, r.second) for r in races if len(r.rows) > 1}
    unequal = [text for pair in pairs.values() if (text := _unequal(*pair)) is not None]
    if unequal:
        more = f"; and {len(unequal) - MOST_PAIRS} more pairs" if len(unequal) > MOST_PAIRS else ""
        yield (f"These pairs did not use equal compute: {'; '.join(unequal[:MOST_PAIRS])}{more}. The curves against "
               "seconds and decoder evaluations compare them at equal cost.")  # fmt: skip


def _decoder(row: Row) -> tuple[Any, ...]:
    return row["model"], row["latent_dim"], row.get("num_parameters")


def _unequal(best: Row, second: Row) -> str | None:
    """What the two spent, in decoder evaluations where they have one decoder, else in seconds."""
    costs = [("training_seconds", "seconds of training")]
    if _decoder(best) == _decoder(second):
        costs.insert(0, ("decoder_evaluations", "decoder evaluations"))
    for cost, unit in costs:
        one, other = best.get(f"{cost}_mean"), second.get(f"{cost}_mean")
        if one and other and max(one / other, other / one) > UNEQUAL:
            places = 0 if min(one, other) >= 10 else 2
            spent = number(one, places), number(other, places)
            return f"{name(best['label'])} {spent[0]} {unit}, {name(second['label'])} {spent[1]}"
    return None


def _held_out(rows: Sequence[Row], settings: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Strategies that search for q on test data too."""
    found: dict[str, list[str]] = {}
    for row in rows:
        steps = next((s for d in row["directories"] if (s := settings.get(d, {}).get(STEPS)) is not None), None)
        if steps is not None and row["test_elbo_mean"] is not None:
            found.setdefault(steps, []).append(row["label"])
    for steps, who in found.items():
        yield (f"The test ELBO of {listed(who)} includes {steps} ascent steps for each test datum ({STEPS}), which "
               "training seconds and decoder evaluations do not count.")  # fmt: skip


def _axes(axes: Sequence[Axis]) -> Iterator[str]:
    for axis in axes:
        if axis.together:
            yield (f"{axis.key} and {listed(axis.together)} changed together: which of them moved the numbers is not "
                   "known.")  # fmt: skip
        if axis.key == TRAIN_SIZE:
            yield ("Groups that differ in data.max_train are compared on the same test data; their training numbers "
                   "are each about training data of their own.")  # fmt: skip


def _two_samples(rows: Sequence[Row]) -> Iterator[str]:
    """What a comparison of held-out with training data cannot tell."""
    names = (GENERALIZATION, *MODEL_GENERALIZATION.values())
    if any(row.get(f"test_{kind}_mean") is not None for row in rows for kind in names):
        yield ("Training and test data are different samples. An interval over data allows for how they were drawn, "
               "not for a test set that is harder or easier by design.")  # fmt: skip
