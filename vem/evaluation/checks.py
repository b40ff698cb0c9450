"""Checks that gate: what no right measurement can break, each within its stated error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vem.evaluation import gaps
from vem.evaluation.effective import effective
from vem.evaluation.measured import MODES, MORE, START, STARTS, Measured
from vem.evaluation.paired import Sample, influence, outliers, overshoot, sample, shortfall
from vem.evaluation.thresholds import Thresholds

__all__ = ["Check", "Thresholds", "as_json", "check", "named_numbers", "not_judged", "width_check"]

ERROR = "error"  # in LogMarginal.diagnostics of quadrature: [N] its error by refinement
# Which family contains which: the best q of the second cannot be worse than that of the first.
NESTED = (("diagonal_gaussian", "full_gaussian"),)
FIRST = 5  # rows that a detail names
NOT_JUDGED = "one datum, whose error is not known"


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
    ``modes``, ``quadrature``, ``converged``, ``outliers``.
    :func:`width_check` is made of simulated data, beside these.
    """
    limits = thresholds or Thresholds()
    if not len(measured.scores.rows):
        return []
    first = (_finite, _better_than_prior, _best_above_q, _richer_family, _below_upper, _lower_above, _agree, _ordered)
    parts = (*first, _samples, _modes, _quadrature, _converged, _outliers)
    return [found for part in parts for found in part(measured, limits)]


def check_all(measured: Measured, thresholds: Thresholds | None = None) -> list[Check]:
    """:func:`check`, and where L[q] is known of more data than the rest, what these allow as well."""
    found = check(measured, thresholds)
    if measured.everything is None:
        return found
    more = {one.name: one for one in check(Measured(measured.everything), thresholds)}
    return [_all(one.name, [one, more[one.name]]) if one.name in more else one for one in found]


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
    if not found.judged:
        return Check(name, None, NOT_JUDGED)
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


