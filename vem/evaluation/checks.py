"""Checks that gate: what no right measurement can break, each within its stated error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.errors import at_least
from vem.evaluation import gaps
from vem.evaluation.measured import ESS, MC_VARIANCE, Measured
from vem.evaluation.paired import Sample, influence, outliers, sample
from vem.numerics import mean_and_se

ERROR = "error"  # in LogMarginal.diagnostics of quadrature: [N] its error by refinement
# Which family contains which: the best q of the second cannot be worse than that of the first.
NESTED = (("diagonal_gaussian", "full_gaussian"),)
FIRST = 5  # rows that a detail names


class Check(NamedTuple):
    """One check of one split."""

    name: str
    passed: bool
    detail: str  # the numbers, in nats, with the error they are held against; the remedy where it failed


@dataclass(frozen=True)
class Thresholds:
    """When a check fails.

    Raises:
        VemError: a number out of range.
    """

    standard_errors: float = 4.0  # a difference of the wrong sign is tolerated up to so many of its errors,
    slack: float = 1e-3  # and so many nats for rounding
    exceeding: float = 0.001  # share of the data that may break an inequality beyond their own error
    samples: float = 10.0  # effective samples that a lower bound needs, or a variance of log w̄ below 1/samples
    thin: float = 0.05  # share of the data that may have fewer
    quadrature: float = 0.01  # nats of stated error that log p(x) by quadrature may have
    unconverged: float = 0.05  # share of the data whose q* may not have converged
    outlier: float = 25.0  # robust standard deviations from the median beyond which a datum is an outlier
    influence: float = 3.0  # standard errors that the outliers together may move the mean

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            at_least(value, 0, f"evaluation.checks.{name}")


def check(measured: Measured, thresholds: Thresholds | None = None) -> list[Check]:
    """Every check that the numbers of this split allow; one that lacks its numbers is left out.

    ``finite``, ``best_above_q`` L[q] ≤ L[q*], ``richer_family``, ``best_below_upper`` L[q*] ≤ the upper bound
    on log p(x) and L[q] as well, ``lower_above_best`` (no gap is negative), ``interval_ordered``,
    ``effective_samples``, ``quadrature``, ``converged``, ``outliers``.
    """
    limits = thresholds or Thresholds()
    if not len(measured.scores.rows):
        return []
    parts = (_finite, _best_above_q, _richer_family, _below_upper, _lower_above, _ordered, _samples)
    return [found for part in (*parts, _quadrature, _converged, _outliers) for found in part(measured, limits)]


def named_numbers(measured: Measured) -> dict[str, Sample]:
    """The numbers of each datum that the checks look at, by the names of ``per_datum.csv``."""
    high = gaps.upper(measured)
    found = {
        "elbo": gaps.elbo(measured),
        **{f"best_elbo.{name}": gaps.best_of(family) for name, family in measured.families.items()},
        "log_marginal_lower": gaps.lower(measured),
        "log_marginal_upper": None if high is None else sample(high),
    }
    return {name: values for name, values in found.items() if values is not None}


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
        return not self.mean >= -self.allowed


def shortfall(difference: Sample, limits: Thresholds, rounding: float = 0.0) -> Shortfall:
    """Hold a difference [N], true for each datum at least 0, against z standard errors.

    The mean is held against its Monte Carlo error √(Σ v_n)/N, for over data there is nothing to forgive: the
    inequality holds for each of them. Where v is not known the error over data stands in, which holds that
    noise too. A single datum is held against its own √v_n, but at least the median of them: a variance from
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


def _median(values: Tensor) -> float:
    return float(values.nanmedian()) if values.numel() else 0.0


