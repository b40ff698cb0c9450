"""One number for each data point with its Monte Carlo variance: paired differences, intervals, shortfalls, outliers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from scipy.stats import t
from torch import Tensor

from vem.evaluation.thresholds import Thresholds
from vem.numerics import mean_and_se
from vem.storage.records import number

NO_SPREAD = "the Monte Carlo variance is not known: one draw has no spread (set evaluation.draws > 1)"
ONE_DATUM = "a mean over one datum, or one that is not finite, has no known error"
CI_METHOD = (
    "Student's t with N − 1 degrees of freedom on the differences paired datum by datum; between two splits "
    "Welch's t. se is over data and holds the Monte Carlo noise as well, for that is independent across data; "
    "mc_se is the Monte Carlo noise alone, independent between the two terms of a difference. "
    "identified is what the number could be if the means were known without error; null is no limit. "
    "Where the number itself is such a limit, because log p(x) is known from one side alone, the interval has one end, "
    "that of the two-sided 95 % interval: at least (at most) so much, with 97.5 % confidence."
)
FEW = 0.2  # share of the data up to which those far out are outliers

Interval = tuple[float | None, float | None]


class Sample(NamedTuple):
    """One number for each data point, nats."""

    values: Tensor  # [N]
    mc_variance: Tensor  # [N] of the Monte Carlo noise in it; NaN where it is not known

    def minus(self, other: Sample) -> Sample:
        """The difference for each data point; the noise of the two is independent, so that variances add."""
        return Sample(self.values - other.values, self.mc_variance + other.mc_variance)

    def finite(self) -> Sample:
        """The data whose value is finite."""
        kept = self.values.isfinite()
        return Sample(self.values[kept], self.mc_variance[kept])

    def mc_se(self) -> float:
        """Monte Carlo error of the mean, √(Σ v_n) / N; NaN where a variance is not known."""
        return float(self.mc_variance.double().sum().sqrt()) / max(len(self.values), 1)


def sample(values: Tensor, mc_variance: Tensor | None = None) -> Sample:
    """A sample in float64; without ``mc_variance`` it holds no Monte Carlo noise."""
    variance = torch.zeros_like(values) if mc_variance is None else mc_variance
    return Sample(values.double(), variance.double().expand(values.shape))


def _numbers(mean: float, se: float, mc_se: float, reason: str) -> dict[str, Any]:
    return {"mean": number(mean, reason), "se": number(se, ONE_DATUM), "mc_se": number(mc_se, NO_SPREAD)}


def estimate(values: Sample) -> dict[str, Any]:
    """The mean with its error over data and its Monte Carlo error, as they stand in ``evaluation.json``.

    >>> estimate(sample(torch.tensor([1.0, 3.0])))
    {'mean': 2.0, 'se': 1.0, 'mc_se': 0.0}
    """
    bad = int((~values.values.isfinite()).sum())
    reason = f"{bad} of {len(values.values)} data have no finite value" if bad else "there are no data"
    return _numbers(*mean_and_se(values.values), values.mc_se(), reason)


def raised(whole: Sample, part: Sample, values: Sample) -> dict[str, Any]:
    """The mean over all N data of a number that was measured of M of them, from another one that is known of all.

        mean = (1/N) Σ_N a_n + (1/M) Σ_M (v_n − a_n),   se² = s(v)²/N + (1/M − 1/N) s(v − a)²

    whole: a_n of all N data; part, values: a_n and v_n of the M, in one order; as :func:`estimate` gives it. So the
    means keep the differences that are paired over the M: mean(v) − mean(a) is the mean of v − a over them.

    Source: Cochran, 1977, chapter 12 (double sampling, difference estimator).
    """
    total, measured, difference = len(whole.values), len(values.values), values.values - part.values
    (shift, spread), (_, own) = mean_and_se(difference), mean_and_se(values.values)
    se = math.sqrt(own**2 * measured / total + spread**2 * (1 - measured / total))
    # A data point of the M has weight 1/N − 1/M in a, and 1/M in v.
    noise = (whole.mc_variance.sum() - part.mc_variance.sum()) / total**2
    noise += part.mc_variance.sum() * (1 / measured - 1 / total) ** 2 + values.mc_variance.sum() / measured**2
    mean, mc_se = mean_and_se(whole.values)[0] + shift, float(noise.clamp_min(0).sqrt())
    return _numbers(mean, se, mc_se, "some data have no finite value")


def gap(difference: Sample, identified: Interval | None = None) -> dict[str, Any]:
    """A paired difference: :func:`estimate`, its 95 % interval x̄ ± t_{N−1} s/√N, and what it identifies.

    ``identified`` is the mean itself where nothing else is said; [mean, None] leaves the interval its lower end alone.

    Source: Student, 1908.
    """
    mean, se = mean_and_se(difference.values)
    return _with_interval(estimate(difference), mean, se, len(difference.values) - 1, identified)


def between(one: Sample, other: Sample, identified: Interval | None = None) -> dict[str, Any]:
    """mean(one) − mean(other) of two independent samples: variances add, Welch's interval.

    Degrees of freedom (a + b)² / (a²/(n−1) + b²/(m−1)) with a, b the squared errors of the two means.

    Source: Welch, 1947, eq. 28 (Satterthwaite, 1946).
    """
    (mean1, se1), (mean2, se2) = mean_and_se(one.values), mean_and_se(other.values)
    se = math.hypot(se1, se2)
    parts = se1**4 / max(len(one.values) - 1, 1) + se2**4 / max(len(other.values) - 1, 1)
    freedom = se**4 / parts if parts > 0 else 1.0
    numbers = _numbers(mean1 - mean2, se, math.hypot(one.mc_se(), other.mc_se()), "one of the two means is not finite")
    return _with_interval(numbers, mean1 - mean2, se, freedom, identified)


def _with_interval(
    numbers: dict[str, Any], mean: float, se: float, freedom: float, identified: Interval | None
) -> dict[str, Any]:
    """What is identified, null for no limit, and the ends of the interval that limit what is meant.

    One end, where the mean is itself a limit from that side alone.
    """

    def itself(end: float | None) -> bool:
        return end is not None and math.isclose(end, mean, rel_tol=1e-6, abs_tol=1e-9)

    low, high = (float(end) for end in t.interval(0.95, freedom, mean, se)) if se > 0 else (mean - se, mean + se)
    least, most = (end if end is not None and math.isfinite(end) else None for end in identified or (mean, mean))
    ends = [None if least is None and itself(most) else low, None if most is None and itself(least) else high]
    known = math.isfinite(low) and math.isfinite(high)
    return numbers | {"identified": [least, most], "ci95": ends if known else number(None, ONE_DATUM)}


class Shortfall(NamedTuple):
    """How far a difference that cannot be negative lies below zero."""

    mean: float
    error: float  # of the mean: Monte Carlo alone where that is known, else over data
    source: str
    allowed: float  # how far below zero the mean may lie
    rows: Tensor  # places of the data that lie below zero beyond their own error

    @property
    def beyond(self) -> bool:
        """Whether the mean lies below zero by more than its error allows."""
        return self.judged and not self.mean >= -self.allowed

    @property
    def judged(self) -> bool:
        """Whether there is an error to hold the mean against: of one data point of unknown noise there is none."""
        return not (math.isfinite(self.mean) and math.isnan(self.error))


def shortfall(difference: Sample, limits: Thresholds, rounding: float = 0.0) -> Shortfall:
    """Hold a difference [N], true for each data point at least 0, against z standard errors.

    The mean is held against its Monte Carlo error √(Σ v_n)/N, for over data there is nothing to forgive: the
    inequality holds for each of them. Where v is not known the error over data stands in, which holds that
    noise too. A single data point is held against its own √v_n, but at least the median of them: a variance from
    few draws is often too small. ``rounding``: nats that are forgiven beside ``slack``.
    """
    known = difference.finite()
    mean, over_data = mean_and_se(known.values)
    monte_carlo = known.mc_se()
    error, source = (over_data, "over data") if math.isnan(monte_carlo) else (monte_carlo, "Monte Carlo")
    slack = limits.slack + rounding
    own = difference.mc_variance.sqrt()
    low = difference.values < -(limits.standard_errors * own.clamp_min(_median(own)) + slack)
    return Shortfall(mean, error, source, limits.standard_errors * error + slack, low.nonzero().flatten())


def overshoot(main: Sample, other: Sample, limits: Thresholds, rounding: float = 0.0) -> Shortfall:
    """Hold main − other of two lower bounds on log p(x), of which ``main`` should be the higher one, against its error.

    What the main one may miss by its own account is forgiven: z standard errors, and ½ v_n, by which the log of an
    average lies low in the mean. The other's noise is one-sided: its weights ŵ_n average to at most p(x_n), so that
    E Π_n ŵ_n / p(x_n) ≤ 1 and P(Σ_n log ŵ_n / p(x_n) ≥ t) ≤ e^{−t} by Markov's inequality, whatever its variance is
    said to be. Its mean is thus allowed z standard errors or z²/2N nats, where that is less; a single data point z
    errors, and z of the median one more, for a variance from few chains is often too small.
    """
    difference = main.minus(other)
    known = difference.values.isfinite()
    num, z = max(int(known.sum()), 1), limits.standard_errors
    mean, over_data = mean_and_se(difference.values[known])
    own, its = (Sample(s.values[known], s.mc_variance[known]).mc_se() for s in (main, other))
    error, source = (over_data, "over data") if math.isnan(own + its) else (math.hypot(own, its), "Monte Carlo")
    low = 0.5 * main.mc_variance.nan_to_num(0.0)
    allowed = z * error if math.isnan(own + its) else min(z * error, z * own + 0.5 * z**2 / num)
    slack = limits.slack + rounding
    noise = difference.mc_variance.sqrt()
    each = z * (noise.nan_to_num(_median(noise)) + _median(noise)) + low + slack
    rows = (difference.values < -each).nonzero().flatten()
    return Shortfall(mean, error, source, allowed + float(low[known].mean()) + slack, rows)


def _median(values: Tensor) -> float:
    return float(values.nanmedian()) if values.numel() else 0.0


def outliers(values: Tensor, limit: float) -> Tensor:
    """Places of the data more than ``limit`` robust standard deviations (1.4826 MAD) from the median.

    Outliers are few: where more than a fifth of the data lie so far out, those are a part of the distribution
    (the rest being nearly equal: blank images, say, or one point many times), and the scale is that of theirs.

    >>> outliers(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, -1.6e6]), 25.0).tolist()
    [5]
    """
    finite = values[values.isfinite()]
    if not finite.numel():
        return torch.empty(0, dtype=torch.long)
    centre = finite.median()
    away = (finite - centre).abs()
    rounding = 1e-6 * (1 + centre.abs())
    scale = 1.4826 * away.median() + rounding
    while len(far := away[away > limit * scale]) > FEW * len(finite):
        wider = 1.4826 * far.median() + rounding
        if not wider > scale:
            break
        scale = wider
    return (values.isfinite() & ((values - centre).abs() > limit * scale)).nonzero().flatten()


def influence(values: Tensor, places: Tensor) -> tuple[float, float]:
    """How far the data at ``places`` move the mean, and the standard error of the mean without them.

    The error without them, for with them it grows along: an outlier M among N data moves the mean by M/N and
    its error to M/N.
    """
    kept = values.isfinite()
    mean = values[kept].mean()
    kept = kept.clone()
    kept[places] = False
    without, error = mean_and_se(values[kept])
    return float(mean) - without, error
