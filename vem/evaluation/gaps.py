"""The gap decomposition: how many nats are lost, where, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vem.contracts import LogMarginal
from vem.evaluation.bounds.annealing import with_starts
from vem.evaluation.elbo import SplitScores
from vem.evaluation.measured import ESS, MC_VARIANCE, MODES, FamilyScores, Measured
from vem.evaluation.paired import CI_METHOD, Interval, Sample, between, estimate, gap, raised, sample
from vem.evaluation.thresholds import Thresholds, effective
from vem.numerics import mean_and_se
from vem.storage.records import number

NO_BEST = "the best q of the strategy's own family was not sought"
NO_MARGINAL = "nothing is known of log p(x) from below"
LOWER_ONLY = "on these data no upper bound is valid"


def summarize(measured: Measured, thresholds: Thresholds | None = None) -> dict[str, Any]:
    """The numbers of one split as they stand in ``evaluation.json``, nats per data point.

        inference gap      log p(x) − L[q]  =  (log p(x) − L[q*])  +  (L[q*] − L[q])
                                               approximation gap     amortization or optimization gap

    Every gap is a mean of paired differences. With only a lower bound on log p(x) the approximation and inference gaps
    are at least what is shown: ``identified`` = [value, null]. Each of the ``others``, which gate nothing, says whether
    its effective samples allow to trust it (``thresholds``).

    Source: Cremer, Li and Duvenaud, 2018, eq. 3–5.
    """
    out = _scores(measured.everything or measured.scores)
    if measured.everything is not None:
        out["gap_data"] = len(measured.scores.rows)
    bound, best = log_marginal(measured), best_elbo(measured)
    out["best_elbo"] = number(None, NO_BEST) if best is None else _level(measured, best)
    out["log_marginal"] = None if bound is None else _bound_entry(measured, bound)
    out["gaps"] = _gaps(measured)
    out["families"] = {name: _family_entry(measured, name) for name in measured.families}
    out["others"] = {
        name: _bound_entry(measured, other) | _trust(other, thresholds or Thresholds())
        for name, other in measured.others.items()
    }
    out["ci_method"] = CI_METHOD
    return out


def _scores(scores: SplitScores) -> dict[str, Any]:
    """L[q] and its parts; undefined, with the reason, for a method that has no ELBO."""
    out: dict[str, Any] = {"num_data": len(scores.rows)}
    if scores.elbo is None or scores.reconstruction is None or scores.kl is None:
        return out | {"elbo": number(None, scores.reason)}
    out["elbo"] = estimate(sample(scores.elbo, scores.mc_variance))
    for key, values in (("reconstruction", scores.reconstruction), ("kl", scores.kl)):
        entry = estimate(sample(values))
        out[key] = {name: entry[name] for name in ("mean", "se")}  # their Monte Carlo error is not kept
    if scores.prior_elbo is not None:
        out["prior_elbo"] = estimate(sample(scores.prior_elbo, scores.prior_variance))
    return out


def _gaps(measured: Measured) -> dict[str, Any]:
    q, best, difference = elbo(measured), best_elbo(measured), _amortization(measured)
    no_q = measured.scores.reason or "this q has no ELBO"
    return {
        "approximation": _below_marginal(measured, best, NO_BEST),
        measured.gap_name: number(None, no_q if q is None else NO_BEST) if difference is None else gap(difference),
        "inference": _below_marginal(measured, q, no_q),
    }


def _below_marginal(measured: Measured, below: Sample | None, reason: str) -> Any:
    """log p(x) − ``below``: from the lower bound on log p(x), identified up to the upper one."""
    low = lower(measured)
    if low is None or below is None:
        return number(None, NO_MARGINAL if below is not None else reason)
    difference = low.minus(below)
    high = upper(measured)
    most = None if high is None else float((high - below.values).mean())
    return gap(difference, (float(difference.values.mean()), most))


def _family_entry(measured: Measured, name: str) -> dict[str, Any]:
    """The best q of one family: what the family costs, and how far its search can be trusted."""
    found = measured.families[name]
    best, own = best_of(found), best_elbo(measured)
    entry: dict[str, Any] = {"own": name == measured.own, "best_elbo": _level(measured, best)}
    entry["approximation"] = _below_marginal(measured, best, NO_BEST)
    entry["certificate"] = _certificate(found)
    entry["converged"] = number(float(found.converged.double().mean()))
    entry |= {key: _mean_and_most(getattr(found, key)) for key in ("start_spread", "gradient_norm", "steps")}
    if own is not None and name != measured.own:
        entry["gain_over_own"] = gap(best.minus(own))  # L[q*] of this family − L[q*] of the strategy's own
    return entry


def _certificate(found: FamilyScores) -> dict[str, Any]:
    """Of the data for which it is finite, and how many those leave out: one −∞ is no reason to say nothing."""
    known = sample(found.certificate, found.certificate_variance).finite()
    lost = len(found.certificate) - len(known.values)
    median = number(float(known.values.median()) if len(known.values) else None, "no datum has a finite one")
    return {**estimate(known), "median": median, **_most(known.values), "not_finite": lost}


def _most(values: Tensor) -> dict[str, Any]:
    return {"max": number(float(values.double().max()) if len(values) else None)}


def _mean_and_most(values: Tensor) -> dict[str, Any]:
    return {"mean": number(float(values.double().mean())), **_most(values)}


def _level(measured: Measured, values: Sample) -> dict[str, Any]:
    """The mean of a number over the data; where L[q] is known of more data than it, of all those."""
    everything, q = measured.everything, elbo(measured)
    if everything is None or everything.elbo is None or q is None:
        return estimate(values)
    return raised(sample(everything.elbo, everything.mc_variance), q, values)


def _bound_entry(measured: Measured, bound: LogMarginal) -> dict[str, Any]:
    entry: dict[str, Any] = {"lower": None, "upper": None, "kind": bound.kind}
    noise = bound.diagnostics.get(MC_VARIANCE)
    if bound.lower is not None:
        entry["lower"] = _level(measured, sample(bound.lower, noise))
    if bound.upper is not None:
        entry["upper"] = entry["lower"] if bound.upper is bound.lower else _level(measured, sample(bound.upper))
    else:
        entry["reason"] = LOWER_ONLY
    if (ess := bound.diagnostics.get(ESS)) is not None and ess.numel():
        entry["ess"] = {"median": number(float(ess.double().median())), "min": number(float(ess.min()))}
    if (modes := bound.diagnostics.get(MODES)) is not None and bool((modes > 1).any()):
        entry["several_modes"] = {"num_data": int((modes > 1).sum()), **_most(modes)}
    if (error := bound.diagnostics.get("error")) is not None and error.numel():  # of quadrature
        entry["error"] = _mean_and_most(error)
    return entry


def _trust(bound: LogMarginal, limits: Thresholds) -> dict[str, Any]:
    """Whether the effective samples behind a bound allow to trust it, in a sentence; nothing where it has none."""
    found, low = effective(bound, limits), bound.lower
    if found is None or low is None:
        return {}
    text = found.sentence(len(low), limits)
    return {"trustworthy": found.passed, "remark": text if found.passed else f"{text}: loose by an unknown amount"}


def simulated(bound: LogMarginal, gradients: Tensor) -> dict[str, Any]:
    """How wide the interval for log p(x) is on data that the model made, ready for JSON; nats per data point.

    ``bound`` lower and upper [N]; ``gradients`` [N] that it took.
    """
    assert bound.lower is not None and bound.upper is not None
    width = (bound.upper - bound.lower).double()
    mean, se = mean_and_se(width)
    return {
        "num_data": len(width),
        "kind": with_starts(bound.kind, bound.diagnostics),
        "lower": estimate(sample(bound.lower, bound.diagnostics.get(MC_VARIANCE))),
        "upper": estimate(sample(bound.upper)),
        "width": {"mean": number(mean), "se": number(se, "one datum has no spread"), **_most(width)},
        "decoder_gradients": number(float(gradients.mean())),
    }


def across_splits(per_split: Mapping[str, Measured]) -> dict[str, Any]:
    """How the gaps of held-out data differ from those of the training data, for ``valid`` and ``test``.

    - ``amortization_generalization``: held-out amortization gap minus the training one (the λ of a table have none);
    - ``model_generalization``: training minus held-out mean of L[q*] and of log p(x).

    Two samples of data, so that variances add: Welch's interval.

    Source: Zhang, Hayes and Barber, 2022.
    """
    train = per_split.get("train")
    if train is None:
        return {}
    out = {}
    for name, held_out in per_split.items():
        if name == "train" or not len(held_out.scores.rows) or not len(train.scores.rows):
            continue
        amortization = number(None, "there is no encoder: L[q*] − L[q] of stored λ is an optimization gap")
        if train.gap_name == "amortization":
            amortization = _difference(_amortization(held_out), _amortization(train), NO_BEST)
        # Two lower bounds limit their difference from neither side: how loose each of them is is not known.
        one, other, above_one, above_other = lower(train), lower(held_out), upper(train), upper(held_out)
        identified: Interval = (
            None if above_other is None or one is None else float(one.values.mean()) - float(above_other.mean()),
            None if above_one is None or other is None else float(above_one.mean()) - float(other.values.mean()),
        )
        out[name] = {
            "amortization_generalization": amortization,
            "model_generalization": {
                "best_elbo": _difference(best_elbo(train), best_elbo(held_out), NO_BEST),
                "log_marginal": _difference(one, other, NO_MARGINAL, identified),
            },
        }
    return out


def _amortization(measured: Measured) -> Sample | None:
    q, best = elbo(measured), best_elbo(measured)
    return None if q is None or best is None else best.minus(q)


def _difference(one: Sample | None, other: Sample | None, reason: str, identified: Interval | None = None) -> Any:
    return number(None, reason) if one is None or other is None else between(one, other, identified)


# --- one number for each data point; None where it is not known


def elbo(measured: Measured) -> Sample | None:
    """L[q]."""
    return _sampled(measured.scores.elbo, measured.scores.mc_variance)


def prior_elbo(measured: Measured) -> Sample | None:
    """The ELBO of the prior as q."""
    return _sampled(measured.scores.prior_elbo, measured.scores.prior_variance)


def best_of(found: FamilyScores) -> Sample:
    """L[q*] of one family."""
    return sample(found.elbo, found.mc_variance)


def best_elbo(measured: Measured) -> Sample | None:
    """L[q*] of the strategy's own family."""
    return None if measured.own is None else best_of(measured.families[measured.own])


