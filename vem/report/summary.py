"""Many runs in one table: read, group by everything but the seed, print, write, draw."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vem.errors import VemError
from vem.records import SPLITS, run_directories, write_csv
from vem.report.aggregate import COSTS, aggregate, data_settings, headings, present, variants
from vem.report.comparison import draw_comparison
from vem.report.estimates import columns, estimate, exact_log_marginal, gap_columns
from vem.report.runs import RunRecord, read_run
from vem.report.style import make_folder
from vem.report.table import comparison_table

IDENTITY = ("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "seed", "status")
STATUS_ORDER = ("done", "running", "failed", "unreadable")


def summarize(roots: Iterable[Path]) -> pd.DataFrame:
    """One row for each run at or below ``roots``; a run that lies there twice (same config hash) has one row.

    Numbers are in nats per datum (``SPLIT_elbo``, with ``_se`` over data and ``_mc_se`` Monte Carlo),
    seconds and counts; a missing one is empty and ``SPLIT_elbo_reason`` says why. ``table`` names the data:
    runs whose ``table`` differs are not comparable. ``variant`` names what differs between runs of the same
    strategy, model, family and latent size. Gaps and checks: :func:`vem.report.estimates.gap_columns`.

    Raises:
        VemError: a root does not exist, or no run lies below any of them.
    """
    return _read(roots)[0]


def _read(roots: Iterable[Path]) -> tuple[pd.DataFrame, Path]:
    """The rows of :func:`summarize`, and the folder that their directories are relative to."""
    directories = sorted(run_directories(roots), key=_natural)
    base = Path(os.path.commonpath(directories)) if len(directories) > 1 else directories[0].parent
    runs, repeats = _once([read_run(directory) for directory in directories])
    placed = [run for run in runs if run.placed]
    tables = headings([data_settings(run) for run in placed])
    differences = variants(placed, tables)
    places = {run.directory: both for run, *both in zip(placed, tables, differences, strict=True)}
    rows = [_row(run, base, repeats, *places.get(run.directory, (None, None))) for run in runs]
    return pd.DataFrame(rows), base


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key under which job 10 of a sweep comes after job 2."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _once(found: Sequence[RunRecord]) -> tuple[list[RunRecord], dict[str, list[RunRecord]]]:
    """Each config hash once, where it first appears: the finished run, else the one that got furthest.

    Also the directories that repeat it, by hash.
    """
    by_hash: dict[str, list[RunRecord]] = {}
    for run in found:
        by_hash.setdefault(str(run.facts.get("config_hash") or run.directory), []).append(run)
    chosen = [min(same, key=lambda run: _rank(run.facts["status"])) for same in by_hash.values()]
    return chosen, {key: same for key, same in by_hash.items() if len(same) > 1}


def _rank(status: str) -> int:
    return STATUS_ORDER.index(status) if status in STATUS_ORDER else len(STATUS_ORDER)


def _row(
    run: RunRecord, base: Path, repeats: Mapping[str, list[RunRecord]], table: str | None, variant: str | None
) -> dict[str, Any]:
    facts = run.facts
    row: dict[str, Any] = {"table": table, "variant": variant}
    row |= {name: facts.get(name) for name in IDENTITY}
    for split in SPLITS:
        for name in ("elbo", "reconstruction", "kl"):
            row |= columns(f"{split}_{name}", estimate(run, split, name))
        row |= columns(f"{split}_log_marginal", exact_log_marginal(run, split))
    row |= gap_columns(run)
    row |= {name: facts.get(name) for name in (*COSTS, "converged", "num_parameters", "config_hash")}
    same = repeats.get(str(facts.get("config_hash")), [])
    row["repeated_in"] = " ".join(_relative(r.directory, base) for r in same if r is not run) or None
    row["directory"] = _relative(run.directory, base)
    row["notes"] = " | ".join(map(str, facts.get("notes") or [])) or None
    row["error"] = facts.get("error")
    return row


def _relative(path: Path, base: Path) -> str:
    return path.relative_to(base).as_posix()


def write_report(roots: Iterable[Path], out: Path) -> str:
    """Write ``summary.csv`` (over seeds), ``runs.csv`` and figures into ``out``; returns the table as text.

    Runs on different data stand in separate tables and figures.

    Raises:
        VemError: no run is found, or ``out`` cannot be written.
    """
    out = Path(out)
    runs, base = _read(Path(root) for root in roots)
    make_folder(out)
    write_csv(out / "runs.csv", _records(runs))
    groups = aggregate(runs)
    text: list[str] = []
    figures: list[Path] = []
    if len(groups):
        write_csv(out / "summary.csv", _records(groups))
        tables = list(dict.fromkeys(groups["table"]))
        for table in tables:
            part = groups[groups["table"] == table]
            text += [f"Data: {table}", "", *comparison_table(part), ""]
            figures += draw_comparison(part, base, out, str(table), alone=len(tables) == 1)
        if len(tables) > 1:
            text += ["Runs on different data are not compared: one table for each.", ""]
    text += _remarks(runs)
    text += [f"Tables:  {out / 'summary.csv'} (over seeds), {out / 'runs.csv'} (every run)"] if len(groups) else []
    text += [f"Figures: {path}" if i == 0 else f"         {path}" for i, path in enumerate(figures)]
    return "\n".join(text)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = ({str(k): present(v) for k, v in row.items()} for row in frame.to_dict("records"))
    return [{k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]


def _remarks(runs: pd.DataFrame) -> list[str]:
    """Below the tables: runs that failed or are not finished, checks that failed, notes, repeats."""
    rows = _records(runs)
    bad = [
        f"  {r['directory']} ({_who(r)}): {r['status']}{': ' + _one_line(r['error']) if r['error'] else ''}"
        for r in rows
        if r["status"] != "done"
    ]
    notes: dict[str, list[str]] = {}
    for r in rows:
        for note in (r["notes"] or "").split(" | ") if r["notes"] else []:
            notes.setdefault(note, []).append(_who(r))
    noted = [f"  {_some(who, len(rows))}: {note}" for note, who in notes.items()]
    doubted = [
        f"  {r['directory']} ({_who(r)}): {r['checks_failed']}; read evaluation.json"
        for r in rows
        if r.get("checks_failed")
    ]
    twice = [f"  {r['repeated_in']} repeats {r['directory']}" for r in rows if r["repeated_in"]]
    lines: list[str] = []
    for title, entries in (
        ("Not in the means, because not finished:", bad),
        ("Checks failed:", doubted),
        ("Notes:", noted),
        ("Counted once, because the config is the same:", twice),
    ):
        lines += [title, *entries, ""] if entries else []
    return lines


def _some(who: Sequence[str], total: int) -> str:
    """The first few of many names.

    >>> _some(["a", "b"], 2), _some(["a", "a", "b"], 9), _some(list("abcdef"), 9)
    ('all runs', 'a; b', 'a; b; c; d and 2 more')
    """
    names = list(dict.fromkeys(who))
    if len(who) == total > 1:
        return "all runs"
    return "; ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _who(row: Mapping[str, Any]) -> str:
    if row["strategy"] is None:
        return "unknown"
    return row["strategy"] if row["seed"] is None else f"{row['strategy']}, seed {int(row['seed'])}"


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def report_folder(roots: Sequence[Path], out: Path | None) -> Path:
    """Where the report goes: ``out``, else the one root.

    Raises:
        VemError: there are several roots and no ``out``.
    """
    if out is not None:
        return out
    if len(roots) > 1:
        raise VemError(f"{len(roots)} folders were named: say where the report goes with --out DIR.")
    return roots[0]
