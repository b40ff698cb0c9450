"""Where the numbers come from: commands, code, machines, the settings that differ, and what is to be known of runs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from vem.report.comparable import data_settings
from vem.report.findings import Provenance
from vem.report.frame import Framed, relative_damage
from vem.report.gather import who
from vem.report.groups import own_settings, x_of
from vem.report.kin import by, values_of
from vem.report.labels import MEASUREMENT
from vem.report.prose import worded
from vem.report.quantities import plain_rows
from vem.report.runs import DONE, RunRecord
from vem.report.words import named, plural

NAMES_SHOWN = 4
UNKNOWN = "not recorded"
DATA_CLASS = "data._target_"


def provenance(
    framed: Framed, groups: Mapping[str, pd.DataFrame], code: Mapping[str, Sequence[str]], arguments: Iterable[object]
) -> Provenance:
    """All of it. ``groups``, ``code``: by table its groups, and what is to be said of different code that made them;
    ``arguments``: of the command that writes the report again.
    """
    gathered = framed.gathered
    runs = gathered.runs
    of_sweeps = [command for sweep in gathered.sweeps for command in sweep.commands]
    alone = [run.facts.get("command") for run in runs if run.directory not in gathered.jobs]
    of_code = [f"{table}: {text}" if len(code) > 1 else text for table, texts in code.items() for text in texts]
    versions = [run.facts.get("versions", {}) for run in runs]
    return Provenance(
        commands=tuple(command for command in dict.fromkeys([*of_sweeps, *alone]) if command),
        commits=Counter(str(run.facts.get("commit") or UNKNOWN) for run in runs),
        versions={package: tuple(filter(None, own)) for package, own in values_of(versions).items()},
        machines=Counter(_machine(run) for run in runs if run.status == DONE),
        differences=_differences(framed, groups),
        rebuild=shlex.join(map(str, ("python", "-m", "vem.report", *arguments))),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        remarks=(*_remarks(framed), *of_code),
    )


def _machine(run: RunRecord) -> str:
    device, threads, host = (run.facts.get(key) for key in ("device", "threads", "host"))
    used = "" if threads is None else plural(int(threads), "thread")
    return ", ".join(filter(None, (str(device or UNKNOWN), used, f"on {host}" if host else "")))


def _differences(framed: Framed, groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each group: its table, its label, and the settings that are not the same in all groups."""
    rows = []
    for table, part in groups.items():
        for label, directories in zip(part["label"], part["directories"], strict=True):
            run = _typical([framed.runs[d] for d in directories if d in framed.runs])
            settings = {} if run is None else data_settings(run) | own_settings(run)
            rows.append(({"table": table, "label": label}, settings))
    # What a class is called (_target_) says nothing that the names of the options do not, but for the user's own data.
    varying = [key for key, values in values_of([own for _, own in rows if own]).items() if len(values) > 1
               and (key == DATA_CLASS or not key.rpartition(".")[2].startswith("_"))]  # fmt: skip
    shown = [*(["table"] if len(groups) > 1 else []), "label", *varying]
    return pd.DataFrame([names | own for names, own in rows], columns=shown)


def _typical(runs: Sequence[RunRecord]) -> RunRecord | None:
    """The first that was measured as most of them: one may have been measured again."""
    measured = [frozenset((k, v) for k, v in run.settings.items() if k.startswith(MEASUREMENT)) for run in runs]
    return runs[measured.index(Counter(measured).most_common(1)[0][0])] if runs else None


def _remarks(framed: Framed) -> list[str]:
    """Notes of runs, repeats, damaged files, and several versions of the code, a sentence each."""
    names = {directory: who(run.facts) for directory, run in framed.runs.items()}
    out = [f"{directory} ({names[directory]}): {text}" for directory, found in framed.evaluated.items()
           for text in relative_damage(found.damage, framed.gathered.base)]  # fmt: skip
    notes = [
        (note, names[directory]) for directory, run in framed.runs.items() for note in run.facts.get("notes") or ()
    ]
    noted = by((note for note, _ in notes), (name for _, name in notes))
    out += [f"{some(found, len(names))}: {note}" for note, found in noted.items()]
    out += [repeated(row) for row in plain_rows(framed.rows.filter(["repeated_in", "directory"])) if row["repeated_in"]]
    done = [run for run in framed.runs.values() if run.status == DONE]
    if silent := [who(run.facts) for run in done if not x_of(run)]:
        out.append(worded("remarks", "no_digest", who=some(silent, len(done))))
    commits = Counter(str(run.facts["commit"]) for run in done if run.facts.get("commit"))
    if len(commits) > 1:
        out.append(worded("remarks", "versions", commits=commits))
    return out


def repeated(row: Mapping[str, Any]) -> str:
    """Which directories hold the same run.

    >>> repeated({"repeated_in": "a b", "directory": "c"}), repeated({"repeated_in": "'a b'", "directory": "c"})
    ('a b repeat c', "'a b' repeats c")
    """
    several = len(shlex.split(row["repeated_in"])) > 1
    return f"{row['repeated_in']} {'repeat' if several else 'repeats'} {row['directory']}"


def some(names: Sequence[str], total: int) -> str:
    """The first few of many names.

    >>> some(["a", "b"], 2), some(["a", "a", "b"], 9), some(list("abcdef"), 9)
    ('all runs', 'a; b', 'a; b; c; d and 2 more')
    """
    return "all runs" if len(names) == total > 1 else named(list(dict.fromkeys(names)), NAMES_SHOWN)