def _inequality(
    name: str, what: str, larger: Sample, smaller: Sample, measured: Measured, limits: Thresholds, remedy: str,
    each: bool = True, rounding: float = 0.0,
) -> Check:  # fmt: skip
    """A check that ``larger`` ≥ ``smaller`` in the mean and, if ``each``, datum by datum, within stated error.

    ``what`` names the difference; ``remedy`` is said if it fails; ``rounding`` as in :func:`shortfall`.
    """
    size = float(smaller.finite().values.abs().mean()) if len(smaller.values) else 0.0
    found = shortfall(larger.minus(smaller), limits, rounding + 1e-6 * size)  # float32 carries seven digits
    allowed = limits.exceeding * len(larger.values)
    too_many = each and len(found.rows) > max(allowed, 1)
    detail = f"mean {what} = {found.mean:.4g} nats, error {found.error:.2g} ({found.source})"
    if each:
        detail += f"; {len(found.rows)} of {len(larger.values)} data below 0 beyond their own error"
        detail += _naming(measured.scores.rows, found.rows)
    passed = not (found.beyond or too_many)
    return Check(name, passed, detail if passed else f"{detail}. {remedy}")


def _naming(rows: Tensor, places: Tensor) -> str:
    """The first few of the rows at these places."""
    if not len(places):
        return ""
    shown = ", ".join(str(r) for r in rows[places[:FIRST]].tolist())
    more = f" and {len(places) - FIRST} more" if len(places) > FIRST else ""
    return f" (row{'s' if len(places) > 1 else ''} {shown}{more})"