def log_marginal(measured: Measured) -> LogMarginal | None:
    """What is known of log p(x): what was measured, else the exact value of a tractable model."""
    exact = measured.scores.log_marginal
    if measured.log_marginal is not None or exact is None:
        return measured.log_marginal
    return LogMarginal(exact, exact, "exact", {})


def lower(measured: Measured) -> Sample | None:
    """The lower bound on log p(x), or its exact value."""
    return bound_of(log_marginal(measured))


def bound_of(bound: LogMarginal | None) -> Sample | None:
    """The lower end of what is known of log p(x), with its Monte Carlo variance."""
    return None if bound is None else _sampled(bound.lower, bound.diagnostics.get(MC_VARIANCE))


def upper(measured: Measured) -> Tensor | None:
    """The upper bound on log p(x) [N], or its exact value."""
    bound = log_marginal(measured)
    return None if bound is None or bound.upper is None else bound.upper.double()


def _sampled(values: Tensor | None, variance: Tensor | None) -> Sample | None:
    return None if values is None else sample(values, variance)


# --- per_datum.csv


def per_datum(split: str, measured: Measured, labels: Tensor | None) -> list[dict[str, Any]]:
    """One row for each evaluated data point, with the columns of ``per_datum.csv``; ``labels`` are those of the split.

    Columns of the strategy's own family have no suffix, those of another end in ``.FAMILY``.
    """
    scores = measured.everything or measured.scores
    rows = scores.rows.tolist()
    known: dict[str, Tensor | None] = {}  # of the data that more is known of than L[q]
    # The own family first: best_elbo stands beside elbo.
    for name, found in sorted(measured.families.items(), key=lambda item: item[0] != measured.own):
        end = "" if name == measured.own else f".{name}"
        known |= {f"best_elbo{end}": found.elbo, f"best_elbo_mc_se{end}": found.mc_variance.sqrt()}
        for key in ("certificate", "start_spread", "gradient_norm", "steps", "converged"):
            known[f"{key}{end}"] = getattr(found, key)
    bounds = {"": log_marginal(measured), **{f".{name}": other for name, other in measured.others.items()}}
    for end, bound in bounds.items():
        if bound is not None:
            noise, modes = bound.diagnostics.get(MC_VARIANCE), bound.diagnostics.get(MODES)
            known[f"log_marginal_lower{end}"], known[f"log_marginal_upper{end}"] = bound.lower, bound.upper
            known[f"log_marginal_mc_se{end}"] = None if noise is None else noise.sqrt()
            known[f"ess{end}"] = bound.diagnostics.get(ESS)
            known[f"modes{end}"] = modes if modes is not None and bool((modes > 1).any()) else None
    columns: dict[str, list[Any]] = {"split": [split] * len(rows), "row": rows}
    columns["label"] = [None] * len(rows) if labels is None else labels.cpu()[scores.rows].tolist()
    noise = None if scores.mc_variance is None else scores.mc_variance.sqrt()
    all_: dict[str, Tensor | None] = {name: getattr(scores, name) for name in ("elbo", "reconstruction", "kl")}
    for of, some in ((scores.rows, all_ | {"elbo_mc_se": noise}), (measured.scores.rows, known)):
        for name, values in some.items():
            if values is not None:  # an empty cell where L[q] alone is known
                cells = dict(zip(of.tolist(), values.double().expand(len(of)).tolist(), strict=True))
                columns[name] = [cells.get(row) for row in rows]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