def _better_than_prior(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """L[q] ≥ E_p(z)[log p(x | z)], the ELBO of a q that does not look at x.

    Outliers are relative to the median; this one is absolute: a q that is absurd for every datum falls here. An
    encoder that was hardly trained may lie some nats below the prior; its gap says so, and ``prior_slack`` lets it.
    """
    q, floor = gaps.elbo(measured), gaps.prior_elbo(measured)
    if q is None or floor is None:
        return
    found = shortfall(q.minus(floor), limits, limits.prior_slack)
    if not found.judged:
        yield Check("better_than_prior", None, NOT_JUDGED)
        return
    num = len(q.values)
    passed = not found.beyond and len(found.rows) <= limits.below_prior * num
    detail = f"mean L[q] − L[prior as q] = {found.mean:,.4g} nats, error {found.error:.2g} ({found.source}); "
    detail += f"{len(found.rows)} of {num} data more than {limits.prior_slack:g} nats below 0 beyond their own error"
    detail += _naming(measured.scores.rows, found.rows)
    remedy = ". These q are worse than one that does not look at x: wrong scales, a wrong sign, or no training."
    yield Check("better_than_prior", passed, detail if passed else detail + remedy)


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
    failed = [part for part in found if part.passed is False]
    open_ = [part for part in found if part.passed is None]
    passed = False if failed else None if open_ else True
    return Check(name, passed, "; ".join(dict.fromkeys(part.detail for part in failed or open_ or found)))


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


def _agree(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """No bound from below lies above the one that the gaps are taken from, by more than their errors.

    Those shown beside it, and L[q*] of the further families; L[q] and the own L[q*] are held to it as gaps.
    """
    main, num = gaps.lower(measured), len(measured.scores.rows)
    others = {name: gaps.bound_of(bound) for name, bound in measured.others.items()}
    others |= {f"L[q*] of {n}": gaps.best_of(f) for n, f in measured.families.items() if n != measured.own}
    parts, bad, open_ = [], [], False
    for name, other in others.items():
        if main is None or other is None or not bool((main.values - other.values).isfinite().any()):
            continue
        size = float(main.finite().values.abs().mean())
        found = overshoot(main, other, limits, _forgiven(measured, limits) + 1e-6 * size)
        if not found.judged:
            open_ = True
            continue
        text = (
            f"mean main − {name} = {found.mean:.4g} nats, error {found.error:.2g} ({found.source}); {len(found.rows)} "
        )
        parts.append(f"{text}of {num} data below 0 beyond their own error{_naming(measured.scores.rows, found.rows)}")
        if found.beyond or len(found.rows) > max(limits.exceeding * num, 1):
            bad.append(parts[-1])
    if open_ and not bad:
        yield Check("lower_bounds_agree", None, NOT_JUDGED)
    elif parts:
        remedy = (
            ". The bound that the gaps are taken from is too low there, and so are the gaps: the posterior has parts "
        )
        remedy += "that it does not reach. Raise evaluation.annealing.modes or .temperatures, or start it at the prior."
        yield Check("lower_bounds_agree", not bad, "; ".join(bad or parts) + (remedy if bad else ""))


def _ordered(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    low, high = gaps.lower(measured), gaps.upper(measured)
    if low is not None and high is not None:
        # The noise of the upper bound is not stated, so the error over data stands in: it holds both.
        above = sample(high, None if torch.equal(low.values, high) else torch.full_like(high, torch.nan))
        remedy = "One of the two bounds on log p(x) is wrong."
        yield _inequality("interval_ordered", "upper − lower", above, low, measured, limits, remedy, each=False)


def _samples(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of the bound that the gaps are taken from; those shown beside it carry a mark of their own."""
    bound = gaps.log_marginal(measured)
    found = None if bound is None else effective(bound, limits)
    if bound is not None and found is not None:
        where = _naming(measured.scores.rows, found.thin)
        detail = f"{bound.kind}: {found.sentence(len(measured.scores.rows), limits, where)}"
        remedy = ". The lower bound on log p(x) is loose by an unknown amount: anneal, or take more samples."
        yield Check("effective_samples", found.passed, detail if found.passed else detail + remedy)


def _modes(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of data with several modes, whether annealing started in all of them: each it lacks is lost."""
    bound = gaps.log_marginal(measured)
    modes, more, start = (None if bound is None else bound.diagnostics.get(key) for key in (MODES, MORE, START))
    if modes is None or more is None or start is None or not bool((modes > 1).any()):
        return
    bad = ((more > 0) & (start == STARTS.index("modes"))).nonzero().flatten()
    detail = (
        f"{int((modes > 1).sum())} of {len(modes)} data have several modes, at most {int(modes.max())} were found; "
    )
    detail += f"of {len(bad)} not all{_naming(measured.scores.rows, bad)}"
    remedy = ". The lower bound is too low there by the modes that it lacks: raise evaluation.annealing.modes."
    passed = len(bad) <= limits.unconverged * len(modes)
    yield Check("modes", passed, detail if passed else detail + remedy)


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
        finite = found.certificate[found.certificate.isfinite()]
        gain = f"would gain {float(finite.mean()):.2g} nats in the mean" if len(finite) else "gave no finite number"
        lost = len(found.certificate) - len(finite)
        text = f"{name}: {share:.1%} of the data not converged{_naming(measured.scores.rows, open_)}"
        parts.append(f"{text}, as many steps again {gain}" + (f" ({lost} data not finite)" if lost else ""))
    if parts:
        remedy = ". L[q*] is too low there: give the search of q* more steps."
        yield Check("converged", passed, "; ".join(parts) + ("" if passed else remedy))


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
        remedy = ". Look at these data before you quote the mean: see per_datum.csv."
        yield Check("outliers", not parts, "; ".join(parts) + remedy if parts else "no datum carries a mean")


def width_check(simulated: Mapping[str, Any], limits: Thresholds) -> Check | None:
    """Is the interval for log p(x) narrow on data that the model made? None where it was not measured.

    simulated: what :func:`vem.evaluation.bounds.simulated.simulated` gives, or the reason in its place. It is a
    check of every split whose log p(x) comes from that annealing.
    """
    width = simulated.get("width")
    if not isinstance(width, Mapping):
        return None
    mean, error, most = (_plain(width.get(key)) for key in ("mean", "se", "max"))
    passed = mean <= limits.width and most <= limits.widest
    known = f"error {error:.2g}" if math.isfinite(error) else "error unknown"
    detail = f"{simulated.get('kind')}, {simulated.get('num_data')} simulated data: upper − lower = {mean:.3g} nats in "
    detail += f"the mean ({known} over data, at most {limits.width:g}), {most:.3g} at worst (at most "
    detail += f"{limits.widest:g})"
    remedy = ". The lower bound on real data may be as loose: give annealing more temperatures or chains."
    return Check("simulated_width", passed, detail if passed else detail + remedy)


def _plain(value: Any) -> float:
    """The number, NaN where a reason stands in its place."""
    return float(value) if isinstance(value, int | float) else math.nan


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as they stand in ``evaluation.json``: those that were judged."""
    return [found._asdict() for found in checks if found.passed is not None]


def not_judged(checks: Sequence[Check]) -> list[str]:
    """The others, as they stand under ``not_tested``.

    >>> not_judged([Check("finite", True, "elbo"), Check("outliers", None, "one datum has no others beside it")])
    ['outliers (one datum has no others beside it)']
    """
    return [f"{found.name} ({found.detail})" for found in checks if found.passed is None]
