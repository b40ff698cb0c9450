"""Cautions where seeds or groups were not measured alike, or other code made them; the commands that mend it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vem.report.alike import OTHER_ROWS, bearing
from vem.report.groups import differing_code
from vem.report.kin import values_of
from vem.report.labels import whole
from vem.report.quantities import estimate, gaps_of
from vem.report.runs import RunRecord
from vem.report.words import Row, listed, name, named, plural

SIZE = "evaluation.num_data"
MOST = 4  # settings that are told
AGAIN = "rerun=stale runs the old ones again."
Command = Callable[[str, str], str]  # of a run's directory and options, that measures it again
Settings = Mapping[str, Mapping[str, str]]


def about_code(groups: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """A sentence for each group, by label, whose seeds different code made, and one on what differs between groups."""
    out = []
    within = {label: found for label, runs in groups.items() if (found := differing_code(runs))}
    for label, found in within.items():
        versions = next(iter(found.values())).values()
        seeds = [", ".join(str(whole(run.facts.get("seed"))) for run in made) for made in versions]
        out.append(f"The seeds of {name(label)} were made by different code ({' | '.join(seeds)}): "
                   f"{listed(list(found))} changed in between. Their mean is over all of it; {AGAIN}")  # fmt: skip
    told = {what for found in within.values() for what in found}
    rest = [what for what in differing_code(run for runs in groups.values() for run in runs) if what not in told]
    if rest:
        out.append(f"The groups of this table were made by different code: {listed(rest)} changed in between, so that "
                   f"a lead may be the code's; {AGAIN}")  # fmt: skip
    return out


def measured_unlike(
    rows: Sequence[Row], base: Path, settings: Settings, beside: Mapping[str, str] | None = None
) -> list[str]:
    """A sentence for each reason; the others as in :class:`vem.report.explain.Sources`."""

    def command(directory: str, options: str) -> str:
        of = (beside or {}).get(directory)  # a folder beside a run holds no model
        where = base / directory
        if where.is_relative_to(os.getcwd()):  # as one would type it
            where = where.relative_to(os.getcwd())
        place = shlex.quote(where.as_posix())
        run, out = (shlex.quote(of), f" --out {place}") if of else (place, "")
        return f"python -m vem.evaluate {run} {options}{out}"

    return [*_partly(rows, command), *_elsewhere(rows, command, settings), *_budgets(rows, settings),
            *_unmeasured(rows, command)]  # fmt: skip


def _partly(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """Gaps that some seeds of a group have, with the runs that lack them."""
    for row in rows:
        without, other = row.get("without_gaps") or [], row.get("other_gaps") or []
        of = f"The gaps of {name(row['label'])} are over {int(row.get('gap_seeds') or 0)} of {row['seeds']} seeds: they"
        if other:
            yield (f"{of} were measured by other settings in {', '.join(other)} (runs.csv, measurement), and gaps of "
                   "two budgets are two numbers.")  # fmt: skip
        if without:
            yield (f"{of} were not measured in {', '.join(without)}. {command(without[0], 'evaluation=gaps')} "
                   f"measures {_which(without)}.")  # fmt: skip


def _which(runs: Sequence[str]) -> str:
    return "it" if len(runs) == 1 else "the first of them"


def _budgets(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Groups whose gaps were measured by different settings, or of different data."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.get("gap_seeds"):
            left = {*(row.get("without_gaps") or ()), *(row.get("other_gaps") or ())}
            own = next((settings[d] for d in row["directories"] if d not in left and d in settings), {})
            found[row["label"]] = bearing(own) | {"test data": f"{row.get('gap_rows') or 0:g}"}
    differ = [f"{key} {' | '.join('not set' if v is None else v for v in values)}"
              for key, values in values_of(list(found.values())).items() if len(values) > 1]  # fmt: skip
    if differ:
        yield (f"The gaps of {listed(list(found))} were not all measured alike ({named(differ, MOST)}): a difference "
               "between them may be one of the measurement.")  # fmt: skip


def _elsewhere(rows: Sequence[Row], command: Command, settings: Settings) -> Iterator[str]:
    """Seeds that were measured again, on other test data than those of their table."""
    for row in rows:
        if other := row.get(OTHER_ROWS) or []:
            here = next((settings.get(d, {}).get(SIZE) for d in row["directories"] if d not in other), None)
            gauged = row.get("gap_seeds") and other[0] not in (row.get("without_gaps") or ())
            option = f"{'evaluation=gaps ' if gauged else ''}{SIZE}={here}"
            how = "" if here is None else f" {command(other[0], option)} measures {_which(other)} on those."
            kept = row["seeds"] - len(other)
            yield (f"The test ELBO of {name(row['label'])} is over {kept} of {row['seeds']} seeds: "
                   f"{', '.join(other)} had other test data than this table is about.{how}")  # fmt: skip


def _unmeasured(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """The command that would measure the gaps."""
    known = [
        [estimate(row, "test", quantity).mean is not None for quantity in ("elbo", "log_marginal")] for row in rows
    ]
    without = [row for row, own in zip(rows, known, strict=True) if row["seeds"] and own == [True, False]
               and not (row.get("gap_seeds") or gaps_of(row, "test") or gaps_of(row, "train"))]  # fmt: skip
    runs = [directory for row in without for directory in row["directories"]]
    if runs:
        rest = f", and likewise the other {len(runs) - 1}" if len(runs) > 1 else ""
        which = f"the first of {plural(len(runs), 'run')}" if len(runs) > 1 else "it"
        lose = "loses" if len(without) == 1 else "lose"
        yield (f"Where {listed([row['label'] for row in without])} {lose} is not measured. "
               f"{command(runs[0], 'evaluation=gaps')} measures {which}{rest}.")  # fmt: skip
