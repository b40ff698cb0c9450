"""Checks that gate: what no right measurement can break, each within its stated error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.evaluation import gaps
from vem.evaluation.measured import MODES, MORE, START, STARTS, Measured
from vem.evaluation.paired import Sample, Shortfall, influence, outliers, overshoot, sample, shortfall
from vem.evaluation.thresholds import Thresholds, effective

__all__ = ["Check", "Thresholds", "as_json", "check", "named_numbers", "not_judged", "width_check"]

ERROR = "error"  # in LogMarginal.diagnostics of quadrature: [N] its error by refinement
# Which family contains which: the best q of the second cannot be worse than that of the first.
NESTED = (("diagonal_gaussian", "full_gaussian"),)
FIRST = 5  # rows that a detail names
NOT_JUDGED = "one datum, whose error is not known"
REMEDIES = {
    "finite": "These data are left out of the other checks: look at them in per_datum.csv.",
    "better_than_prior": "These q are worse than one that does not look at x: wrong scales, a wrong sign, or no "
    "training.",
    "best_above_q": "Either q* is not the best q (give its search more steps), or L[q] is no ELBO of this family.",
    "richer_family": "The search for the best full_gaussian stopped short: give it more steps, or start it at the "
    "diagonal_gaussian.",
    "best_below_upper": "What exceeds log p(x) is no lower bound: a wrong sign, a missing log q, or a point mass on "
    "continuous z.",
    "lower_above_best": "A negative gap: the estimate of log p(x) is poorer than the ELBO; give it more samples or "
    "temperatures.",
    "lower_bounds_agree": "The bound that the gaps are taken from is too low there, and so are the gaps: the posterior "
    "has parts that it does not reach. Raise evaluation.annealing.modes or .temperatures, or start it at the prior.",
    "interval_ordered": "One of the two bounds on log p(x) is wrong.",
    "effective_samples": "The lower bound on log p(x) is loose by an unknown amount: anneal, or take more samples.",
    "modes": "The lower bound is too low there by the modes that it lacks: raise evaluation.annealing.modes.",
    "quadrature": "Take a finer grid.",
    "converged": "L[q*] is too low there: give the search of q* more steps.",
    "outliers": "Look at these data before you quote the mean: see per_datum.csv.",
    "simulated_width": "The lower bound on real data may be as loose: give annealing more temperatures or chains.",
}


class Check(NamedTuple):
    """One check of one split."""

    name: str
    passed: bool | None  # None: it could not be judged
    detail: str  # the numbers, in nats, with the error they are held against; the remedy where it failed


def check(measured: Measured, thresholds: Thresholds | None = None) -> list[Check]:
    """Every check that the numbers of this split allow; one that lacks its numbers is left out.

    ``finite``, ``better_than_prior`` L[q] ≥ L[p(z)], ``best_above_q`` L[q] ≤ L[q*], ``richer_family``,
    ``best_below_upper`` L[q*] ≤ the upper bound on log p(x) and L[q] as well, ``lower_above_best`` (no gap is
    negative), ``lower_bounds_agree`` (none from below is higher), ``interval_ordered``, ``effective_samples``,
    ``modes``, ``quadrature``, ``converged``, ``outliers``. Where L[q] is known of more data than the rest, what these
    allow is checked as well. :func:`width_check` is made of simulated data, beside these.
    """
    limits = thresholds or Thresholds()
    parts = list(_parts(measured, limits))
    if measured.everything is not None:
        named = {part.name for part in parts}
        parts += [part for part in _parts(Measured(measured.everything), limits) if part.name in named]
    grouped: dict[str, list[Check]] = {}
    for part in parts:
        grouped.setdefault(part.name, []).append(part)
    return [_all(name, some) for name, some in grouped.items()]


def _parts(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    if len(measured.scores.rows):
        for part in (_finite, _differences, _samples, _modes, _quadrature, _converged, _outliers):
            yield from part(measured, limits)


def _all(name: str, parts: Sequence[Check]) -> Check:
    """The parts of a check as one: it passes if all do, and tells of those that did not, else of all."""
    failed = [part for part in parts if part.passed is False]
    open_ = [part for part in parts if part.passed is None]
    detail = "; ".join(dict.fromkeys(part.detail for part in failed or open_ or parts))
    return Check(name, False, f"{detail}. {REMEDIES[name]}") if failed else Check(name, None if open_ else True, detail)


def named_numbers(measured: Measured) -> dict[str, Sample]:
    """The numbers of each data point that the checks look at, by the names of ``per_datum.csv``."""
    high = gaps.upper(measured)
    found = {
        "elbo": gaps.elbo(measured),
        **{f"best_elbo.{name}": gaps.best_of(family) for name, family in measured.families.items()},
        "log_marginal_lower": gaps.lower(measured),
        "log_marginal_upper": None if high is None else sample(high),
    }
    return {name: values for name, values in found.items() if values is not None}


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
    if bad:
        yield Check("finite", not parts, f"not finite: {'; '.join(parts)}" if parts else ", ".join(bad))


# --- what is larger: in the mean and, where it must be for each, data point by data point


def _differences(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Every inequality between two numbers of each data point."""
    rows, forgiven = measured.scores.rows, _forgiven(measured, limits)
    q, best, low, high = gaps.elbo(measured), gaps.best_elbo(measured), gaps.lower(measured), gaps.upper(measured)
    families = {name: gaps.best_of(found) for name, found in measured.families.items()}
    # An exact log p(x) lies above for each data point, an upper bound only in expectation. Its noise is not stated:
    # the error over data, which includes it, is used instead.
    exact = high is not None and low is not None and torch.equal(low.values, high)
    above = None if high is None else sample(high, None if exact else torch.full_like(high, torch.nan))
    few = max(limits.exceeding * len(rows), 1)

    def pair(
        name: str, what: str, larger: Sample | None, smaller: Sample | None, most: float, slack: float = 0.0
    ) -> Iterator[Check]:
        if larger is not None and smaller is not None:
            found = shortfall(larger.minus(smaller), limits, slack + _float32(smaller))
            yield _held(name, what, found, rows, most)

    yield from _better_than_prior(measured, limits)
    yield from pair("best_above_q", "L[q*] − L[q]", best, q, few)
    for one, richer in NESTED:
        yield from pair("richer_family", f"{richer} − {one}", families.get(richer), families.get(one), few)
    for name, below in {"L[q]": q, **families}.items():
        yield from pair("best_below_upper", f"upper − {name}", above, below, few if exact else math.inf, forgiven)
    for name, below in (("L[q]", q), ("L[q*]", best)):
        yield from pair("lower_above_best", f"lower − {name}", low, below, math.inf, forgiven)
    # No bound from below lies above the one that the gaps are taken from, by more than their errors: not those shown
    # beside it, nor L[q*] of the further families.
    others = {name: gaps.bound_of(bound) for name, bound in measured.others.items()}
    others |= {f"L[q*] of {name}": bound for name, bound in families.items() if name != measured.own}
    for name, other in others.items():
        if low is not None and other is not None and bool((low.values - other.values).isfinite().any()):
            found = overshoot(low, other, limits, forgiven + _float32(low))
            yield _held("lower_bounds_agree", f"main − {name}", found, rows, few)
    yield from pair("interval_ordered", "upper − lower", above, low, math.inf)


