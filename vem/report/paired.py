"""Paired differences of test ELBOs: datum by datum within a seed, then over the seeds that both groups have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from vem.report.rows import Numbers

LEVEL = 0.95


class Scores(NamedTuple):
    """The test ELBO of one run: its mean, and the ELBO of each evaluated row where it is known."""

    mean: float | None
    rows: Numbers | None = None
    elbo: Numbers | None = None


class Difference(NamedTuple):
    """Mean of a paired difference in nats per datum, its standard error, the ends of its interval.

    ``over``: ``seeds``, or ``data`` where there is one common seed. ``df``: degrees of freedom.
    """

    mean: float | None
    se: float | None
    low: float | None
    high: float | None
    seeds: int
    over: str
    df: int
    reason: str | None

    def interval(self, level: float) -> tuple[float, float] | None:
        """mean ± t se at another level; None where there is no error."""
        if self.mean is None or self.se is None:
            return None
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return self.mean - half, self.mean + half


def _missing(reason: str, seeds: int = 0) -> Difference:
    return Difference(None, None, None, None, seeds, "seeds", 0, reason)


def paired(own: Mapping[int, Scores], base: Mapping[int, Scores], level: float = LEVEL) -> Difference:
    """Own − base.

        d_s = (1/N) Σ_n (L_s,n − L'_s,n)    over the evaluated data of seed s
        d̄ ± t_{S−1} s/√S,  s² = Σ_s (d_s − d̄)² / (S − 1)    over the S common seeds

    With one common seed the error is that over its data, s²_n / N with N − 1 degrees of freedom.
    own, base: seed → scores on the same rows.
    """
    common = sorted(set(own) & set(base))
    if not common:
        return _missing("no seed in common")
    missing = [seed for seed in common if own[seed].mean is None or base[seed].mean is None]
    if missing:
        return _missing(f"seed {missing[0]} has no test ELBO", len(common))
    if len(common) == 1:
        return _over_data(own[common[0]], base[common[0]], level)
    d = np.array([_of_seed(own[seed], base[seed]) for seed in common])
    return _summary(d, len(common), "seeds", level)


def _of_seed(own: Scores, base: Scores) -> float:
    rows = _by_datum(own, base)
    return float(rows.mean()) if rows is not None else float(own.mean or 0.0) - float(base.mean or 0.0)


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
        return _summary(rows, 1, "data", level)
    mean = _of_seed(own, base)
    reason = "one common seed, and no ELBO of each datum that could be paired"
    return Difference(mean, None, None, None, 1, "data", 0, reason)


def _summary(d: Numbers, seeds: int, over: str, level: float) -> Difference:
    mean, se, df = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1
    half = float(stdtrit(df, (1 + level) / 2)) * se
    return Difference(mean, se, mean - half, mean + half, seeds, over, df, None)
