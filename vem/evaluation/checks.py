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
REMEDIES = {
    "best_above_q": "Either q* is not the best q (give its search more steps), or L[q] is no ELBO of this family.",
    "richer_family": "The search for the best full_gaussian stopped short: give it more steps, or start it at the "
    "diagonal_gaussian.",
    "best_below_upper": "What exceeds log p(x) is no lower bound: a wrong sign, a missing log q, or a point mass on "
    "continuous z.",
    "lower_above_best": "A negative gap: the estimate of log p(x) is poorer than the ELBO; give it more samples or "
    "temperatures.",
    "interval_ordered": "One of the two bounds on log p(x) is wrong.",
}
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
    first, ordered = _inequalities(measured, limits)
    parts = (_samples, _modes, _quadrature, _converged, _outliers)
    return [
        *_finite(measured, limits), *_better_than_prior(measured, limits), *first, *_agree(measured, limits), *ordered,
        *(found for part in parts for found in part(measured, limits)),
    ]  # fmt: skip


def check_all(measured: Measured, thresholds: Thresholds | None = None) -> list[Check]:
    """:func:`check`, and where L[q] is known of more data than the rest, what these allow as well."""
    found = check(measured, thresholds)
    if measured.everything is None:
        return found
    more = {one.name: one for one in check(Measured(measured.everything), thresholds)}
    pairs = ((one.name, [one, more[one.name]] if one.name in more else [one]) for one in found)
    return [joint for name, pair in pairs for joint in _all(name, pair)]


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


def _verdict(name: str, passed: bool, detail: str, remedy: str) -> Check:
    return Check(name, passed, detail if passed else f"{detail}. {remedy}")


def _numbers(what: str, found: Shortfall, rows: Tensor, each: bool = True, below: str = "below 0") -> str:
    """The mean difference with its error, and if ``each`` how many of the data lie below what is allowed."""
    text = f"mean {what} = {found.mean:,.4g} nats, error {found.error:.2g} ({found.source})"
    if not each:
        return text
    return f"{text}; {len(found.rows)} of {len(rows)} data {below} beyond their own error{_naming(rows, found.rows)}"


def _inequalities(measured: Measured, limits: Thresholds) -> tuple[list[Check], list[Check]]:
    """What is larger in the mean and, where it must be for each, datum by datum; the order of the interval apart."""
    q, best, low, high = gaps.elbo(measured), gaps.best_elbo(measured), gaps.lower(measured), gaps.upper(measured)
    families = {name: gaps.best_of(found) for name, found in measured.families.items()}
    # An exact log p(x) lies above for each data point, an upper bound only in expectation. Its noise is not stated:
    # the error over data, which includes it, is used instead.
    exact = high is not None and low is not None and torch.equal(low.values, high)
    above = None if high is None else sample(high, None if exact else torch.full_like(high, torch.nan))
    forgiven = _forgiven(measured, limits)
    # The difference by name, its two sides, whether each of the data is held to it, and nats that are forgiven.
    table: dict[str, list[tuple[str, Sample | None, Sample | None, bool, float]]] = {
        "best_above_q": [("L[q*] − L[q]", best, q, True, 0.0)],
        "richer_family": [(f"{b} − {a}", families.get(b), families.get(a), True, 0.0) for a, b in NESTED],
        "best_below_upper": [(f"upper − {n}", above, v, exact, forgiven) for n, v in {"L[q]": q, **families}.items()],
        "lower_above_best": [(f"lower − {n}", low, v, False, forgiven) for n, v in (("L[q]", q), ("L[q*]", best))],
        "interval_ordered": [("upper − lower", above, low, False, 0.0)],
    }
    out = []
    for name, rows in table.items():
        parts = [
            _inequality(name, what, larger, smaller, measured, limits, each, rounding)
            for what, larger, smaller, each, rounding in rows
            if larger is not None and smaller is not None
        ]
        out.append(_all(name, parts))
    return [found for some in out[:-1] for found in some], out[-1]


def _inequality(
    name: str, what: str, larger: Sample, smaller: Sample, measured: Measured, limits: Thresholds, each: bool,
    rounding: float,
) -> Check:  # fmt: skip
    found = shortfall(larger.minus(smaller), limits, rounding + _float32(smaller))
    if not found.judged:
        return Check(name, None, NOT_JUDGED)
    too_many = each and len(found.rows) > max(limits.exceeding * len(larger.values), 1)
    detail = _numbers(what, found, measured.scores.rows, each)
    return _verdict(name, not (found.beyond or too_many), detail, REMEDIES[name])


def _float32(values: Sample) -> float:
    """Nats of rounding: float32 carries seven digits."""
    return 1e-6 * float(values.finite().values.abs().mean()) if len(values.values) else 0.0


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
        remedy = "These data are left out of the other checks: look at them in per_datum.csv."
        yield _verdict("finite", not parts, f"not finite: {'; '.join(parts)}" if parts else ", ".join(bad), remedy)


