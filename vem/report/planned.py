"""What became of the runs of each group, those that a sweep has planned and not begun among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report.frame import Framed
from vem.report.gather import Gathered
from vem.report.groups import TRAIN_SIZE
from vem.report.labels import GROUP
from vem.report.quantities import present
from vem.report.runs import DONE, key_of

NOT_BEGUN = "not begun"
Plan = tuple[Path, frozenset[str]]  # the sweep, and a job's overrides but for its seed


def states(groups: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Counter[str]]:
    """By label, how many runs of the group are done, running, failed, …"""
    found = {label: Counter[str]() for label in groups["label"]}
    for i, row in _members(groups, runs):
        found[groups["label"].iloc[i]][str(row["status"])] += 1
    return found


def with_planned(groups: pd.DataFrame, framed: Framed, gathered: Gathered) -> pd.DataFrame:
    """The groups of one table; ``runs`` and ``status`` count the planned jobs that have not begun as well.

    Such a job belongs to the group of the runs of its sweep whose overrides differ from its own in the seed alone.
    """
    plans: dict[Plan, set[int]] = {}
    seeds: dict[int, set[str]] = {}
    for i, row in _members(groups, framed.rows):
        directory = gathered.base / row["directory"]
        seeds.setdefault(i, set()).add("" if present(row["seed"]) is None else str(int(row["seed"])))
        for path in (directory, *(same.directory for same in gathered.repeats.get(directory, ()))):
            if path in gathered.jobs:
                plan, seed = _plan(path, gathered)
                plans.setdefault(plan, set()).add(i)
                seeds[i].add(seed)
    missing: dict[int, set[str]] = {}
    for path in gathered.waiting:
        plan, seed = _plan(path, gathered)
        owners = plans.get(plan, set())
        if len(owners) == 1 and seed not in seeds[i := next(iter(owners))]:
            missing.setdefault(i, set()).add(seed)
    out = groups.copy()
    for i, absent in missing.items():
        old = int(groups["runs"].iloc[i])
        out.loc[out.index[i], "runs"] = old + len(absent)
        out.loc[out.index[i], "status"] = _status(str(groups["status"].iloc[i]), old, len(absent))
    return out


def jobs_of(table: str, framed: Framed, gathered: Gathered) -> list[Path]:
    """The planned jobs whose results stand in a table, or may come to.

    One that has not begun belongs to the tables of those of its sweep that were told the same of the data; where
    none of its sweep is in a table yet, it may belong to any.
    """
    places: dict[Path, str] = {}
    for directory, own in zip(framed.rows["directory"], framed.rows["table"], strict=True):
        if (found := present(own)) is not None:
            path = gathered.base / directory
            names = (path, *(same.directory for same in gathered.repeats.get(path, ())))
            places |= dict.fromkeys(names, found)
    sweeps: dict[Path, dict[frozenset[str], set[str]]] = {}
    for job, own in places.items():
        if job in gathered.jobs:
            sweeps.setdefault(job.parent, {}).setdefault(_data_of(job, gathered), set()).add(own)

    def belongs(job: Path) -> bool:
        if job in places:
            return places[job] == table
        return job.parent not in sweeps or table in sweeps[job.parent].get(_data_of(job, gathered), set())

    return [job for job in gathered.jobs if belongs(job)]


def _data_of(job: Path, gathered: Gathered) -> frozenset[str]:
    """What a job was told of its data: with another number of training data it stays in one table."""
    keys = {text: key_of(text) for text in gathered.jobs[job]}
    return frozenset(text for text, key in keys.items() if key.split(".")[0] == "data" and key != TRAIN_SIZE)


def _members(groups: pd.DataFrame, runs: pd.DataFrame) -> list[tuple[int, Mapping[Any, Any]]]:
    """Every run of the groups, with the place of its group."""
    places = {tuple(map(present, key)): i for i, key in enumerate(groups[list(GROUP)].itertuples(index=False))}
    rows = [(tuple(present(row[k]) for k in GROUP), row) for row in runs.to_dict("records")]
    return [(places[key], row) for key, row in rows if key in places]


def _plan(job: Path, gathered: Gathered) -> tuple[Plan, str]:
    """What a job was to run, and its seed."""
    overrides = gathered.jobs[job]
    seed = next((text.partition("=")[2] for text in overrides if key_of(text) == "seed"), "")
    return (job.parent, frozenset(text for text in overrides if key_of(text) != "seed")), seed


def _status(status: str, runs: int, absent: int) -> str:
    """The status of a group with jobs that have not begun.

    >>> _status("done", 1, 2), _status("1 of 2 failed", 2, 1), _status("running", 1, 1)
    ('2 of 3 not begun', '1 of 3 failed, 1 of 3 not begun', '1 of 2 running, 1 of 2 not begun')
    """
    total = runs + absent
    known = re.sub(r"\bof \d+\b", f"of {total}", status) if " of " in status else f"{runs} of {total} {status}"
    return ", ".join([*([] if status == DONE else [known]), f"{absent} of {total} {NOT_BEGUN}"])
