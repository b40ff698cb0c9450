"""The numbers of a report by name: what each one means, and which columns of a table hold it.

Tables are wide, a row for each run (``runs.csv``) or group (``summary.csv``); only this file knows how their columns
are called. A name that is not listed here is an error, never a number that was not measured.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import pandas as pd

from vem.errors import VemError, did_you_mean
from vem.storage.records import SPLITS

GAPS = {kind: f"{kind}_gap" for kind in ("approximation", "amortization", "optimization", "inference")}  # kind → name
BOUNDS = ("importance_bound", "prior_bound")  # lower bounds on log p(x) beside the one that the gaps are taken from
COSTS = ("training_seconds", "seconds", "decoder_evaluations", "decoder_gradients", "epochs")
# Of a family that the best q was sought in: how the columns call them.
OF_FAMILY = {
    name: name.removesuffix("_gap") for name in ("best_elbo", "approximation_gap", "gain_over_own", "converged")
}
# Every quantity and its meaning, in nats per data point unless it says otherwise.
QUANTITIES: Mapping[str, str] = {
    "elbo": "L[q], the evidence lower bound",
    "reconstruction": "E_q log p(x | z), the reconstruction term of the ELBO",
    "kl": "KL(q(z) ‖ p(z)), its KL term",
    "log_marginal": "log p(x), where it is known exactly",
    "log_marginal_lower": "the lower bound on log p(x) that the gaps are taken from",
    "log_marginal_upper": "the upper bound on log p(x)",
    "approximation_gap": "log p(x) − L[q*], of the strategy's own family or of another one",
    "amortization_gap": "L[q*] − L[q] of an encoder",
    "optimization_gap": "L[q*] − L[q] of stored λ",
    "inference_gap": "log p(x) − L[q]",
    "exact_loss": "log p(x) − L[q] of a model whose log p(x) is known, where no best q was sought",
    "best_elbo": "L[q*] of a family",
    "gain_over_own": "L[q*] of a family − L[q*] of the strategy's own",
    "converged": "share of the data whose best q in a family was found",
    "amortization_generalization": "Amortization gap, held out − training",
    "model_generalization_best_elbo": "L[q*], training − held out",
    "model_generalization_log_marginal": "log p(x), training − held out",
    "importance_bound": "importance-weighted lower bound on log p(x)",
    "prior_bound": "lower bound on log p(x) by draws from the prior",
    "active_units": "latent coordinates that depend on x (number)",
    "paired": "test ELBO − that of the baseline, paired",
    "training_seconds": "time of the training (s)",
    "seconds": "time of the run (s)",
    "decoder_evaluations": "evaluations of the decoder during training (number)",
    "decoder_gradients": "gradients of the decoder during training (number)",
    "epochs": "epochs of the training (number)",
}
OF_RUN = ("paired", *COSTS)  # of no split
ESTIMATES = ("elbo", "reconstruction", "kl", "log_marginal")  # of every run
GENERALIZATION = ("amortization_generalization", "model_generalization_best_elbo", "model_generalization_log_marginal")
LIMITS = ("log_marginal_lower", "log_marginal_upper")
OF_SOME = ("active_units", "converged")  # without an error, and averaged over the runs that have them
# What else is known of a split: not a number with an error.
FACTS: Mapping[str, str] = {
    "checks": "{}_checks",  # the checks that failed, "passed", or None where none was made
    "gap_data": "{}_gap_data",  # such as "100 of 250", where the gaps are of fewer data than L[q]
    "simulated_width": "{}_log_marginal_simulated_width",  # of the interval on data that the model made: mean, and
    "simulated_worst": "{}_log_marginal_simulated_worst",  # the widest one
    "num_evaluated": "num_{}_evaluated",  # data points
    "rows": "{}_rows",  # digest of the numbers of the evaluated rows
    "x": "{}_x",  # digest of all data of the split
}


def present(value: Any) -> Any:
    """The value, or None where it is missing (pandas has several ways to say so)."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, with None for what is missing."""
    columns = list(map(str, table.columns))  # to_dict("records") takes a fraction of a millisecond for each column
    return [dict(zip(columns, map(present, row), strict=True)) for row in table.to_numpy(dtype=object).tolist()]


FAMILY = re.compile(rf"({'|'.join(SPLITS)})_family_(.+?)_(?:{'|'.join(OF_FAMILY.values())})(?:_|$)")


