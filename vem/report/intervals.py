"""Every interval of the report: Student's t over seeds or over data, Welch's between two sets of data.

An interval over seeds holds the test data fixed. Beside it stands the error over data of the mean over these seeds:
datum by datum where every seed has each number of the same data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from vem.errors import VemError
from vem.report.files import Numbers, read_per_datum
from vem.report.quantities import GENERALIZATION

LEVEL = 0.95
ONE_DATUM = "one test data point, and so no error over data"
NOT_PAIRED = "one common seed, and no ELBOs of data points that could be paired"
Error = tuple[float, float]  # standard error and degrees of freedom
Ends = tuple[float | None, float | None]


def mean_and_se(values: Sequence[float] | Numbers) -> tuple[float, float | None]:
    """Mean and its standard error s/√n with s² = Σ(x − x̄)²/(n − 1); no error for one value.

    >>> mean_and_se([1.0, 3.0])
    (2.0, 1.0)
    """
    x = np.asarray(values, dtype=float)
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else None


@cache
def _quantile(df: float, level: float) -> float:
    return float(stats.t.interval(level, df)[1])


def interval(mean: float | None, se: float | None, df: float, level: float = LEVEL) -> tuple[float, float] | None:
    """mean ± t se with ``df`` degrees of freedom (∞: normal); None without an error.

    >>> interval(1.0, 0.1, 1)[1] - 1 > interval(1.0, 0.1, math.inf)[1] - 1, interval(1.0, None, 0)
    (True, None)

    Source: Student, 1908.
    """
    if mean is None or se is None:
        return None
    half = _quantile(df, level) * se if se > 0 else 0.0
    return mean - half, mean + half


def corrected(count: int) -> float:
    """The level of each of so many intervals that hold together (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(count, 1)


# --- paired differences of test ELBOs


class Scores(NamedTuple):
    """The test ELBO of one run: its mean, and the ELBO of each evaluated row where it is known."""

    mean: float | None
    rows: Numbers | None = None
    elbo: Numbers | None = None


class Difference(NamedTuple):
    """A paired difference in nats per data point, its standard error, and the ends of its interval."""

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    seeds: int
    over: str  # ``seeds``, with the test data held fixed, or ``data`` where there is one common seed
    df: int  # degrees of freedom
    reason: str | None
    data_se: float | None = None  # over data, of the difference averaged over the seeds, where those of data are known
    data_df: int = 0
    alone: bool = False  # whether there is one datum

    def interval(self, level: float) -> tuple[float, float] | None:
        """mean ± t se at another level; None where there is no error."""
        return interval(self.mean, self.se, self.df, level)

    def data_interval(self, level: float) -> tuple[float, float] | None:
        """The same with the error over data; None where there is none."""
        return interval(self.mean, self.data_se, self.data_df, level)

    def ends(self, level: float) -> tuple[Ends, Ends]:
        """The ends of both, None where there are none."""
        return self.interval(level) or (None, None), self.data_interval(level) or (None, None)


def paired(own: Mapping[int, Scores], base: Mapping[int, Scores]) -> Difference:
    """Own − base.

        d_s = (1/N) Σ_n (L_s,n − L'_s,n)    over the evaluated data of seed s
        d̄ ± t_{S−1} s/√S,  s² = Σ_s (d_s − d̄)² / (S − 1)    over the S common seeds

    With one common seed the error is that over its data, s²_n / N with N − 1 degrees of freedom. With several there
    is an error over data beside it, of D_n = (1/S) Σ_s (L_s,n − L'_s,n), where all seeds have the same rows.
    own, base: seed → scores on the same rows.
    """
    shared = sorted({*own} & {*base})
    common = [seed for seed in shared if _same_rows([own[seed].rows, base[seed].rows]) is not False]
    missing = [seed for seed in common if own[seed].mean is None or base[seed].mean is None]
    if not common or missing:
        none = "no seed in common" + (", evaluated on the same data" if shared else "")
        why = f"seed {missing[0]} has no test ELBO" if missing else none
        return Difference(None, None, None, None, len(common), "seeds", 0, why)
    by_datum = [_by_datum(own[seed], base[seed]) for seed in common]
    means = [float(own[seed].mean or 0.0) - float(base[seed].mean or 0.0) if d is None else float(d.mean())
             for seed, d in zip(common, by_datum, strict=True)]  # fmt: skip
    data_se, data_df = data_error(by_datum, [own[seed].rows for seed in common]) or (None, 0)
    alone = data_se is None and all(d is not None and len(d) == 1 for d in by_datum)
    mean, se = mean_and_se(means)
    reason, over, df = None, "seeds", len(common) - 1
    if len(common) == 1:
        over, se, df = "data", data_se, data_df
        reason = None if se is not None else ONE_DATUM if alone else NOT_PAIRED
    low, high = interval(mean, se, df) or (None, None)
    return Difference(mean, se, low, high, len(common), over, df, reason, data_se, data_df, alone)


def data_error(values: Sequence[Numbers | None], rows: Sequence[Numbers | None]) -> tuple[float, int] | None:
    """Standard error over data of values that are averaged over seeds, and its degrees of freedom.

    values, rows: by seed, [N]. None where a seed lacks them, its rows are others, or there is one datum.
    """
    known = [v for v in values if v is not None and np.isfinite(v).all()]
    if len(known) < len(values) or not _same_rows(rows):
        return None
    _, se = mean_and_se(np.mean(known, axis=0))
    return None if se is None else (se, len(known[0]) - 1)


def _same_rows(rows: Sequence[Numbers | None]) -> bool | None:
    """Whether they are the same; None where some are not known."""
    known = [r for r in rows if r is not None]
    return all(np.array_equal(r, known[0]) for r in known) if len(known) == len(rows) else None


def _by_datum(own: Scores, base: Scores) -> Numbers | None:
    """One difference for each datum; None where the rows are not known, not the same, or not all finite."""
    if own.elbo is None or base.elbo is None or not _same_rows([own.rows, base.rows]):
        return None
    d = own.elbo - base.elbo
    return d if len(d) and np.isfinite(d).all() else None


# --- the error over data of a group's numbers

# Columns of per_datum.csv: a number of each datum is the first less the second, or the first alone.
OF_DATUM: dict[str, tuple[str, ...]] = {
    "elbo": ("elbo",),
    "approximation_gap": ("log_marginal_lower", "best_elbo"),
    "amortization_gap": ("best_elbo", "elbo"),
    "optimization_gap": ("best_elbo", "elbo"),
    "inference_gap": ("log_marginal_lower", "elbo"),
    "exact_loss": ("log_marginal_lower", "elbo"),
}
# Differences between training and held-out data, up to their sign.
BETWEEN = dict(zip(GENERALIZATION, (("best_elbo", "elbo"), ("best_elbo",), ("log_marginal_lower",)), strict=True))
AGREE = 1e-4  # relative, and nats: how well per_datum.csv must agree with evaluation.json
_OfData = tuple[Numbers, Numbers]  # the numbers of rows, in order, and a number of each


def read_data(directory: Path) -> dict[str, pd.DataFrame]:
    """The evaluated data of one run by split, sorted by row."""
    try:
        table = read_per_datum(directory, ("split", "row", "elbo", "best_elbo", "log_marginal_lower"))
        return {str(name): part.sort_values("row") for name, part in table.groupby("split")}
    except (VemError, KeyError, TypeError):
        return {}


def over_data(
    split: str, name: str, told: Sequence[float | None], files: Sequence[Mapping[str, pd.DataFrame]]
) -> Error | None:
    """The error over data of a number that is averaged over seeds: of a gap s(D) / √N, D_n = (1/S) Σ_s gap_s,n.

    Of a difference between two sets of data the squared errors add, with Welch's degrees of freedom. None where not
    every seed has the number of the same data, or its file does not hold what evaluation.json tells.
    told, files: of each seed the number, and :func:`read_data`.
    Source: Welch, 1947, eq. 28 (Satterthwaite, 1946).
    """
    where, terms = ((split,), OF_DATUM[name]) if name in OF_DATUM else ((split, "train"), BETWEEN[name])
    found = [[values_of(file, place, terms) for place in where] for file in files]
    for seed, mean in zip(found, told, strict=True):
        means = [math.nan if own is None else float(own[1].mean()) for own in seed]
        if len(where) > 1:  # up to its sign
            means, mean = [abs(means[0] - means[1])], None if mean is None else abs(mean)
        if mean is None or not np.isclose(means[0], mean, rtol=AGREE, atol=AGREE):
            return None
    errors = [data_error([o and o[1] for o in own], [o and o[0] for o in own]) for own in zip(*found, strict=True)]
    if None in errors or len(errors) == 1:
        return errors[0] if len(errors) == 1 else None
    (one, n), (other, m) = filter(None, errors)
    below = one**4 / n + other**4 / m
    return math.hypot(one, other), (one**2 + other**2) ** 2 / below if below > 0 else 1.0


def values_of(file: Mapping[str, pd.DataFrame], split: str, columns: Sequence[str]) -> _OfData | None:
    """A number of each datum of one run that has it; None where its file does not have it."""
    table = file.get(split)
    if table is None or not len(table) or not {"row", *columns} <= set(table.columns):
        return None
    first, *second = (pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in columns)
    values = first - second[0] if second else first
    known = ~np.isnan(values)  # gaps may be measured of some data alone
    return (table["row"].to_numpy(float)[known], values[known]) if known.any() else None
