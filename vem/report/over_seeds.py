"""The numbers of one group over its seeds: bounds, gaps, and what is known of log p(x)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from vem.report.alike import having, measured, on_the_same_rows
from vem.report.estimates import GAPS, OTHERS
from vem.storage.records import SPLITS

# Where a run measured its gaps.
GAP_ESTIMATES = tuple(
    f"{split}_{name}"
    for split in SPLITS
    for name in (*(f"{g}_gap" for g in GAPS), "log_marginal_lower", "log_marginal_upper")
)
# What families, generalization and exact models add to them.
FURTHER = r"^[a-z]+_(family_.+|amortization_generalization|model_generalization_.+|exact_loss)_at_least$"
CONVERGED = r"^[a-z]+_family_.+_converged$"
BOUNDS = tuple(f"{split}_{name}_bound" for split in SPLITS for name in OTHERS)
OTHER = "evaluated on other data than the table is about"
Runs = Sequence[Mapping[str, Any]]


def mean_and_se(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean over seeds, and its standard error s/√n with s² = Σ(x − x̄)²/(n − 1); no error for one seed.

    >>> mean_and_se([1.0, 3.0])
    (2.0, 1.0)
    """
    x = np.asarray(values, dtype=float)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None


def estimate_over_seeds(name: str, done: Runs) -> dict[str, Any]:
    """:func:`over_members` of the runs that were evaluated on the same rows."""
    return over_members(name, on_the_same_rows(name.partition("_")[0], done), done)


def over_members(name: str, members: Runs, every: Runs) -> dict[str, Any]:
    """Mean, its error over seeds, of one seed that over its data; or why a seed has no number.

    ``NAME_over``: how many the members are, where they are not all.
    """
    done = members
    missing = [m for m in done if m[name] is None]
    row: dict[str, Any] = dict.fromkeys(f"{name}_{part}" for part in ("mean", "se", "data_se", "reason"))
    if missing:
        which = "" if len(done) == 1 else f"seed {missing[0]['seed']}: "
        row[f"{name}_reason"] = f"{which}{missing[0][f'{name}_reason'] or 'not measured'}"
    elif not done:
        row[f"{name}_reason"] = OTHER if every else "no run is finished"
    else:
        row[f"{name}_mean"], row[f"{name}_se"] = mean_and_se([m[name] for m in done])
        row[f"{name}_data_se"] = done[0][f"{name}_se"] if len(done) == 1 else None
    return row | {f"{name}_over": len(done) if len(done) < len(every) and row[f"{name}_mean"] is not None else None}


