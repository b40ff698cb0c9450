"""Paired differences of test ELBOs: datum by datum within a seed, then over the seeds that both groups have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from vem.report.rows import Numbers

LEVEL = 0.95
ONE_DATUM = "one test datum, and so no error over data"


class Scores(NamedTuple):
    """The test ELBO of one run: its mean, and the ELBO of each evaluated row where it is known."""

    mean: float | None
    rows: Numbers | None = None
    elbo: Numbers | None = None


class Difference(NamedTuple):
    """Mean of a paired difference in nats per datum, its standard error, the ends of its interval.

    ``over``: ``seeds``, or ``data`` where there is one common seed. ``df``: degrees of freedom. An interval over seeds
    holds the test data fixed; ``data_se``, with ``data_df``, is the error over data of the difference that is
    averaged over the seeds, None where the ELBOs of the single data are not known, or one datum is ``alone``.
    """

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    seeds: int
    over: str
    df: int
    reason: str | None
    data_se: float | None = None
    data_df: int = 0
    alone: bool = False

    def interval(self, level: float) -> tuple[float, float] | None:
        """mean ± t se at another level; None where there is no error."""
        return _ends(self.mean, self.se, self.df, level)

    def data_interval(self, level: float) -> tuple[float, float] | None:
        """The same with the error over data; None where there is none."""
        return _ends(self.mean, self.data_se, self.data_df, level)


def _ends(mean: float | None, se: float | None, df: int, level: float) -> tuple[float, float] | None:
    if mean is None or se is None:
        return None
    half = float(stdtrit(df, (1 + level) / 2)) * se
    return mean - half, mean + half


def _missing(reason: str, seeds: int = 0) -> Difference:
    return Difference(None, None, None, None, seeds, "seeds", 0, reason)


def paired(own: Mapping[int, Scores], base: Mapping[int, Scores], level: float = LEVEL) -> Difference:
    """Own − base.

        d_s = (1/N) Σ_n (L_s,n − L'_s,n)    over the evaluated data of seed s
        d̄ ± t_{S−1} s/√S,  s² = Σ_s (d_s − d̄)² / (S − 1)    over the S common seeds

    With one common seed the error is that over its data, s²_n / N with N − 1 degrees of freedom. With several there
    is an error over data beside it, of D_n = (1/S) Σ_s (L_s,n − L'_s,n), where all seeds have the same rows.
    own, base: seed → scores on the same rows.
    """
    common = sorted(seed for seed in set(own) & set(base) if not _elsewhere(own[seed], base[seed]))
    if not common:
        return _missing("no seed in common" + (", evaluated on the same data" if set(own) & set(base) else ""))
    missing = [seed for seed in common if own[seed].mean is None or base[seed].mean is None]
    if missing:
        return _missing(f"seed {missing[0]} has no test ELBO", len(common))
    if len(common) == 1:
        return _over_data(own[common[0]], base[common[0]], level)
    d = np.array([_of_seed(own[seed], base[seed]) for seed in common])
    found = _summary(d, len(common), "seeds", level)
    by_datum = [_by_datum(own[seed], base[seed]) for seed in common]
    over_data = data_error(by_datum, [own[seed].rows for seed in common])
    if over_data is None:
        return found._replace(alone=all(rows is not None and len(rows) == 1 for rows in by_datum))
    return found._replace(data_se=over_data[0], data_df=over_data[1])


def data_error(values: Sequence[Numbers | None], rows: Sequence[Numbers | None]) -> tuple[float, int] | None:
    """Standard error over data of values that are averaged over seeds, and its degrees of freedom.

    values, rows: by seed, [N]. None where a seed lacks them, its rows are others, or there is one datum.
    """
    known = [v for v in values if v is not None and np.isfinite(v).all()]
    same = rows[0] is not None and all(r is not None and np.array_equal(r, rows[0]) for r in rows)
    if len(known) < len(values) or not same or len(known[0]) < 2:
        return None
    mean = np.mean(known, axis=0)
    return float(mean.std(ddof=1)) / math.sqrt(len(mean)), len(mean) - 1


def _of_seed(own: Scores, base: Scores) -> float:
    rows = _by_datum(own, base)
    return float(rows.mean()) if rows is not None else float(own.mean or 0.0) - float(base.mean or 0.0)


def _elsewhere(own: Scores, base: Scores) -> bool:
    """Whether two runs are known to have been evaluated on other rows."""
    return own.rows is not None and base.rows is not None and not np.array_equal(own.rows, base.rows)


def _by_datum(own: Scores, base: Scores) -> Numbers | None:
    """One difference for each datum; None where the rows are not known, not the same, or not all finite."""
    if own.rows is None or base.rows is None or own.elbo is None or base.elbo is None:
        return None
    if not np.array_equal(own.rows, base.rows):
        return None
    d = own.elbo - base.elbo
    return d if len(d) and np.isfinite(d).all() else None


def _over_data(own: Scores, base: Scores, level: float) -> Difference:
    rows = _by_datum(own, base)
    if rows is not None and len(rows) > 1:
        found = _summary(rows, 1, "data", level)
        return found._replace(data_se=found.se, data_df=found.df)
    reason = "one common seed, and no ELBO of each datum that could be paired" if rows is None else ONE_DATUM
    return Difference(_of_seed(own, base), None, None, None, 1, "data", 0, reason, alone=rows is not None)


def _summary(d: Numbers, seeds: int, over: str, level: float) -> Difference:
    mean, se, df = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1
    low, high = _ends(mean, se, df, level) or (None, None)
    return Difference(mean, se, low, high, seeds, over, df, None)
