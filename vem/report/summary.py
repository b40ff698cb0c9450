"""The report of some folders: tables on the terminal, and everything that is written beside the runs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vem.errors import VemError
from vem.report.comparison_table import comparison_table, gap_tables
from vem.report.figures.catalogue import draw
from vem.report.findings import Findings, Table, alike
from vem.report.frame import frame
from vem.report.gather import gather, who
from vem.report.page import markdown, render
from vem.report.prose import environment
from vem.report.provenance import repeated
from vem.report.quantities import plain_rows
from vem.report.read import findings
from vem.report.words import plural
from vem.report.writing import staged
from vem.storage.records import FIGURES, write_csv, write_text

WIDTH = 110  # of the answer on the terminal
MOST_LOSSES = 6  # of one table that the terminal tells; the report has them all
ALIKE = 3  # runs of one error from which on it is told once, and how many of them are named
PAGE, TEXT, SUMMARY, RUNS = "report.html", "report.md", "summary.csv", "runs.csv"


def summarize(roots: Iterable[Path]) -> pd.DataFrame:
    """One row for each run at or below ``roots``; a run that lies there twice (same config hash) has one row.

    Numbers are in nats per data point (``SPLIT_elbo``, with ``_se`` over data and ``_mc_se`` Monte Carlo),
    seconds and counts; a missing one is empty and ``SPLIT_elbo_reason`` says why. ``table`` names the data:
    runs whose ``table`` differs are not comparable. ``variant`` names what differs between runs of the same
    strategy, model, family and latent size. Gaps and checks: :func:`vem.report.frame.numbers`.

    Raises:
        VemError: a root does not exist, or no run lies below any of them.
    """
    return frame(gather(roots)).rows


def write_report(roots: Iterable[Path], out: Path, baseline: str | None = None, ended: bool = False) -> str:
    """Write ``report.html``, ``report.md``, ``summary.csv`` (over seeds), ``runs.csv`` and ``figures/`` into ``out``.

    Returns the tables as text. All files take their places together at the end: if one of them cannot be written,
    the report that was there before stays as it was. ``baseline`` and ``ended`` as in :func:`vem.report.read.findings`.

    Raises:
        VemError: no run is found, no group is called ``baseline``, or ``out`` cannot be written.
    """
    return write(findings(roots, baseline, out, ended), Path(out))


def write(found: Findings, out: Path) -> str:
    """Write what was found; returns the tables as text.

    Raises:
        VemError: ``out`` cannot be written.
    """
    with staged(out) as folder:
        write_tables(found, folder)
        drawn = draw(found, folder / FIGURES)
        write_text(folder / TEXT, markdown(found, drawn, folder))
        write_text(folder / PAGE, render(found, drawn))
    return "\n".join(terminal(found, out))


def write_tables(found: Findings, folder: Path) -> None:
    """Write ``runs.csv``, a row for each run, and ``summary.csv``, a row for each group where there is one."""
    write_csv(folder / RUNS, records(found.runs))
    if found.tables:
        write_csv(folder / SUMMARY, [row for table in found.tables for row in records(table.groups)])


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as they stand in a CSV file: None for what is missing, lists joined by spaces."""
    return [{k: " ".join(v) if isinstance(v, list) else v for k, v in row.items()} for row in plain_rows(rows)]


# --- on the terminal


def terminal(found: Findings, out: Path) -> list[str]:
    """The lines that a command prints: the comparison, and where the files are."""
    tables = [f"Tables:  {out / SUMMARY} (over seeds), {out / RUNS} (every run)"] if found.tables else []
    figures = [f"Figures: {out / FIGURES}"] if (out / FIGURES).is_dir() else []
    return [*comparison_text(found), *tables, *figures, f"Report:  {out / PAGE}"]


def comparison_text(found: Findings) -> list[str]:
    """The comparison as lines: tables, remarks and the answer."""
    rows = records(found.runs)
    repeats = [repeated(row) for row in rows if row["repeated_in"]]
    failed, untested = ([f"{row['directory']} ({who(row)}): {row[what]}" for row in rows if row.get(what)]
                        for what in ("checks_failed", "not_tested"))  # fmt: skip
    text = environment().get_template("terminal.txt").render(
        shown=[(table.name, [comparison_table(table), *gap_tables(table)], _said(table)) for table in found.tables],
        apart=found.apart,
        unfinished=[([f"{run.directory} ({run.who})" for run in runs], f"{runs[0].status}: {runs[0].reason}")
                    for runs in alike(found.unfinished)],
        most_alike=ALIKE,
        failed=failed,
        not_tested=untested,
        notes=[text for text in found.provenance.remarks if text not in repeats],
        repeats=repeats,
    )  # fmt: skip
    return str(text).split("\n")[:-1]


def _said(table: Table) -> list[str]:
    """The answer in lines; of many losses, and of all reasons to be careful, that they stand in the report."""
    texts = {kind: [s.text for s in table.answer if s.kind == kind] for kind in ("finding", "loss", "caution")}
    few, count = len(texts["loss"]) <= MOST_LOSSES, len(texts["caution"])
    careful = f"{plural(count, 'reason')} to be careful {'stands' if count == 1 else 'stand'} in the report."
    losses = texts["loss"] if few else ["What each loses stands in the report."]
    said = texts["finding"] + losses + ([careful] if count else [])
    wrapped = (textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ") for text in said)
    return [line for lines in wrapped for line in lines]


def report_folder(roots: Sequence[Path], out: Path | None) -> Path:
    """Where the report goes: ``out``, else the one root.

    Raises:
        VemError: there are several roots and no ``out``.
    """
    if out is None and len(roots) > 1:
        raise VemError(f"{len(roots)} folders were named: say where the report goes with --out DIR.")
    return roots[0] if out is None else out