class UnknownQuantity(VemError, KeyError):
    """No quantity, fact or split is called so: a misspelt name is not a number that was not measured."""

    __str__ = Exception.__str__  # KeyError's puts the sentence in quotes


class Estimate(NamedTuple):
    """One number, in nats per data point; None is what is not known."""

    mean: float | None = None
    se: float | None = None  # over seeds; of a run over its data
    mc_se: float | None = None  # of the Monte Carlo noise alone
    low: float | None = None  # ends of the 95 % interval
    high: float | None = None
    identified_low: float | None = None  # what the mean could be if log p(x) were known
    identified_high: float | None = None
    one_sided: bool = False  # log p(x) is known from below alone, so that ``low`` is the only end
    kind: str | None = None  # how log p(x) was found
    reason: str | None = None  # why there is no mean
    data_se: float | None = None  # of a group: over data, of the mean over its seeds
    data_low: float | None = None
    data_high: float | None = None
    over: int | None = None  # how many seeds have the number measured alike, where not all do
    sought: bool = False  # whether some run looked for it: else the number does not apply
    ess: float | None = None  # of a bound: the median of effective samples
    loose: bool = False  # whether those are too few


Key = tuple[str | None, str, str | None]  # what a number is of: split, quantity, and a family other than q's own
# How the columns of a field end.
ENDS = {field: f"_{field}" for field in Estimate._fields} | {
    "low": "_ci95_low", "high": "_ci95_high", "one_sided": "_at_least", "data_low": "_data_ci95_low",
    "data_high": "_data_ci95_high",
}  # fmt: skip
NUMBER, MEAN, BOUND = ("se", "mc_se", "reason"), ("mean", "se", "data_se", "reason", "over"), ("kind", "ess", "loose")
RUN_GAP = (*NUMBER, "low", "high", "one_sided", "sought", "identified_low", "identified_high")
GROUP_GAP = (*MEAN, "sought", "identified_low", "identified_high", "data_low", "data_high", "low", "high", "one_sided")
# By part of a table (:func:`part`): the fields that have a column in the table of runs, and in that of groups.
FIELDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "estimates": (NUMBER, MEAN),
    "limits": (NUMBER, GROUP_GAP),
    "gaps": (RUN_GAP, GROUP_GAP),
    "others": (RUN_GAP, GROUP_GAP),
    "bounds": ((*NUMBER, *BOUND), (*MEAN, *BOUND)),
    "some": ((), ("mean",)),
    "costs": ((), ("mean", "se")),
}


@cache
def column(split: str | None, quantity: str, family: str | None = None, field: str | None = None) -> str:
    """The name of a quantity's column: of a run's table, or with ``field`` that of a field of :class:`Estimate`.

    >>> column("test", "elbo"), column("test", "inference_gap", field="low"), column(None, "epochs", field="mean")
    ('test_elbo', 'test_inference_gap_ci95_low', 'epochs_mean')
    >>> column("train", "approximation_gap", "mixture")
    'train_family_mixture_approximation'

    Raises:
        UnknownQuantity: there is no such quantity, split or field, or none such of a family or a split.
    """
    _known(quantity, QUANTITIES, "quantity")
    end = "" if field is None else _known(field, ENDS, "field")
    if quantity in OF_RUN:
        if split is not None:
            raise UnknownQuantity(f"{quantity} is of a whole run, of no split: {split!r} was asked for.")
        return f"{quantity}_seeds" if (quantity, field) == ("paired", "over") else quantity + end
    _known(str(split), dict.fromkeys(SPLITS), "split")
    if family is None:
        return f"{split}_{quantity}{end}"
    return f"{split}_family_{family}_{_known(quantity, OF_FAMILY, 'quantity of a family')}{end}"


def _known(name: str, names: Mapping[str, Any], what: str) -> Any:
    if name not in names:
        raise UnknownQuantity(f"{name!r} is no {what}{did_you_mean(name, list(names))} There are: {', '.join(names)}.")
    return names[name]


@cache
def _columns(split: str | None, quantity: str, family: str | None) -> tuple[str, ...]:
    """The column of each field, and that of a run's number, which is called without ``_mean``."""
    of_kind = "log_marginal" if quantity.startswith("log_marginal") else quantity  # that of log p(x), whichever bound
    fields = {field: column(split, quantity, family, field) for field in Estimate._fields}
    return *(fields | {"kind": column(split, of_kind, family, "kind")}).values(), column(split, quantity, family)


