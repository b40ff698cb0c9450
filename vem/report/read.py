"""From run directories to what the report says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report import contenders
from vem.report.axes import axes_of
from vem.report.cautions import Caution, Sources
from vem.report.comparable import apart, other_rows
from vem.report.findings import Findings, Table
from vem.report.frame import Framed, frame, relative_damage
from vem.report.gather import Gathered, gather, progress, unfinished
from vem.report.groups import TRAIN_SIZE
from vem.report.kin import by
from vem.report.labels import GROUP
from vem.report.provenance import provenance
from vem.report.quantities import plain_rows
from vem.report.runs import DONE
from vem.report.sentences import answer, caution
from vem.report.unlike import about_code
from vem.storage.identity import key_of
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
    framed = frame(gather(roots, ended))
    gathered = framed.gathered
    groups = {name: _with_planned(part, framed) for name, part in contenders.grouped(framed).items()}
    contenders.check_baseline(list(groups.values()), baseline)
    code = {name: about_code({str(label): [framed.runs[d] for d in found]
                              for label, found in zip(part["label"], part["directories"], strict=True)})
            for name, part in groups.items()}  # fmt: skip
    tables = tuple(_table(name, part, framed, baseline, code[name]) for name, part in groups.items())
    compared = {table.name: table.groups for table in tables}
    placed = framed.rows[framed.rows["table"].notna()]
    options = {"--out": None if roots == [out] else out, "--baseline": baseline}
    again = [*roots, *(word for option in options.items() if option[1] for word in option)]
    return Findings(
        base=gathered.base,
        runs=framed.rows,
        tables=tables,
        apart=apart([framed.runs[d] for d in placed["directory"]], list(placed["table"])),
        unfinished=unfinished(gathered, list(framed.runs.values())),
        provenance=provenance(framed, compared, code, again),
        title=", ".join(dict.fromkeys(root.resolve().name for root in roots)),
        progress=progress(gathered),
    )


def _table(name: str, groups: pd.DataFrame, framed: Framed, wanted: str | None, code: Sequence[str]) -> Table:
    gathered = framed.gathered
    runs = framed.rows[framed.rows["table"] == name]
    rivals = contenders.Rivals(groups, runs, framed)
    baseline = contenders.chosen_baseline(groups, wanted)
    compared = contenders.with_differences(groups, rivals, baseline)
    axes = axes_of(compared, framed)
    rows = [framed.evaluated[directory] for found in groups["directories"] for directory in found]
    sources = Sources(
        base=gathered.base,
        settings={directory: run.settings for directory, run in framed.runs.items()},
        states=_states(compared, runs),
        alone=_states(compared, runs[[gathered.base / d not in gathered.jobs for d in runs["directory"]]]),
        progress=progress(gathered, _jobs_of(name, framed)),
        beside={directory: of for directory, run in framed.runs.items() if (of := measured_of(run.facts))},
    )
    compete = contenders.contenders(compared)
    careful = [*code, *contenders.measured_again(compared), *other_rows(rows), *contenders.left_out(compared, runs)]
    said = answer(compete, rivals, axes, sources)
    said = (*said, *(caution(Caution("remark", facts={"text": text})) for text in careful))
    refused = {directory: found for directory in runs["directory"] if (found := _refused(directory, framed))}
    known = map(str, compete[compete["test_elbo_mean"].notna()]["label"])
    differences = {own: rivals.difference(own, baseline) for own in known if baseline not in (None, own)}
    return Table(name, compared, runs, baseline, said, axes, refused, differences)


def _refused(directory: str, framed: Framed) -> dict[str, str]:
    """By file of a run, why it is not used."""
    rows = framed.evaluated[directory].refused
    found = {**framed.runs[directory].broken, **({PER_DATUM: rows} if rows else {})}
    return {name: relative_damage([text], framed.gathered.base)[0] for name, text in found.items()}


# --- runs and planned jobs of the groups


def _members(groups: pd.DataFrame, runs: pd.DataFrame) -> list[list[dict[str, Any]]]:
    """Every run of each group, whatever became of it."""
    rows = plain_rows(runs[[*GROUP, "seed", "status", "directory"]])
    found = by((tuple(row[key] for key in GROUP) for row in rows), rows)
    return [found.get(tuple(row[key] for key in GROUP), []) for row in plain_rows(groups[list(GROUP)])]


def _states(groups: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Counter[str]]:
    """By label, how many runs of the group are done, running, failed, …"""
    states = [Counter(row["status"] for row in found) for found in _members(groups, runs)]
    return dict(zip(groups["label"], states, strict=True))


def _with_planned(groups: pd.DataFrame, framed: Framed) -> pd.DataFrame:
    """The groups of one table; ``runs`` and ``status`` count the planned jobs that have not begun as well.

    Such a job belongs to the group of the runs of its sweep whose overrides differ from its own in the seed alone.
    """
    gathered = framed.gathered
    waiting = [_plan(job, gathered) for job in gathered.waiting]
    members = _members(groups, framed.rows)
    begun = [[job for row in own for job in _jobs_behind(row["directory"], gathered)] for own in members]
    plans = [{_plan(job, gathered) for job in own} for own in begun]
    owners = Counter(sweep for own in plans for sweep in {sweep for sweep, _ in own})
    out = groups.copy()
    for i, (rows, own) in enumerate(zip(members, plans, strict=True)):
        seeds = {seed for _, seed in own} | {"" if row["seed"] is None else str(int(row["seed"])) for row in rows}
        mine = {sweep for sweep, _ in own if owners[sweep] == 1}
        if absent := len({seed for sweep, seed in waiting if sweep in mine} - seeds):
            runs, status = groups.iloc[i][["runs", "status"]]
            out.loc[out.index[i], ["runs", "status"]] = int(runs) + absent, _status(status, int(runs), absent)
    return out


def _jobs_of(table: str, framed: Framed) -> list[Path]:
    """The planned jobs whose results stand in a table, or may come to.

    One that has not begun belongs to the tables of those of its sweep that were told the same of the data; where
    none of its sweep is in a table yet, it may belong to any.
    """
    gathered = framed.gathered
    placed = framed.rows[framed.rows["table"].notna()]
    tables = {job: own for directory, own in zip(placed["directory"], placed["table"], strict=True)
              for job in _jobs_behind(directory, gathered)}  # fmt: skip
    told = {(job.parent, _data_of(job, gathered)) for job, own in tables.items() if own == table}
    begun = {job.parent for job in tables}
    return [
        job for job in gathered.jobs
        if tables.get(job, table) == table
        and (job in tables or job.parent not in begun or (job.parent, _data_of(job, gathered)) in told)
    ]  # fmt: skip


def _jobs_behind(directory: str, gathered: Gathered) -> list[Path]:
    """The planned jobs that a run, or what repeats it, is of."""
    path = gathered.base / directory
    return [p for p in (path, *(same.directory for same in gathered.repeats.get(path, ()))) if p in gathered.jobs]


def _data_of(job: Path, gathered: Gathered) -> frozenset[str]:
    """What a job was told of its data: with another number of training data it stays in one table."""
    keys = {text: key_of(text) for text in gathered.jobs[job]}
    return frozenset(text for text, key in keys.items() if key.split(".")[0] == "data" and key != TRAIN_SIZE)


def _plan(job: Path, gathered: Gathered) -> tuple[Hashable, str]:
    """What a job was to run, of which sweep; and its seed."""
    seeds = [text for text in gathered.jobs[job] if key_of(text) == "seed"]
    plan = (job.parent, frozenset(gathered.jobs[job]).difference(seeds))
    return plan, seeds[0].partition("=")[2] if seeds else ""


def _status(status: str, runs: int, absent: int) -> str:
    """The status of a group with jobs that have not begun.

    >>> _status("done", 1, 2), _status("1 of 2 failed", 2, 1), _status("running", 1, 1)
    ('2 of 3 not begun', '1 of 3 failed, 1 of 3 not begun', '1 of 2 running, 1 of 2 not begun')
    """
    total = runs + absent
    known = re.sub(r"\bof \d+\b", f"of {total}", status) if " of " in status else f"{runs} of {total} {status}"
    return ", ".join([*([] if status == DONE else [known]), f"{absent} of {total} not begun"])
