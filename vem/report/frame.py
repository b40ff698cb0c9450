"""One row for each run, with every number that its files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vem.records import SPLITS
from vem.report.aggregate import COSTS, variants
from vem.report.comparable import headings
from vem.report.estimates import columns, estimate, exact_log_marginal, gap_columns
from vem.report.gather import Gathered
from vem.report.rows import Evaluated, evaluated
from vem.report.runs import DONE, UNREADABLE, RunRecord
from vem.report.same import x_of

IDENTITY = ("strategy", "model", "family", "data", "binarize", "likelihood", "latent_dim", "seed", "status")
KIN = ("strategy", "model", "family", "latent_dim")  # with table and variant: a group
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
    tables = headings(placed, [found[run.directory] for run in placed])
    differences = variants(placed, tables)
    found_in = zip(placed, tables, differences, strict=True)
    places = {run.directory: (table, *both) for run, table, both in found_in}
    gathered = _once_a_seed(replace(gathered, runs=tuple(runs)), places)
    runs = list(gathered.runs)
    values = {run.directory: own for run, own in numbered}
    rows = [
        _row(run, values[run.directory], gathered, found[run.directory], *places.get(run.directory, (None,) * 3))
        for run in runs
    ]
    named = {gathered.relative(run.directory): run for run in runs}
    table = pd.DataFrame(rows, columns=None if rows else ["table", "variant", *IDENTITY, "directory"])
    return Framed(table, named, {name: found[run.directory] for name, run in named.items()}, gathered)


def _once_a_seed(gathered: Gathered, places: Mapping[Path, Sequence[Any]]) -> Gathered:
    """One finished run for each seed of a group, an evaluated one where there is one; the others repeat it.

    Their configs differ, for one was measured again with the settings of the other, but their numbers are about the
    same training: a mean over seeds must not count it twice.
    """
    first: dict[Any, RunRecord] = {}
    repeats = dict(gathered.repeats)
    for run in sorted(gathered.runs, key=lambda run: not run.evaluation):  # stable: else in order of appearance
        if run.status == DONE and run.placed and run.facts.get("seed") is not None:
            key = (*places[run.directory][:2], *(run.facts.get(name) for name in (*KIN, "seed")))
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


def numbers(run: RunRecord) -> dict[str, Any]:
    """The numbers of evaluation.json as columns."""
    row: dict[str, Any] = {}
    for split in SPLITS:
        for name in ("elbo", "reconstruction", "kl"):
            row |= columns(f"{split}_{name}", estimate(run, split, name))
        row |= columns(f"{split}_log_marginal", exact_log_marginal(run, split))
    return row | gap_columns(run)


def _row(
    run: RunRecord,
    values: Mapping[str, Any],
    gathered: Gathered,
    rows: Evaluated,
    table: str | None,
    variant: str | None,
    measurement: str | None,
) -> dict[str, Any]:
    facts = run.facts
    row: dict[str, Any] = {"table": table, "variant": variant}
    row |= {name: facts.get(name) for name in IDENTITY}
    row |= values
    row |= {name: facts.get(name) for name in (*COSTS, "converged", "num_parameters", "num_train")}
    row |= {f"num_{split}_evaluated": rows.counts.get(split) for split in SPLITS}
    row |= {f"{split}_rows": digest[:8] for split, digest in rows.digests.items()}
    row |= {f"{split}_x": digest for split, digest in x_of(run).items()}
    row["measurement"] = measurement or None
    row |= {name: facts.get(name) for name in MACHINE}
    row["vem"] = facts.get("versions", {}).get("vem")
    row["config_hash"] = facts.get("config_hash")
    same = gathered.repeats.get(run.directory, ())
    row["repeated_in"] = " ".join(gathered.relative(r.directory) for r in same) or None
    row["directory"] = gathered.relative(run.directory)
    row["evaluated"] = bool(run.evaluation)
    row["damaged"] = " | ".join(relative_damage(rows.damage, gathered.base)) or None
    row["notes"] = " | ".join(map(str, facts.get("notes") or [])) or None
    row["error"] = facts.get("error")
    return row


def relative_damage(damage: Sequence[str], base: Path) -> list[str]:
    """The sentences with paths as the report names them."""
    return [text.replace(f"{base}/", "") for text in damage]
