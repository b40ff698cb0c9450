"""What cannot be concluded: one seed, failed checks, what was not measured or did not finish, unequal terms."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from vem.report.comparable import TRAIN_SIZE
from vem.report.estimates import GAPS
from vem.report.findings import Axis
from vem.report.table import number
from vem.report.words import Row, listed, name, plural

UNEQUAL = 2.0  # times the compute


def cautions(rows: Sequence[Row], leaders: Sequence[Row], axes: Sequence[Axis], base: Path) -> list[str]:
    """A sentence for each reason to doubt; ``leaders``: the best and the next best."""
    return [
        *_undefined(rows),
        *_seeds(rows),
        *_checks(rows),
        *_lower_only(rows),
        *_other_models(rows),
        *_compute(leaders),
        *_axes(axes),
        *_unmeasured(rows, base),
        *_unfinished(rows),
    ]


def _undefined(rows: Sequence[Row]) -> Iterator[str]:
    missing = [row for row in rows if row["test_elbo_mean"] is None and row["seeds"]]
    for row in missing:
        yield f"{name(row['label'])} has no test ELBO ({row['test_elbo_reason']}), so it is not compared."
    if missing and len(missing) == len(rows):
        yield "No group has a test ELBO, so no strategy can be called the best."


def _seeds(rows: Sequence[Row]) -> Iterator[str]:
    one = [row["label"] for row in rows if row["seeds"] == 1]
    many = [row for row in rows if row["seeds"] > 1]
    if one:
        who = "Every group has" if not many and len(one) > 1 else f"{listed(one)}:"
        yield (f"{who} one seed alone. Intervals are then over test data: they do not tell how another seed would "
               "move the numbers, and it may change the order.")  # fmt: skip
    if many:
        data = many[0].get("num_data")
        on = f" of {plural(data, 'datum').replace('datums', 'data')}" if data else ""
        yield (f"Intervals over seeds tell how another seed would move the numbers on this test set{on}, not how "
               "other test data would.")  # fmt: skip
    counts = {row["seeds"] for row in rows if row["seeds"]}
    if len(counts) > 1:
        yield (f"The groups have unequal numbers of seeds ({min(counts)} to {max(counts)}): differences are over the "
               "seeds that both groups of a pair have.")  # fmt: skip


def _checks(rows: Sequence[Row]) -> Iterator[str]:
    failed: dict[str, list[str]] = {}
    for row in rows:
        if row.get("checks_failed"):
            failed.setdefault(row["checks_failed"], []).append(row["label"])
    for names, who in failed.items():
        yield (f"{listed(who)}: checks failed ({names}). The bounds and gaps measured there are in doubt; "
               "evaluation.json says what was found.")  # fmt: skip


def _lower_only(rows: Sequence[Row]) -> Iterator[str]:
    """Identification: what no number of seeds or data would mend."""
    if not any(row.get(f"{split}_inference_gap_at_least") for row in rows for split in ("test", "train")):
        return
    text = "“At least”: log p(x) is known from below alone, so that approximation and inference gaps may be larger."
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
    if differ:
        yield (f"Groups that differ in {' and '.join(differ)} have different models: a higher ELBO there may be a "
               "better model and not better inference.")  # fmt: skip


def _compute(leaders: Sequence[Row]) -> Iterator[str]:
    if len(leaders) < 2:
        return
    best, second = leaders
    for cost, unit in (("decoder_evaluations", "decoder evaluations"), ("training_seconds", "seconds of training")):
        one, other = best.get(f"{cost}_mean"), second.get(f"{cost}_mean")
        if one and other and max(one / other, other / one) > UNEQUAL:
            spent = f"{name(best['label'])} {number(one, 0)} {unit}, {name(second['label'])} {number(other, 0)}"
            curves = f"The curves against {unit.split(' of ')[0]} compare them at equal cost."
            yield f"The two did not use equal compute: {spent}. {curves}"
            return


def _axes(axes: Sequence[Axis]) -> Iterator[str]:
    for axis in axes:
        if axis.together:
            yield (f"{axis.key} and {listed(axis.together)} changed together: which of them moved the numbers is not "
                   "known.")  # fmt: skip
        if axis.key == TRAIN_SIZE:
            yield ("Groups that differ in data.max_train are compared on the same test data; their training numbers "
                   "are each about training data of their own.")  # fmt: skip


def _unmeasured(rows: Sequence[Row], base: Path) -> Iterator[str]:
    """The command that would measure the gaps."""
    without = [
        row
        for row in rows
        if row["seeds"]
        and row["test_elbo_mean"] is not None
        and row.get("test_log_marginal_mean") is None
        and all(row.get(f"{split}_{gap}_gap_mean") is None for split in ("test", "train") for gap in GAPS)
    ]
    if not without:
        return
    runs = [directory for row in without for directory in row["directories"]]
    first = shlex.quote(_from_here(base / runs[0]))
    rest = f", and likewise the other {len(runs) - 1}" if len(runs) > 1 else ""
    yield (f"Where {listed([row['label'] for row in without])} lose is not measured. python -m vem.evaluate {first} "
           f"evaluation=gaps measures the first of {plural(len(runs), 'run')}{rest}.".replace(
               "the first of 1 run", "it"))  # fmt: skip


def _from_here(path: Path) -> str:
    """The path as one would type it: relative where it lies below the working directory."""
    try:
        return path.relative_to(os.getcwd()).as_posix()
    except ValueError:
        return str(path)


def _unfinished(rows: Sequence[Row]) -> Iterator[str]:
    missing = {row["label"]: row["runs"] - row["seeds"] for row in rows if row["runs"] > row["seeds"]}
    if missing:
        yield (f"{plural(sum(missing.values()), 'run')} of {listed(list(missing))} gave no result: means are over the "
               "runs that finished, and those that failed may have been the worse ones.")  # fmt: skip
