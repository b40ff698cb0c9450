"""Cautions where gaps, or test ELBOs, were not measured alike in all seeds and groups; the commands that mend it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vem.report.alike import OTHER_ROWS, bearing
from vem.report.estimates import GAPS
from vem.report.labels import MEASUREMENT
from vem.report.words import Row, listed, name, plural

SIZE = "evaluation.num_data"
MOST = 4  # settings that are told
Command = Callable[[str, str], str]  # of a run's directory and options, that measures it again
Settings = Mapping[str, Mapping[str, str]]


def measured_unlike(
    rows: Sequence[Row], base: Path, settings: Settings, beside: Mapping[str, str] | None = None
) -> list[str]:
    """A sentence for each reason; the others as in :class:`vem.report.cautions.Sources`."""

    def command(directory: str, options: str) -> str:
        of = (beside or {}).get(directory)  # a folder beside a run holds no model
        where = shlex.quote(_from_here(base / directory))
        return f"python -m vem.evaluate {shlex.quote(of) if of else where} {options}" + (
            f" --out {where}" if of else ""
        )

    return [
        *_partly(rows, command),
        *_elsewhere(rows, command, settings),
        *_budgets(rows, settings),
        *_unmeasured(rows, command),
    ]


def _partly(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """Gaps that some seeds of a group have, with the runs that lack them."""
    for row in rows:
        without, other = row.get("without_gaps") or [], row.get("other_gaps") or []
        of = f"The gaps of {name(row['label'])} are over {int(row.get('gap_seeds') or 0)} of {row['seeds']} seeds: they"
        if other:
            yield (f"{of} were measured by other settings in {', '.join(other)} (runs.csv, measurement), and gaps of "
                   "two budgets are two numbers.")  # fmt: skip
        if without:
            which = "it" if len(without) == 1 else "the first of them"
            yield (f"{of} were not measured in {', '.join(without)}. {command(without[0], 'evaluation=gaps')} "
                   f"measures {which}.")  # fmt: skip


def _budgets(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Groups whose gaps were measured by different settings, or of different data."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.get("gap_seeds"):
            left = {*(row.get("without_gaps") or ()), *(row.get("other_gaps") or ())}
            own = next((settings[d] for d in row["directories"] if d not in left and d in settings), {})
            of = dict(s.partition("=")[::2] for s in bearing(f"{k}={v}" for k, v in own.items()))
            found[row["label"]] = {k.removeprefix(MEASUREMENT): v for k, v in of.items()}
            found[row["label"]]["test data"] = f"{row.get('gap_rows') or 0:g}"
    keys = dict.fromkeys(key for own in found.values() for key in own)
    values = {key: dict.fromkeys(own.get(key, "not set") for own in found.values()) for key in keys}
    differ = [f"{key} {' | '.join(known)}" for key, known in values.items() if len(known) > 1]
    if differ:
        told = differ[:MOST] + ([f"and {len(differ) - MOST} more"] if len(differ) > MOST else [])
        yield (f"The gaps of {listed(list(found))} were not all measured alike ({'; '.join(told)}): a difference "
               "between them may be one of the measurement.")  # fmt: skip


def _elsewhere(rows: Sequence[Row], command: Command, settings: Settings) -> Iterator[str]:
    """Seeds that were measured again, on other test data than those of their table."""
    for row in rows:
        if other := row.get(OTHER_ROWS) or []:
            kept = row["seeds"] - len(other)
            here = [settings.get(d, {}).get(SIZE) for d in row["directories"] if d not in other]
            gauged = row.get("gap_seeds") and other[0] not in (row.get("without_gaps") or ())
            option = f"{'evaluation=gaps ' if gauged else ''}{SIZE}={here[0]}" if here else ""
            which = "it" if len(other) == 1 else "the first of them"
            how = f" {command(other[0], option)} measures {which} on those." if here and here[0] is not None else ""
            yield (f"The test ELBO of {name(row['label'])} is over {kept} of {row['seeds']} seeds: "
                   f"{', '.join(other)} had other test data than this table is about.{how}")  # fmt: skip


def _unmeasured(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """The command that would measure the gaps."""
    without = [
        row
        for row in rows
        if row["seeds"]
        and row["test_elbo_mean"] is not None
        and row.get("test_log_marginal_mean") is None
        and not row.get("gap_seeds")
        and all(row.get(f"{split}_{gap}_gap_mean") is None for split in ("test", "train") for gap in GAPS)
    ]
    if not without:
        return
    runs = [directory for row in without for directory in row["directories"]]
    rest = f", and likewise the other {len(runs) - 1}" if len(runs) > 1 else ""
    lose = "loses" if len(without) == 1 else "lose"
    yield (f"Where {listed([row['label'] for row in without])} {lose} is not measured. "
           f"{command(runs[0], 'evaluation=gaps')} measures the first of {plural(len(runs), 'run')}{rest}.".replace(
               "the first of 1 run", "it"))  # fmt: skip


def _from_here(path: Path) -> str:
    """The path as one would type it: relative where it lies below the working directory."""
    try:
        return path.relative_to(os.getcwd()).as_posix()
    except ValueError:
        return str(path)