def _better_than_prior(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """L[q] ≥ E_p(z)[log p(x | z)], the ELBO of a q that does not look at x.

    Outliers are relative to the median; this one is absolute: a q that is absurd for every data point falls here. An
    encoder that was hardly trained may lie some nats below the prior; its gap says so, and ``prior_slack`` lets it.
    """
    q, floor = gaps.elbo(measured), gaps.prior_elbo(measured)
    if q is None or floor is None:
        return
    found = shortfall(q.minus(floor), limits, limits.prior_slack)
    if not found.judged:
        yield Check("better_than_prior", None, NOT_JUDGED)
        return
    passed = not found.beyond and len(found.rows) <= limits.below_prior * len(q.values)
    below = f"more than {limits.prior_slack:g} nats below 0"
    detail = _numbers("L[q] − L[prior as q]", found, measured.scores.rows, below=below)
    remedy = "These q are worse than one that does not look at x: wrong scales, a wrong sign, or no training."
    yield _verdict("better_than_prior", passed, detail, remedy)


def _all(name: str, found: Sequence[Check]) -> list[Check]:
    """Several checks as one: it passes if all do, and tells of those that did not, else of all."""
    failed = [part for part in found if part.passed is False]
    open_ = [part for part in found if part.passed is None]
    passed = False if failed else None if open_ else True
    detail = "; ".join(dict.fromkeys(part.detail for part in failed or open_ or found))
    return [Check(name, passed, detail)] if found else []


def _agree(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """No bound from below lies above the one that the gaps are taken from, by more than their errors.

    Those shown beside it, and L[q*] of the further families; L[q] and the own L[q*] are held to it as gaps.
    """
    main, rows = gaps.lower(measured), measured.scores.rows
    others = {name: gaps.bound_of(bound) for name, bound in measured.others.items()}
    others |= {f"L[q*] of {n}": gaps.best_of(f) for n, f in measured.families.items() if n != measured.own}
    found = [
        (name, overshoot(main, other, limits, _forgiven(measured, limits) + _float32(main)))
        for name, other in others.items()
        if main is not None and other is not None and bool((main.values - other.values).isfinite().any())
    ]
    parts = [(_numbers(f"main − {name}", one, rows), one) for name, one in found if one.judged]
    bad = [text for text, one in parts if one.beyond or len(one.rows) > max(limits.exceeding * len(rows), 1)]
    if len(parts) < len(found) and not bad:
        yield Check("lower_bounds_agree", None, NOT_JUDGED)
    elif parts:
        remedy = (
            "The bound that the gaps are taken from is too low there, and so are the gaps: the posterior has parts "
            "that it does not reach. Raise evaluation.annealing.modes or .temperatures, or start it at the prior."
        )
        yield _verdict("lower_bounds_agree", not bad, "; ".join(bad or [text for text, _ in parts]), remedy)


def _samples(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of the bound that the gaps are taken from; those shown beside it carry a mark of their own."""
    bound = gaps.log_marginal(measured)
    found = None if bound is None else effective(bound, limits)
    if bound is not None and found is not None:
        rows = measured.scores.rows
        detail = f"{bound.kind}: {found.sentence(len(rows), limits, _naming(rows, found.thin))}"
        remedy = "The lower bound on log p(x) is loose by an unknown amount: anneal, or take more samples."
        yield _verdict("effective_samples", found.passed, detail, remedy)


def _modes(measured: Measured, limits: Thresholds) -> Iterator[Check]:
    """Of data with several modes, whether annealing started in all of them: each it lacks is lost."""
    bound = gaps.log_marginal(measured)
    modes, more, start = (None if bound is None else bound.diagnostics.get(key) for key in (MODES, MORE, START))
    if modes is None or more is None or start is None or not bool((modes > 1).any()):
        return
    bad = ((more > 0) & (start == STARTS.index("modes"))).nonzero().flatten()
    detail = f"{int((modes > 1).sum())} of {len(modes)} data have several modes, at most {int(modes.max())} were found"
    detail += f"; of {len(bad)} not all{_naming(measured.scores.rows, bad)}"
    remedy = "The lower bound is too low there by the modes that it lacks: raise evaluation.annealing.modes."
    yield _verdict("modes", len(bad) <= limits.unconverged * len(modes), detail, remedy)


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
        numbers = f"mean {float(error.mean()):.2g}, most {float(error.max()):.2g} nats; {len(bad)} data above "
        detail = f"stated error of log p(x) by refinement: {numbers}{limits.quadrature:g}"
        detail += _naming(measured.scores.rows, bad)
        yield _verdict("quadrature", not len(bad), detail, "Take a finer grid.")


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
        yield _verdict(
            "converged", passed, "; ".join(parts), "L[q*] is too low there: give the search of q* more steps."
        )


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
        remedy = "Look at these data before you quote the mean: see per_datum.csv."
        yield _verdict("outliers", not parts, "; ".join(parts) or "no datum carries a mean", remedy)


def width_check(simulated: Mapping[str, Any], limits: Thresholds) -> Check | None:
    """Is the interval for log p(x) narrow on data that the model made? None where it was not measured.

    simulated: what :func:`vem.evaluation.gaps.simulated` gives, or the reason in its place. It is a
    check of every split whose log p(x) comes from that annealing.
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
    remedy = "The lower bound on real data may be as loose: give annealing more temperatures or chains."
    return _verdict("simulated_width", mean <= limits.width and most <= limits.widest, detail, remedy)


def as_json(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The checks as they stand in ``evaluation.json``: those that were judged."""
    return [found._asdict() for found in checks if found.passed is not None]


def not_judged(checks: Sequence[Check]) -> list[str]:
    """The others, as they stand under ``not_tested``.

    >>> not_judged([Check("finite", True, "elbo"), Check("outliers", None, "one datum has no others beside it")])
    ['outliers (one datum has no others beside it)']
    """
    return [f"{found.name} ({found.detail})" for found in checks if found.passed is None]