def _finite(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    bad = {n: (~s.values.isfinite()).nonzero().flatten() for n, s in named_numbers(measured).items()}
    parts = [f"{name}: {len(p)} data{_naming(measured.scores.rows, p)}" for name, p in bad.items() if len(p)]
    if not bad:
        return
    remedy = "These data are left out of the other checks: look at them in per_datum.csv."
    yield Check("finite", not parts, f"not finite: {'; '.join(parts)}. {remedy}" if parts else f"{', '.join(bad)}")


def _best_above_q(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    q, best = gaps.elbo(measured), gaps.best_elbo(measured)
    if q is not None and best is not None:
        remedy = "Either q* is not the best q (give its search more steps), or L[q] is no ELBO of this family."
        yield _inequality("best_above_q", "L[q*] − L[q]", best, q, measured, limits, remedy)


def _richer_family(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    for poor, rich in NESTED:
        if poor in measured.families and rich in measured.families:
            one, other = (gaps.best_of(measured.families[name]) for name in (rich, poor))
            remedy = f"The search for the best {rich} stopped short: give it more steps, or start it at the {poor}."
            yield _inequality("richer_family", f"{rich} − {poor}", one, other, measured, limits, remedy)


def _below_upper(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    high = gaps.upper(measured)
    if high is None:
        return
    below = {"L[q]": gaps.elbo(measured), **{n: gaps.best_of(f) for n, f in measured.families.items()}}
    # An exact log p(x) lies above for each datum, an upper bound only in expectation.
    low = gaps.lower(measured)
    exact = low is not None and torch.equal(low.values, high)
    above = sample(high, None if exact else torch.full_like(high, torch.nan))
    forgiven = _forgiven(measured, limits)
    remedy = "What exceeds log p(x) is no lower bound: a wrong sign, a missing log q, or a point mass on continuous z."
    found = [
        _inequality("best_below_upper", f"upper − {name}", above, values, measured, limits, remedy, exact, forgiven)
        for name, values in below.items()
        if values is not None
    ]
    if found:
        yield _all("best_below_upper", found)


def _all(name: str, found: Sequence[Check]) -> Check:
    """Several checks as one: it passes if all do, and tells of those that did not, else of all."""
    failed = [part for part in found if not part.passed]
    return Check(name, not failed, "; ".join(part.detail for part in failed or found))


def _lower_above(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    low = gaps.lower(measured)
    below = {"L[q]": gaps.elbo(measured), "L[q*]": gaps.best_elbo(measured)}
    forgiven = _forgiven(measured, limits)
    remedy = "A negative gap: the estimate of log p(x) is poorer than the ELBO; give it more samples or temperatures."
    found = [
        _inequality("lower_above_best", f"lower − {n}", low, values, measured, limits, remedy, False, forgiven)
        for n, values in below.items()
        if values is not None and low is not None
    ]
    if found:
        yield _all("lower_above_best", found)


def _ordered(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    low, high = gaps.lower(measured), gaps.upper(measured)
    if low is not None and high is not None:
        # The noise of the upper bound is not stated, so the error over data stands in: it holds both.
        above = sample(high, torch.full_like(high, torch.nan))
        remedy = "One of the two bounds on log p(x) is wrong."
        yield _inequality("interval_ordered", "upper − lower", above, low, measured, limits, remedy, each=False)


def _samples(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Weights w of K samples: Var[log w̄] ≈ 1/ESS − 1/K, and log w̄ is about half of that too low.

    So few chains need not be many effective samples, if their weights are nearly equal.
    """
    bound = gaps.log_marginal(measured)
    ess = None if bound is None else bound.diagnostics.get(ESS)
    if bound is None or ess is None or not ess.numel():
        return
    variance = bound.diagnostics.get(MC_VARIANCE, torch.full_like(ess, torch.nan))
    # NaN is neither enough samples nor a small variance.
    thin = (~(ess >= limits.samples) & ~(variance <= 1 / max(limits.samples, 1e-12))).nonzero().flatten()
    share, median = len(thin) / len(ess), float(ess.double().median())
    passed = share <= limits.thin
    detail = f"{bound.kind}: median of {median:.1f} effective samples; {share:.1%} of the data have fewer than "
    detail += f"{limits.samples:g} and weights that differ{_naming(measured.scores.rows, thin)}"
    remedy = ". The lower bound on log p(x) is loose there by an unknown amount: anneal, or take more samples."
    yield Check("effective_samples", passed, detail if passed else detail + remedy)


def _quadrature_error(measured: Measured) -> Tensor | None:
    """The error [N] that quadrature states of its log p(x), if that is where it comes from."""
    bound = gaps.log_marginal(measured)
    error = None if bound is None else bound.diagnostics.get(ERROR)
    return None if error is None or not error.numel() else error.double()


def _forgiven(measured: Measured, limits: Thresholds) -> float:
    """Nats that an inequality with log p(x) is forgiven, because quadrature states so large an error."""
    error = _quadrature_error(measured)
    return 0.0 if error is None else min(float(error.nan_to_num().max()), limits.quadrature)


def _quadrature(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    error = _quadrature_error(measured)
    if error is not None:
        bad = (~(error <= limits.quadrature)).nonzero().flatten()
        detail = (
            f"stated error of log p(x) by refinement: mean {float(error.mean()):.2g}, most {float(error.max()):.2g} "
        )
        detail += f"nats; {len(bad)} data above {limits.quadrature:g}{_naming(measured.scores.rows, bad)}"
        yield Check("quadrature", not len(bad), detail if not len(bad) else f"{detail}. Take a finer grid.")


def _converged(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    parts, passed = [], True
    for name, found in measured.families.items():
        open_ = (~(found.converged > 0)).nonzero().flatten()
        share = len(open_) / max(len(found.converged), 1)
        passed = passed and share <= limits.unconverged
        gain = float(found.certificate.mean()) if len(found.certificate) else float("nan")
        text = f"{name}: {share:.1%} of the data not converged{_naming(measured.scores.rows, open_)}"
        parts.append(f"{text}, as many steps again would gain {gain:.2g} nats in the mean")
    if parts:
        remedy = ". L[q*] is too low there: give the search of q* more steps."
        yield Check("converged", passed, "; ".join(parts) + ("" if passed else remedy))


def _outliers(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    parts, numbers = [], named_numbers(measured)
    for name, values in numbers.items():
        places = outliers(values.values, limits.outlier)
        moved, error = influence(values.values, places)
        if abs(moved) > limits.influence * error + limits.slack:
            which = _naming(measured.scores.rows, places)
            parts.append(f"{name}: {len(places)} data{which} move the mean by {moved:,.4g} nats (error {error:.2g})")
    if numbers:
        remedy = ". Look at these data before you quote the mean: see per_datum.csv."
        yield Check("outliers", not parts, "; ".join(parts) + remedy if parts else "no datum carries a mean")


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as they stand in ``evaluation.json``."""
    return [found._asdict() for found in checks]