def estimate(row: Mapping[Any, Any], split: str | None, quantity: str, family: str | None = None) -> Estimate:
    """One number of a run's or of a group's row; with its reason where it has no mean.

    split: None for what is of the whole run (training_seconds, paired).

    >>> estimate({"test_elbo_mean": -90.0, "test_elbo_se": 0.5}, "test", "elbo")[:3]
    (-90.0, 0.5, None)
    >>> estimate({}, "test", "elbo").reason
    'not measured'

    Raises:
        UnknownQuantity: no quantity is called so.
    """
    values = list(map(row.get, _columns(split, quantity, family)))
    defaults: Iterable[Any] = Estimate()
    own = Estimate(*[d if v is None or v != v else v for v, d in zip(values[:-1], defaults, strict=True)])
    mean = present(values[-1]) if own.mean is None else own.mean
    reason = own.reason or ("not measured" if mean is None else None)
    return own._replace(mean=mean, reason=reason, over=None if own.over is None else int(own.over))


def elbo_order(row: Mapping[Any, Any]) -> float:
    """Sorts rows of groups by their mean test ELBO, the highest first and those without one last."""
    elbo = estimate(row, "test", "elbo").mean
    return math.inf if elbo is None else -elbo


def fact(row: Mapping[Any, Any], split: str, name: str) -> Any:
    """What is known of a split beside its numbers: one of :data:`FACTS`, None where it is not.

    >>> fact({"num_test_evaluated": 50}, "test", "num_evaluated")
    50

    Raises:
        UnknownQuantity: no fact is called so.
    """
    value = row.get(_known(name, FACTS, "fact").format(_known(split, {s: s for s in SPLITS}, "split")))
    return None if value is None or value != value else value


def gaps_of(row: Mapping[Any, Any], split: str) -> list[str]:
    """The kinds of gap that a row has on a split, by which :data:`GAPS` names them; empty where none was measured.

    >>> gaps_of({"test_inference_gap_mean": 0.0}, "test")
    ['inference']
    """
    return [kind for kind, name in GAPS.items() if estimate(row, split, name).mean is not None]


def families(row: Mapping[Any, Any], split: str) -> list[str]:
    """The families whose L[q*] a row has on a split.

    >>> families({"test_family_mixture_best_elbo_mean": -90.0, "test_family_full_best_elbo_mean": None}, "test")
    ['mixture']
    """
    named = dict.fromkeys(found[2] for c in row if (found := FAMILY.match(str(c))) and found[1] == split)
    return [family for family in named if estimate(row, split, "best_elbo", family).mean is not None]


def keys_of(columns: Iterable[Any]) -> list[Key]:
    """What a table of runs has numbers of, in the order of its columns.

    >>> keys_of(["seed", "test_kl", "test_kl_se", "test_elbo", "test_family_full_converged"])
    [('test', 'kl', None), ('test', 'elbo', None), ('test', 'converged', 'full')]
    """
    place = {str(c): i for i, c in enumerate(columns)}
    of_family = dict.fromkeys(found[2] for c in place if (found := FAMILY.match(c)))
    own: list[Key] = [(split, name, None) for split in SPLITS for name in QUANTITIES if name not in OF_RUN]
    own += [(split, name, family) for split in SPLITS for family in of_family for name in OF_FAMILY]
    return sorted((key for key in own if column(*key) in place), key=lambda key: place[column(*key)])


def part(key: Key) -> str:
    """With which others the columns of a number stand in a table."""
    _, name, family = key
    parts = {"estimates": ESTIMATES, "limits": LIMITS, "bounds": BOUNDS, "some": OF_SOME, "costs": COSTS}
    found = next((of for of, names in parts.items() if name in names), "others")
    return "gaps" if family is None and name in GAPS.values() else found


def cells(split: str | None, found: Mapping[str, Estimate], family: str | None = None) -> dict[str, Any]:
    """The columns of numbers in a table of runs.

    >>> cells("test", {"kl": Estimate(2.0, 0.1, 0.01)})
    {'test_kl': 2.0, 'test_kl_se': 0.1, 'test_kl_mc_se': 0.01, 'test_kl_reason': None}
    """
    out: dict[str, Any] = {}
    for name, own in found.items():
        out[column(split, name, family)] = own.mean
        fields, _ = FIELDS[part((split, name, family))]
        out |= {column(split, name, family, field): getattr(own, field) for field in fields}
    return out


def group_cells(key: Key, found: Estimate) -> dict[str, Any]:
    """The columns of one number in a table of groups."""
    return {column(*key, field): getattr(found, field) for field in FIELDS[part(key)][1]}