def _better_than_prior(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """L[q] ≥ E_p(z)[log p(x | z)], the ELBO of a q that does not look at x.

    Outliers are relative to the median; this one is absolute: a q that is absurd for every data point falls here. An
    encoder that was hardly trained may lie some nats below the prior; its gap says so, and ``prior_slack`` lets it.
    """
    q, floor, rows = gaps.elbo(measured), gaps.prior_elbo(measured), measured.scores.rows
    if q is not None and floor is not None:
        found = shortfall(q.minus(floor), limits, limits.prior_slack)
        below = f"more than {limits.prior_slack:g} nats below 0"
        yield _held("better_than_prior", "L[q] − L[prior as q]", found, rows, limits.below_prior * len(rows), below)


def _held(name: str, what: str, found: Shortfall, rows: Tensor, most: float, below: str = "below 0") -> Check:
    """Whether a difference is not negative in the mean, nor for more than so many of the data beyond their errors."""
    if not found.judged:
        return Check(name, None, NOT_JUDGED)
    detail = f"mean {what} = {found.mean:,.4g} nats, error {found.error:.2g} ({found.source})"
    if most < math.inf:
        detail += f"; {len(found.rows)} of {len(rows)} data {below} beyond their own error{_naming(rows, found.rows)}"
    return Check(name, not found.beyond and len(found.rows) <= most, detail)


def _float32(values: Sample) -> float:
    """Nats of rounding: float32 carries seven digits."""
    return 1e-6 * float(values.finite().values.abs().mean()) if len(values.values) else 0.0


# --- how far the searches and bounds can be trusted


def _samples(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of the bound that the gaps are taken from; those shown beside it carry a mark of their own."""
    bound = gaps.log_marginal(measured)
    found = None if bound is None else effective(bound, limits)
    if bound is not None and found is not None:
        rows = measured.scores.rows
        detail = f"{bound.kind}: {found.sentence(len(rows), limits, _naming(rows, found.thin))}"
        yield Check("effective_samples", found.passed, detail)


def _modes(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of data with several modes, whether annealing started in all of them: each it lacks is lost."""
    modes, more, start = (_diagnostic(measured, key) for key in (MODES, MORE, START))
    if modes is None or more is None or start is None or not bool((modes > 1).any()):
        return
    bad = ((more > 0) & (start == STARTS.index("modes"))).nonzero().flatten()
    detail = f"{int((modes > 1).sum())} of {len(modes)} data have several modes, at most {int(modes.max())} were found"
    detail += f"; of {len(bad)} not all{_naming(measured.scores.rows, bad)}"
    yield Check("modes", len(bad) <= limits.unconverged * len(modes), detail)


def _diagnostic(measured: Measured, key: str) -> Tensor | None:
    """A number [N] that is told with the bound that the gaps are taken from."""
    bound = gaps.log_marginal(measured)
    found = None if bound is None else bound.diagnostics.get(key)
    return None if found is None or not found.numel() else found.double()


def _forgiven(measured: Measured, limits: Thresholds) -> float:
    """Nats that an inequality with log p(x) is forgiven, because quadrature states so large an error."""
    error = _diagnostic(measured, ERROR)
    return 0.0 if error is None else min(float(error.nan_to_num().max()), limits.quadrature)


def _quadrature(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    error = _diagnostic(measured, ERROR)
    if error is not None:
        bad = (~(error <= limits.quadrature)).nonzero().flatten()
        numbers = f"mean {float(error.mean()):.2g}, most {float(error.max()):.2g} nats; {len(bad)} data above "
        detail = f"stated error of log p(x) by refinement: {numbers}{limits.quadrature:g}"
        yield Check("quadrature", not len(bad), detail + _naming(measured.scores.rows, bad))


def _converged(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    parts, passed = [], True
    for name, found in measured.families.items():
        open_ = (~(found.converged > 0)).nonzero().flatten()
        share = len(open_) / max(len(found.converged), 1)
        passed = passed and share <= limits.unconverged
        finite = found.certificate[found.certificate.isfinite()]
        gain = f"would gain {float(finite.mean()):.2g} nats in the mean" if len(finite) else "gave no finite number"
        lost = len(found.certificate) - len(finite)
        text = f"{name}: {share:.1%} of the data not converged{_naming(measured.scores.rows, open_)}"
        parts.append(f"{text}, as many steps again {gain}" + (f" ({lost} data not finite)" if lost else ""))
    if parts:
        yield Check("converged", passed, "; ".join(parts))


def _outliers(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    parts, numbers = [], named_numbers(measured)
    if len(measured.scores.rows) == 1 and numbers:
        yield Check("outliers", None, "one datum has no others beside it")
        return
    for name, values in numbers.items():
        places = outliers(values.values, limits.outlier)
        moved, error = influence(values.values, places)
        if abs(moved) > limits.influence * error + limits.slack:
            which = _naming(measured.scores.rows, places)
            parts.append(f"{name}: {len(places)} data{which} move the mean by {moved:,.4g} nats (error {error:.2g})")
    if numbers:
        yield Check("outliers", not parts, "; ".join(parts) or "no datum carries a mean")


def width_check(simulated: Mapping[str, Any], limits: Thresholds) -> Check | None:
    """Is the interval for log p(x) narrow on data that the model made? None where it was not measured.

    simulated: what :func:`vem.evaluation.gaps.simulated` gives, or the reason in its place.
    """
    width = simulated.get("width")
    if not isinstance(width, Mapping):
        return None
    numbers = (width.get(key) for key in ("mean", "se", "max"))
    # A reason may stand in the place of a number.
    mean, error, most = (float(n) if isinstance(n, int | float) else math.nan for n in numbers)
    known = f"error {error:.2g}" if math.isfinite(error) else "error unknown"
    detail = f"{simulated.get('kind')}, {simulated.get('num_data')} simulated data: upper − lower = {mean:.3g} nats in "
    detail += f"the mean ({known} over data, at most {limits.width:g}), {most:.3g} at worst (at most {limits.widest:g})"
    name = "simulated_width"
    return _all(name, [Check(name, mean <= limits.width and most <= limits.widest, detail)])


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as they stand in ``evaluation.json``: those that were judged."""
    return [found._asdict() for found in checks if found.passed is not None]


def not_judged(checks: Sequence[Check]) -> list[str]:
    """The others, as they stand under ``not_tested``.

    >>> not_judged([Check("finite", True, "elbo"), Check("outliers", None, "one datum has no others beside it")])
    ['outliers (one datum has no others beside it)']
    """
    return [f"{found.name} ({found.detail})" for found in checks if found.passed is None]
