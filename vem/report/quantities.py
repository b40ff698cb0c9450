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
    "best_elbo": "best_elbo",
    "approximation_gap": "approximation",
    "gain_over_own": "gain_over_own",
    "converged": "converged",
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
    "amortization_generalization": "amortization gap, held out − training",
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
LIMITS = ("log_marginal_lower", "log_marginal_upper")
# The fields that have a column: of every number, of a gap, of a further bound; in the table of runs and in that of
# groups.
RUN_FIELDS: tuple[str, ...] = ("se", "mc_se", "reason")
RUN_GAP = ("low", "high", "one_sided", "sought", "identified_low", "identified_high")
GROUP_FIELDS: tuple[str, ...] = ("mean", "se", "data_se", "reason", "over")
GROUP_GAP = ("sought", "identified_low", "identified_high", "data_low", "data_high", "low", "high", "one_sided")
BOUND = ("kind", "ess", "loose")
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
    """One number, in nats per data point; None is what is not known.

    ``se``: over seeds (of a run over its data), ``mc_se``: of the Monte Carlo noise alone; ``low``, ``high``: ends of
    the 95 % interval; ``identified_low``, ``identified_high``: what the mean could be if log p(x) were known;
    ``one_sided``: log p(x) is known from below alone, so that ``low`` is the only end; ``kind``: how log p(x) was
    found; ``reason``: why there is no mean.
    Of a group's row also ``data_se``, ``data_low``, ``data_high`` (over data, of the mean over its seeds); ``over``
    (how many seeds have the number measured alike, where not all do) and ``sought``, whether some run looked for it:
    else the number does not apply. Of a bound: ``ess``, the median of effective samples, and ``loose`` where those are
    too few.
    """

    mean: float | None = None
    se: float | None = None
    mc_se: float | None = None
    low: float | None = None
    high: float | None = None
    identified_low: float | None = None
    identified_high: float | None = None
    one_sided: bool = False
    kind: str | None = None
    reason: str | None = None
    data_se: float | None = None
    data_low: float | None = None
    data_high: float | None = None
    over: int | None = None
    sought: bool = False
    ess: float | None = None
    loose: bool = False


NUMBERS = ("mean", "se", "mc_se", "low", "high", "identified_low", "identified_high", "data_se", "data_low",
           "data_high", "ess")  # fmt: skip
KEY = ["split", "quantity", "family"]  # what a number is of
Key = tuple[str, str, str | None]
# How the columns of a field end.
ENDS = {
    "mean": "_mean", "se": "_se", "mc_se": "_mc_se", "low": "_ci95_low", "high": "_ci95_high",
    "identified_low": "_identified_low", "identified_high": "_identified_high", "one_sided": "_at_least",
    "kind": "_kind", "reason": "_reason", "data_se": "_data_se", "data_low": "_data_ci95_low",
    "data_high": "_data_ci95_high", "over": "_over", "sought": "_sought", "ess": "_ess", "loose": "_loose",
}  # fmt: skip


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
    """The column of each field."""
    found = {field: column(split, quantity, family, field) for field in Estimate._fields}
    if quantity.startswith("log_marginal"):  # the kind is that of log p(x), whichever bound
        found["kind"] = column(split, "log_marginal", field="kind")
    return tuple(found.values())


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
    found: list[Any] = [
        None if value is None or value != value else value for value in map(row.get, _columns(split, quantity, family))
    ]
    own = Estimate(*found)
    mean = row.get(column(split, quantity, family)) if own.mean is None else own.mean  # a run's is called without _mean
    mean = None if mean is None or mean != mean else mean
    return own._replace(
        mean=mean,
        reason=own.reason or ("not measured" if mean is None else None),
        one_sided=bool(own.one_sided),
        sought=bool(own.sought),
        loose=bool(own.loose),
        over=None if own.over is None else int(own.over),
    )


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


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Every number of a table of runs: a row for each run, split, quantity and family (None: that of the strategy).

    Columns: ``run`` (its directory), ``split``, ``quantity`` (:data:`QUANTITIES`), ``family``, and the fields of
    :class:`Estimate`.
    """
    keys = keys_of(table)
    found = [(row["directory"], *key, *estimate(row, *key)) for row in table.to_dict("records") for key in keys]
    out = pd.DataFrame(found, columns=["run", *KEY, *Estimate._fields])
    return out.astype(dict.fromkeys(NUMBERS, float))


def cells(split: str, quantity: str, found: Estimate, family: str | None = None) -> dict[str, Any]:
    """The columns of one number in a table of runs.

    >>> cells("test", "kl", Estimate(2.0, 0.1, 0.01))
    {'test_kl': 2.0, 'test_kl_se': 0.1, 'test_kl_mc_se': 0.01, 'test_kl_reason': None}
    """
    plain = quantity in (*ESTIMATES, *LIMITS)
    fields = RUN_FIELDS if plain else RUN_FIELDS + (BOUND if quantity in BOUNDS else RUN_GAP)
    return {column(split, quantity, family): found.mean} | {
        column(split, quantity, family, field): getattr(found, field) for field in fields
    }


def group_cells(split: str, quantity: str, found: Estimate, family: str | None = None) -> dict[str, Any]:
    """The columns of one number in a table of groups."""
    further = () if quantity in ESTIMATES else BOUND if quantity in BOUNDS else GROUP_GAP
    fields = ("mean",) if quantity in OF_SOME else GROUP_FIELDS + further
    return {column(split, quantity, family, field): getattr(found, field) for field in fields}
