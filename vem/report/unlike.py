"""Cautions where seeds or groups were not measured alike, have other starts or did not converge, or where other code
made them; with the commands that mend it. In words by templates/remarks.txt.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vem.report.alike import OTHER_ROWS, bearing
from vem.report.groups import differing_code
from vem.report.kin import values_of
from vem.report.labels import whole
from vem.report.prose import worded
from vem.report.quantities import estimate, gaps_of
from vem.report.runs import RunRecord
from vem.report.starts import EXACT, longer, rule
from vem.report.words import Row

SIZE = "evaluation.num_data"
ONE = 0.01  # nats by which seeds of a method with one optimum may differ
PCA = ("vem.models.linear_gaussian.LinearGaussian", "isotropic")
Command = Callable[[str, str], str]  # of a run's directory and options, that measures it again
Settings = Mapping[str, Mapping[str, str]]  # of each run, by its directory


def about_code(groups: Mapping[str, Sequence[RunRecord]]) -> list[str]:
    """A sentence for each group, by label, whose seeds different code made, and one on what differs between groups."""
    out = []
    within = {label: found for label, runs in groups.items() if (found := differing_code(runs))}
    for label, found in within.items():
        versions = next(iter(found.values())).values()
        seeds = [", ".join(str(whole(run.facts.get("seed"))) for run in made) for made in versions]
        out.append(worded("remarks", "seeds_of_code", who=label, seeds=seeds, what=list(found)))
    told = {what for found in within.values() for what in found}
    rest = [what for what in differing_code(run for runs in groups.values() for run in runs) if what not in told]
    return [*out, *([worded("remarks", "groups_of_code", what=rest)] if rest else [])]


def about_starts(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """A sentence for each group of exact EM whose seeds differ where they should not, or may."""
    for row in rows:
        pairs = (text.split("=") for text in row.get("train_elbo_seeds") or ())
        found = {seed: float(elbo) for seed, elbo in pairs}
        own = next((settings[d] for d in row["directories"] if d in settings), {})  # of the first run
        if len(found) < 2 or own.get("strategy._target_") not in EXACT:
            continue
        model = own.get("model._target_")
        low, high = min(found.values()), max(found.values())
        if (model, own.get("model.noise")) == PCA and high - low > ONE:
            yield worded("remarks", "one_optimum", who=row["label"], spread=high - low)
        if model == "vem.models.mixture.Mixture":
            facts = {"starts": len(found), "low": low, "high": high, "best": max(found, key=lambda seed: found[seed])}
            yield worded("remarks", "over_starts", who=row["label"], **facts)


def unconverged(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Training that ended by its number of epochs although a rule of convergence was set."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for directory in row.get("unconverged") or ():
            own = settings.get(directory, {})
            if (asked := rule(own)) is not None:
                found.setdefault((asked, longer(own)), []).append(row["label"])
    for (asked, remedy), labels in found.items():
        facts = {"rule": asked, "remedy": remedy, "runs": len(labels)}
        yield worded("remarks", "unconverged", who=list(dict.fromkeys(labels)), **facts)


def measured_unlike(
    rows: Sequence[Row], base: Path, settings: Settings, beside: Mapping[str, str] | None = None
) -> list[str]:
    """A sentence for each reason; the others as in :class:`vem.report.cautions.Sources`."""

    def command(directory: str, options: str) -> str:
        of = (beside or {}).get(directory)  # a folder beside a run holds no model
        where = base / directory
        if where.is_relative_to(os.getcwd()):  # as one would type it
            where = where.relative_to(os.getcwd())
        place = shlex.quote(where.as_posix())
        run, out = (shlex.quote(of), f" --out {place}") if of else (place, "")
        return f"python -m vem.evaluate {run} {options}{out}"

    return [*_partly(rows, command), *_elsewhere(rows, command, settings), *_budgets(rows, settings),
            *_unmeasured(rows, command)]  # fmt: skip


def _partly(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """Gaps that some seeds of a group have, with the runs that lack them."""
    for row in rows:
        facts = {"who": row["label"], "kept": int(row.get("gap_seeds") or 0), "seeds": row["seeds"]}
        if other := row.get("other_gaps"):
            yield worded("remarks", "other_gaps", **facts, runs=other)
        if without := row.get("without_gaps"):
            again = command(without[0], "evaluation=gaps")
            yield worded("remarks", "without_gaps", **facts, runs=without, command=again)


def _elsewhere(rows: Sequence[Row], command: Command, settings: Settings) -> Iterator[str]:
    """Seeds that were measured again, on other test data than those of their table."""
    for row in rows:
        if other := row.get(OTHER_ROWS):
            here = next((settings.get(d, {}).get(SIZE) for d in row["directories"] if d not in other), None)
            gauged = row.get("gap_seeds") and other[0] not in (row.get("without_gaps") or ())
            again = here and command(other[0], f"{'evaluation=gaps ' if gauged else ''}{SIZE}={here}")
            facts = {"kept": row["seeds"] - len(other), "seeds": row["seeds"], "runs": other}
            yield worded("remarks", "other_rows", who=row["label"], **facts, command=again)


def _budgets(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Groups whose gaps were measured by different settings, or of different data."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if row.get("gap_seeds"):
            left = {*(row.get("without_gaps") or ()), *(row.get("other_gaps") or ())}
            own = next((settings[d] for d in row["directories"] if d not in left and d in settings), {})
            found[row["label"]] = bearing(own) | {"test data": f"{row.get('gap_rows') or 0:g}"}
    differ = [f"{key} {' | '.join('not set' if v is None else v for v in values)}"
              for key, values in values_of(list(found.values())).items() if len(values) > 1]  # fmt: skip
    if differ:
        yield worded("remarks", "budgets", who=list(found), differ=differ)


def _unmeasured(rows: Sequence[Row], command: Command) -> Iterator[str]:
    """The command that would measure the gaps."""
    known = [[estimate(row, "test", name).mean is not None for name in ("elbo", "log_marginal")] for row in rows]
    without = [row for row, own in zip(rows, known, strict=True) if row["seeds"] and own == [True, False]
               and not (row.get("gap_seeds") or gaps_of(row, "test") or gaps_of(row, "train"))]  # fmt: skip
    if runs := [directory for row in without for directory in row["directories"]]:
        facts = {"runs": len(runs), "command": command(runs[0], "evaluation=gaps")}
        yield worded("remarks", "unmeasured", who=[row["label"] for row in without], **facts)
