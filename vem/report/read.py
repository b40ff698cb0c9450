"""From run directories to what the report says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from vem.report.axes import axes_of
from vem.report.comparable import apart, other_rows
from vem.report.contenders import (
    Rivals,
    check_baseline,
    chosen_baseline,
    contenders,
    grouped,
    left_out,
    measured_again,
    with_differences,
)
from vem.report.explain import Caution, Sources
from vem.report.findings import Findings, Table
from vem.report.frame import Framed, frame, relative_damage
from vem.report.gather import Gathered, gather, progress, unfinished
from vem.report.intervals import with_data_errors
from vem.report.planned import jobs_of, states, with_planned
from vem.report.provenance import provenance, rebuild_command
from vem.report.sentences import answer, caution
from vem.report.unlike import about_code
from vem.storage.records import PER_DATUM
from vem.storage.sealing import measured_of


def findings(
    roots: Iterable[Path], baseline: str | None = None, out: Path | None = None, ended: bool = False
) -> Findings:
    """Everything that the report says of the runs at or below ``roots``.

    ``baseline``: label of the group that the others of its table are compared with, or its strategy where one
    group has it; by default, and in tables without it, the group with the best test ELBO. ``out``: where the report
    goes, for the command that writes it again. ``ended``: the sweep's command has ended, so that jobs which wait
    will not begin.

    Raises:
        VemError: a root does not exist, nothing lies below any of them, or no group is called ``baseline``.
    """
    roots = [Path(root) for root in roots]
    gathered = gather(roots, ended)
    framed = frame(gathered)
    gathered = framed.gathered
    groups = {name: with_planned(part, framed, gathered) for name, part in grouped(framed).items()}
    check_baseline(list(groups.values()), baseline)
    tables = tuple(_table(name, part, framed, gathered, baseline) for name, part in groups.items())
    compared = {name: table.groups for name, table in zip(groups, tables, strict=True)}
    placed = framed.rows[framed.rows["table"].notna()] if len(framed.rows) else framed.rows
    return Findings(
        base=gathered.base,
        runs=framed.rows,
        tables=tables,
        apart=apart([framed.runs[d] for d in placed["directory"]], list(placed["table"])) if len(placed) else (),
        unfinished=unfinished(gathered, list(framed.runs.values())),
        provenance=provenance(gathered, framed, compared, rebuild_command(roots, out, baseline)),
        title=_title(roots),
        progress=progress(gathered),
    )


def _table(name: str, groups: pd.DataFrame, framed: Framed, gathered: Gathered, wanted: str | None) -> Table:
    runs = framed.rows[framed.rows["table"] == name]
    rivals = Rivals(groups, runs, framed)
    baseline = chosen_baseline(groups, wanted)
    compared = with_data_errors(with_differences(groups, rivals, baseline), runs, gathered.base, rivals.refused)
    axes = axes_of(compared, framed, gathered)
    rows = [framed.evaluated[directory] for found in groups["directories"] for directory in found]
    settings = {directory: run.settings for directory, run in framed.runs.items()}
    beside = {directory: of for directory, run in framed.runs.items() if (of := measured_of(run.facts))}
    alone = runs[[gathered.base / directory not in gathered.jobs for directory in runs["directory"]]]
    jobs = progress(gathered, jobs_of(name, framed, gathered))
    sources = Sources(gathered.base, settings, states(compared, runs), states(compared, alone), jobs, beside)
    compete = contenders(compared)
    said = answer(compete, rivals, axes, sources)
    code = about_code({label: [framed.runs[d] for d in found] for label, found in _members(compared)})
    careful = [*code, *measured_again(compared), *other_rows(rows), *left_out(compared, runs)]
    said = (*said, *(caution(Caution("remark", facts={"text": text})) for text in careful))
    refused = {directory: found for directory in runs["directory"] if (found := _refused(directory, framed))}
    known = map(str, compete[compete["test_elbo_mean"].notna()]["label"])
    differences = {own: rivals.difference(own, baseline) for own in known if baseline not in (None, own)}
    return Table(name, compared, runs, baseline, said, axes, refused, differences)


def _members(groups: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """The groups by label, with the directories of their finished runs."""
    return list(zip(groups["label"], groups["directories"], strict=True))


def _refused(directory: str, framed: Framed) -> dict[str, str]:
    """By file of a run, why it is not used."""
    rows = framed.evaluated[directory].refused
    found = {**framed.runs[directory].broken, **({PER_DATUM: rows} if rows else {})}
    return {name: relative_damage([text], framed.gathered.base)[0] for name, text in found.items()}


def _title(roots: list[Path]) -> str:
    """What was reported on, by the names of the folders."""
    return ", ".join(dict.fromkeys(root.resolve().name for root in roots))