def gaps_over_seeds(done: Runs, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The gaps, the kinds of log p(x) they are taken from, active units, and which checks some seed failed.

        NAME_ci95_low, …_high                      x̄ ± t_{n−1} s/√n over n seeds, on these data; of one over its data
                                                   (no …_high where NAME_at_least)
        NAME_data_se, NAME_data_ci95_low, …_high   the means over seeds of the runs' own errors and ends over data

    The error over data of a mean over seeds is not above the mean of the seeds' errors (‖Σ x_s‖ ≤ Σ ‖x_s‖ for standard
    deviations); :func:`vem.report.over_data.with_data_errors` puts a sharper one in its place where it can.
    Gaps are over the runs that measured them alike: ``gap_seeds`` counts these, ``without_gaps`` names those that did
    not measure them and ``other_gaps`` those that did so by other settings.
    """
    row: dict[str, Any] = {}
    gauged = [m for m in done if measured(m)]
    alike = having("", done) if gauged else list(done)
    further = [c.removesuffix("_at_least") for c in columns if re.search(FURTHER, c)]
    for name in (*(n for n in GAP_ESTIMATES if n in columns), *further):
        members = having(name, done)
        row |= over_members(name, members, done) | _identified(name, members)
        at_least = any(m.get(f"{name}_at_least") for m in members)
        row |= _intervals(name, members, row[f"{name}_mean"], row[f"{name}_se"], at_least)
        row[f"{name}_at_least"] = at_least if row[f"{name}_mean"] is not None else None
    if gauged:
        row["gap_seeds"] = len(alike)
        row["gap_rows"] = next((n for m in alike if (n := m.get("num_test_evaluated")) is not None), None)
        row["without_gaps"] = [m["directory"] for m in done if m not in gauged]
        row["other_gaps"] = [m["directory"] for m in gauged if m not in alike]
    for split in SPLITS:
        if f"{split}_log_marginal_kind" in columns:
            row[f"{split}_log_marginal_kind"] = _joined(m[f"{split}_log_marginal_kind"] for m in alike)
            row[f"{split}_gap_data"] = _joined(m.get(f"{split}_gap_data") for m in alike)
            row[f"{split}_checks"] = _joined(m[f"{split}_checks"] for m in done)
            units = [m[f"{split}_active_units"] for m in alike if m[f"{split}_active_units"] is not None]
            row[f"{split}_active_units_mean"] = mean_and_se(units)[0] if units else None
            for end in ("width", "worst"):  # of any seed: what a bound may miss is not averaged away
                name = f"{split}_log_marginal_simulated_{end}"
                found = [m[name] for m in alike if m.get(name) is not None]
                row[name] = max(found) if found else None
    for name in (c for c in columns if re.search(CONVERGED, c)):
        shares = [m[name] for m in having(name, done) if m[name] is not None]
        row[f"{name}_mean"] = mean_and_se(shares)[0] if shares else None
    for name in ("checks_failed", "not_tested"):
        if name in columns:
            row[name] = _joined(m[name] for m in done)
    return row


def _intervals(name: str, done: Runs, mean: float | None, se: float | None, at_least: bool) -> dict[str, Any]:
    """The 95 % interval over seeds (of one seed over its data), and the error over data beside it.

    ``at_least``: in some seed the number is known from below alone, so that no interval of the mean has an upper end.
    """
    low, high = _of_all(f"{name}_ci95_low", done), _of_all(f"{name}_ci95_high", done)
    row = {f"{name}_data_se": _of_all(f"{name}_se", done), f"{name}_data_ci95_low": low, f"{name}_data_ci95_high": high}
    if mean is None:
        row = dict.fromkeys(row)
        low = high = None
    elif se is not None:
        half = float(stdtrit(len(done) - 1, 0.975)) * se
        low, high = mean - half, None if at_least else mean + half
    return row | {f"{name}_ci95_low": low, f"{name}_ci95_high": high}


def _of_all(column: str, done: Runs) -> float | None:
    """The mean of a column over the runs; None where one lacks it."""
    found = [m.get(column) for m in done]
    known = [value for value in found if value is not None]
    return mean_and_se(known)[0] if known and len(known) == len(found) else None


def _identified(name: str, done: Runs) -> dict[str, Any]:
    """What the mean could be if log p(x) were known: the ends' means over seeds, None where one has no limit.

    ``_sought``: whether it was, in some seed, so that a missing mean is undefined and not inapplicable.
    """
    row: dict[str, Any] = {f"{name}_sought": any(m.get(f"{name}_sought") for m in done)}
    for end in ("low", "high"):
        found = [value for m in done if (value := m.get(f"{name}_identified_{end}")) is not None]
        row[f"{name}_identified_{end}"] = mean_and_se(found)[0] if found and len(found) == len(done) else None
    return row


def bounds_over_seeds(done: Runs, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The lower bounds beside it; the fewest effective samples of any seed, for one loose seed makes a loose mean."""
    row: dict[str, Any] = {}
    for name in (n for n in BOUNDS if n in columns):
        members = having(name, done)
        row |= over_members(name, members, done)
        row[f"{name}_kind"] = _joined(m[f"{name}_kind"] for m in members)
        samples = [m[f"{name}_ess"] for m in members if m[f"{name}_ess"] is not None]
        row[f"{name}_ess"] = min(samples) if samples else None
        row[f"{name}_loose"] = any(m[f"{name}_loose"] for m in members)
    return row


def _joined(words: Iterable[str | None]) -> str | None:
    """The different words, each once; None where there are none."""
    return "; ".join(dict.fromkeys(word for word in words if word)) or None
