"""Where the numbers come from: commands, code, machines, the settings that differ, and what is to be known of runs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from vem.report.comparable import data_settings
from vem.report.findings import Provenance
from vem.report.frame import Framed
from vem.report.gather import Gathered, who
from vem.report.groups import own_settings, x_of
from vem.report.labels import MEASUREMENT
from vem.report.own_code import about_code
from vem.report.quantities import present
from vem.report.runs import DONE, RunRecord
from vem.report.words import plural

NAMES_SHOWN = 4
UNKNOWN = "not recorded"
DATA_CLASS = "data._target_"


def provenance(
    gathered: Gathered, framed: Framed, groups: Mapping[str, pd.DataFrame], rebuild: Sequence[str]
) -> Provenance:
    """All of it; ``rebuild``: the command that writes the report again, word by word."""
    runs = gathered.runs
    return Provenance(
        commands=tuple(_commands(gathered)),
        commits=_counted(str(run.facts.get("commit") or UNKNOWN) for run in runs),
        versions=_versions(runs),
        machines=_counted(_machine(run) for run in runs if run.status == DONE),
        differences=_differences(framed, groups),
        rebuild=shlex.join(rebuild),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        remarks=(*remarks(gathered, framed), *_own_code(framed, groups)),
    )


def _commands(gathered: Gathered) -> list[str]:
    """Those that the sweeps' ledgers hold, and of runs outside a sweep their own."""
    of_sweeps = [command for sweep in gathered.sweeps for command in sweep.commands]
    alone = [run.facts.get("command") for run in gathered.runs if run.directory not in gathered.jobs]
    return list(dict.fromkeys([*of_sweeps, *(command for command in alone if command)]))


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _versions(runs: Sequence[RunRecord]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for package, version in run.facts.get("versions", {}).items():
            found.setdefault(package, {})[version] = None
    return {package: tuple(versions) for package, versions in found.items()}


def _machine(run: RunRecord) -> str:
    device, threads, host = (run.facts.get(key) for key in ("device", "threads", "host"))
    parts = [str(device or UNKNOWN)]
    parts += [] if threads is None else [f"{int(threads)} thread{'' if threads == 1 else 's'}"]
    return ", ".join([*parts, *([f"on {host}"] if host else [])])


def _differences(framed: Framed, groups: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row for each group: its table, its label, and the settings that are not the same in all groups."""
    rows = [(table, g["label"], g["directories"]) for table, part in groups.items() for g in part.to_dict("records")]
    settings = []
    for _, _, directories in rows:
        run = _typical([framed.runs[d] for d in directories if d in framed.runs])
        settings.append({} if run is None else data_settings(run) | own_settings(run))
    known = [s for s in settings if s]
    # What a class is called (_target_) says nothing that the names of the options do not, but for the user's own data.
    told = {key for found in known for key in found if not key.rpartition(".")[2].startswith("_")} | {DATA_CLASS}
    keys = [key for key in dict.fromkeys(key for found in known for key in found) if key in told]
    varying = [k for k in keys if len({found.get(k) for found in known}) > 1]
    wide = ["table"] if len(groups) > 1 else []
    return pd.DataFrame(
        [
            {"table": table, "label": label} | {key: found.get(key) for key in varying}
            for (table, label, _), found in zip(rows, settings, strict=True)
        ],
        columns=["table", "label", *varying],
    )[[*wide, "label", *varying]]


def _typical(runs: Sequence[RunRecord]) -> RunRecord | None:
    """The first that was measured as most of them: one may have been measured again."""
    measured = [frozenset((k, v) for k, v in run.settings.items() if k.startswith(MEASUREMENT)) for run in runs]
    return runs[measured.index(Counter(measured).most_common(1)[0][0])] if runs else None


def remarks(gathered: Gathered, framed: Framed) -> list[str]:
    """Notes of runs, repeats, damaged files, and several versions of the code, a sentence each."""
    rows = [{str(k): present(v) for k, v in row.items()} for row in framed.rows.to_dict("records")]
    out = [f"{row['directory']} ({who(row)}): {text}" for row in rows for text in _split(row["damaged"])]
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in _split(row["notes"]):
            notes.setdefault(note, []).append(who(row))
    out += [f"{some(names, len(rows))}: {note}" for note, names in notes.items()]
    out += [repeated(row) for row in rows if row["repeated_in"]]
    return [*out, *_from_before(gathered), *_several_codes(gathered)]


def repeated(row: Mapping[str, Any]) -> str:
    """Which directories hold the same run.

    >>> repeated({"repeated_in": "a b", "directory": "c"}), repeated({"repeated_in": "'a b'", "directory": "c"})
    ('a b repeat c', "'a b' repeats c")
    """
    several = len(shlex.split(row["repeated_in"])) > 1
    return f"{row['repeated_in']} {'repeat' if several else 'repeats'} {row['directory']}"


def _split(text: str | None) -> list[str]:
    return text.split(" | ") if text else []


def _own_code(framed: Framed, groups: Mapping[str, pd.DataFrame]) -> list[str]:
    """Groups of a table, and seeds of a group, that different code of the user's made."""
    found = []
    for table, part in groups.items():
        members = {
            str(label): [framed.runs[d] for d in own]
            for label, own in zip(part["label"], part["directories"], strict=True)
        }
        found += [f"{table}: {text}" if len(groups) > 1 else text for text in about_code(members)]
    return found


def _from_before(gathered: Gathered) -> list[str]:
    """Runs that do not say which data they saw, in one sentence."""
    done = [run for run in gathered.runs if run.status == DONE]
    silent = [who(run.facts) for run in done if not x_of(run)]
    if not silent:
        return []
    return [f"{some(silent, len(done))}: run.json holds no digest of the data, as in runs of older versions: that they "
            "saw the same data is taken from their settings."]  # fmt: skip


def _several_codes(gathered: Gathered) -> list[str]:
    done = [run for run in gathered.runs if run.status == DONE]
    commits = _counted(str(run.facts.get("commit")) for run in done if run.facts.get("commit"))
    if len(commits) < 2:
        return []
    shown = ", ".join(f"{commit} ({plural(number, 'run')})" for commit, number in commits.items())
    return [f"The runs were made by {len(commits)} versions of the code: {shown}; rerun=stale runs the old ones again."]


def some(names: Sequence[str], total: int) -> str:
    """The first few of many names.

    >>> some(["a", "b"], 2), some(["a", "a", "b"], 9), some(list("abcdef"), 9)
    ('all runs', 'a; b', 'a; b; c; d and 2 more')
    """
    found = list(dict.fromkeys(names))
    if len(names) == total > 1:
        return "all runs"
    more = f" and {len(found) - NAMES_SHOWN} more" if len(found) > NAMES_SHOWN else ""
    return "; ".join(found[:NAMES_SHOWN]) + more


def rebuild_command(roots: Sequence[Path], out: Path | None, baseline: str | None) -> list[str]:
    """The command line that writes this report again."""
    command: list[Any] = ["python", "-m", "vem.report", *roots]
    command += ["--out", out] if out is not None and list(roots) != [out] else []
    return [str(word) for word in (*command, *(["--baseline", baseline] if baseline else []))]
