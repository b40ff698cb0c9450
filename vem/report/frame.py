"""One row for each run, with every number that its files hold."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vem.report.alike import OTHER_ROWS
from vem.report.comparable import data_names, evaluated_sets, headings
from vem.report.estimates import numbers
from vem.report.files import Evaluated, evaluated
from vem.report.gather import Gathered
from vem.report.groups import NAMED, seeds_of, trainings, variants, x_of
from vem.report.kin import rows_of_tables
from vem.report.quantities import COSTS, FACTS
from vem.report.runs import DONE, UNREADABLE, RunRecord
from vem.storage.records import SPLITS

IDENTITY = ("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "seed", "status")
MACHINE = ("device", "threads", "host", "commit")


@dataclass(frozen=True)
class Framed:
    """``rows``: one for each run. ``runs`` and ``evaluated``: what they were made from, by directory as shown.

    ``gathered``: what was found, with each seed of a group once.
    """

    rows: pd.DataFrame
    runs: Mapping[str, RunRecord]
    evaluated: Mapping[str, Evaluated]
    gathered: Gathered


def frame(gathered: Gathered) -> Framed:
    """The rows of :func:`vem.report.summary.summarize`."""
    found = {run.directory: evaluated(run) for run in gathered.runs}
    numbered = [_numbered(run) for run in gathered.runs]
    runs = [run for run, _ in numbered]
    placed = [run for run in runs if run.placed]
    places = _places(placed, [found[run.directory] for run in placed])
    gathered = _once_a_seed(replace(gathered, runs=tuple(runs)), places)
    runs = list(gathered.runs)
    values = {run.directory: own for run, own in numbered}
    rows = [
        _row(run, values[run.directory], gathered, found[run.directory], places.get(run.directory, Place()))
        for run in runs
    ]
    named = {gathered.relative(run.directory): run for run in runs}
    table = pd.DataFrame(rows, columns=None if rows else ["table", "variant", *IDENTITY, "directory"])
    return Framed(table, named, {name: found[run.directory] for name, run in named.items()}, gathered)


class Place(NamedTuple):
    """Where a run stands: its table, what tells its group from others, how it was measured, other than its kin, and
    whether on other test rows than those that the table is about.
    """

    table: str | None = None
    variant: str | None = None
    measurement: str | None = None
    other_rows: bool = False


def _places(runs: Sequence[RunRecord], found: Sequence[Evaluated]) -> dict[Path, Place]:
    names = data_names(runs)
    sets = evaluated_sets(names, runs, found)
    kept = sets
    if len(set(zip(names, sets, strict=True))) > len(set(names)):
        sizes = [sum(rows.counts.values()) for rows in found]
        kept = rows_of_tables(trainings(runs, names), sets, sizes, seeds_of(runs))
    tables = headings(names, kept, sets, found)
    aside = [bool(own.counts) and one != other for own, one, other in zip(found, kept, sets, strict=True)]
    rows = zip(runs, tables, variants(runs, tables), aside, strict=True)
    return {run.directory: Place(table, *both, other) for run, table, both, other in rows}


def _once_a_seed(gathered: Gathered, places: Mapping[Path, Place]) -> Gathered:
    """One finished run for each seed of a group, an evaluated one where there is one; the others repeat it.

    Their configs differ, for one was measured again with the settings of the other, but their numbers are about the
    same training: a mean over seeds must not count it twice.
    """
    first: dict[Any, RunRecord] = {}
    repeats = dict(gathered.repeats)
    for run in sorted(gathered.runs, key=lambda run: not run.evaluation):  # stable: else in order of appearance
        if run.status == DONE and run.placed and run.facts.get("seed") is not None:
            key = (*places[run.directory][:2], *(run.facts.get(name) for name in (*NAMED, "seed")))
            kept = first.setdefault(key, run)
            if kept is not run:
                again = (run, *repeats.pop(run.directory, ()))
                repeats[kept.directory] = (*repeats.get(kept.directory, ()), *again)
    again_there = {run.directory for same in repeats.values() for run in same}
    runs = tuple(run for run in gathered.runs if run.directory not in again_there)
    return replace(gathered, runs=runs, repeats=repeats)


def _numbered(run: RunRecord) -> tuple[RunRecord, dict[str, Any]]:
    """The run and its numbers, or why it has none: one file of another schema must not cost the other runs."""
    try:
        return run, numbers(run)
    except Exception as error:  # whatever such a file leads to
        text = f"{run.directory / 'evaluation.json'} is of another schema ({type(error).__name__}: {error})"
        bare = replace(run.saying(status=UNREADABLE, error=text), evaluation={}, settings=run.asked)
        return bare, numbers(bare)


def _row(
    run: RunRecord,
    values: Mapping[str, Any],
    gathered: Gathered,
    rows: Evaluated,
    place: Place,
) -> dict[str, Any]:
    facts = run.facts
    row: dict[str, Any] = {"table": place.table, "variant": place.variant}
    row |= {name: facts.get(name) for name in IDENTITY}
    row |= values
    row |= {name: facts.get(name) for name in (*COSTS, "converged", "num_parameters", "num_train")}
    row |= {FACTS["num_evaluated"].format(split): rows.counts.get(split) for split in SPLITS}
    row |= {FACTS["rows"].format(split): digest[:8] for split, digest in rows.digests.items()}
    row |= {FACTS["x"].format(split): digest for split, digest in x_of(run).items()}
    row["measurement"] = place.measurement or None
    row[OTHER_ROWS] = place.other_rows
    row |= {name: facts.get(name) for name in MACHINE}
    row["vem"] = facts.get("versions", {}).get("vem")
    row["config_hash"] = facts.get("config_hash")
    same = gathered.repeats.get(run.directory, ())
    row["repeated_in"] = shlex.join(gathered.relative(r.directory) for r in same) or None
    row["directory"] = gathered.relative(run.directory)
    row["evaluated"] = bool(run.evaluation)
    row["damaged"] = " | ".join(relative_damage(rows.damage, gathered.base)) or None
    row["notes"] = " | ".join(map(str, facts.get("notes") or [])) or None
    row["error"] = facts.get("error")
    return row


def relative_damage(damage: Sequence[str], base: Path) -> list[str]:
    """The sentences with paths as the report names them."""
    return [text.replace(f"{base}/", "") for text in damage]
