"""Where the numbers come from: commands, code, machines, the settings that differ, and what is to be known of runs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report.comparable import data_settings
from vem.report.findings import Provenance
from vem.report.frame import Framed
from vem.report.gather import Gathered, who
from vem.report.groups import own_settings, x_of
from vem.report.kin import by, values_of
from vem.report.labels import MEASUREMENT
from vem.report.quantities import plain_rows
from vem.report.runs import DONE, RunRecord
from vem.report.words import named, plural

NAMES_SHOWN = 4
UNKNOWN = "not recorded"
DATA_CLASS = "data._target_"


def provenance(
    gathered: Gathered,
    framed: Framed,
    groups: Mapping[str, pd.DataFrame],
    code: Mapping[str, Sequence[str]],
    rebuild: Sequence[str],
) -> Provenance:
    """All of it. ``groups``, ``code``: by table its groups, and what is to be said of different code that made them;
    ``rebuild``: the command that writes the report again, word by word.
    """
    runs = gathered.runs
    of_code = [f"{table}: {text}" if len(code) > 1 else text for table, texts in code.items() for text in texts]
    versions = [run.facts.get("versions", {}) for run in runs]
    return Provenance(
        commands=tuple(_commands(gathered)),
        commits=Counter(str(run.facts.get("commit") or UNKNOWN) for run in runs),
        versions={package: tuple(filter(None, own)) for package, own in values_of(versions).items()},
        machines=Counter(_machine(run) for run in runs if run.status == DONE),
        differences=_differences(framed, groups),
        rebuild=shlex.join(rebuild),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        remarks=(*remarks(gathered, framed), *of_code),
    )


def _commands(gathered: Gathered) -> list[str]:
    """Those that the sweeps' ledgers hold, and of runs outside a sweep their own."""
    of_sweeps = [command for sweep in gathered.sweeps for command in sweep.commands]
    alone = [run.facts.get("command") for run in gathered.runs if run.directory not in gathered.jobs]
    return list(dict.fromkeys([*of_sweeps, *(command for command in alone if command)]))


def _machine(run: RunRecord) -> str:
    device, threads, host = (run.facts.get(key) for key in ("device", "threads", "host"))
    used = "" if threads is None else plural(int(threads), "thread")
    parts = (str(device or UNKNOWN), used, f"on {host}" if host else "")
    return ", ".join(filter(None, parts))


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


def remarks(gathered: Gathered, framed: Framed) -> list[str]:
    """Notes of runs, repeats, damaged files, and several versions of the code, a sentence each."""
    rows = plain_rows(framed.rows)
    out = [f"{row['directory']} ({who(row)}): {text}" for row in rows for text in _split(row["damaged"])]
    notes = [(note, who(row)) for row in rows for note in _split(row["notes"])]
    noted = by((note for note, _ in notes), (name for _, name in notes))
    out += [f"{some(names, len(rows))}: {note}" for note, names in noted.items()]
    out += [repeated(row) for row in rows if row["repeated_in"]]
    done = [run for run in gathered.runs if run.status == DONE]
    if silent := [who(run.facts) for run in done if not x_of(run)]:
        out.append(f"{some(silent, len(done))}: run.json holds no digest of the data, as in runs of older versions: "
                   "that they saw the same data is taken from their settings.")  # fmt: skip
    commits = Counter(str(run.facts["commit"]) for run in done if run.facts.get("commit"))
    if len(commits) > 1:
        shown = ", ".join(f"{commit} ({plural(number, 'run')})" for commit, number in commits.items())
        out.append(f"The runs were made by {len(commits)} versions of the code: {shown}; "
                   "rerun=stale runs the old ones again.")  # fmt: skip
    return out


def repeated(row: Mapping[str, Any]) -> str:
    """Which directories hold the same run.

    >>> repeated({"repeated_in": "a b", "directory": "c"}), repeated({"repeated_in": "'a b'", "directory": "c"})
    ('a b repeat c', "'a b' repeats c")
    """
    several = len(shlex.split(row["repeated_in"])) > 1
    return f"{row['repeated_in']} {'repeat' if several else 'repeats'} {row['directory']}"


def _split(text: str | None) -> list[str]:
    return text.split(" | ") if text else []


def some(names: Sequence[str], total: int) -> str:
    """The first few of many names.

    >>> some(["a", "b"], 2), some(["a", "a", "b"], 9), some(list("abcdef"), 9)
    ('all runs', 'a; b', 'a; b; c; d and 2 more')
    """
    return "all runs" if len(names) == total > 1 else named(list(dict.fromkeys(names)), NAMES_SHOWN)


def rebuild_command(roots: Sequence[Path], out: Path | None, baseline: str | None) -> list[str]:
    """The command line that writes this report again."""
    command: list[Any] = ["python", "-m", "vem.report", *roots]
    command += ["--out", out] if out is not None and list(roots) != [out] else []
    return [str(word) for word in (*command, *(["--baseline", baseline] if baseline else []))]
