"""The groups of a table that compete, and their paired differences to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vem.errors import VemError, did_you_mean
from vem.report.aggregate import aggregate
from vem.report.alike import OTHER_ROWS, TEST
from vem.report.frame import Framed
from vem.report.intervals import LEVEL, ONE_DATUM, Difference, Scores, data_error, paired
from vem.report.labels import labels, training_of
from vem.report.quantities import Estimate, column, plain_rows, present
from vem.report.runs import DONE
from vem.report.words import listed, name, plural

PAIRED = ("mean", "se", "low", "high", "over", "reason", "data_se", "data_low", "data_high")


class Rivals:
    """The groups of one table, to be compared pair by pair."""

    def __init__(self, groups: pd.DataFrame, runs: pd.DataFrame, framed: Framed) -> None:
        rows = {row["directory"]: row for row in plain_rows(runs)}
        self.refused = frozenset(d for d in rows if framed.evaluated[d].refused)  # whose rows are not used
        self.rows: dict[str, dict[int, Mapping[Any, Any]]] = {}
        self.scores: dict[str, dict[int, Scores]] = {}
        for label, directories in zip(map(str, groups["label"]), groups["directories"], strict=True):
            by_seed = {rows[d]["seed"]: rows[d] for d in reversed(directories)}
            self.rows[label] = {int(seed): row for seed, row in by_seed.items() if seed is not None}
            kept = [row for row in self.rows[label].values() if not row[OTHER_ROWS]]
            self.scores[label] = {int(row["seed"]): _scores(row, framed) for row in kept}

    def difference(self, label: str, baseline: str) -> Difference:
        """Test ELBO of ``label`` − that of ``baseline``."""
        return paired(self.scores[label], self.scores[baseline])

    def data_se(self, label: str) -> float | None:
        """Standard error over data of the test ELBO averaged over seeds."""
        scores = list(self.scores[label].values())
        found = data_error([one.elbo for one in scores], [one.rows for one in scores])
        return None if found is None else found[0]


def _scores(row: Mapping[Any, Any], framed: Framed) -> Scores:
    rows, elbo = framed.evaluated[row["directory"]].elbo.get(TEST, (None, None))
    return Scores(row["test_elbo"], rows, elbo)


def grouped(framed: Framed) -> dict[str, pd.DataFrame]:
    """By table, its groups with ``label``, ``num_parameters``, ``num_train`` and ``num_data``."""
    groups = aggregate(framed.rows)
    out: dict[str, pd.DataFrame] = {}
    rows = {row["directory"]: row for row in plain_rows(framed.rows)}
    for table in dict.fromkeys(groups["table"]) if len(groups) else ():
        part = groups[groups["table"] == table].reset_index(drop=True)
        part.insert(0, "label", labels(part))
        for fact, source in (("num_parameters",) * 2, ("num_train",) * 2, ("num_data", "num_test_evaluated")):
            own = [[rows[d][source] for d in found if not rows[d][OTHER_ROWS]] for found in part["directories"]]
            # What the runs of a group have in common, the smallest where they differ.
            part[fact] = [min((int(v) for v in values if v is not None), default=None) for values in own]
        out[str(table)] = part
    return out


def _trainings(groups: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What each group trained: groups that agree in it were measured with different settings."""
    rows = plain_rows(groups[["strategy", "model", "family", "latent_dim", "variant"]])
    return [(training_of(row.pop("variant")), *row.values()) for row in rows]


def _measurements(groups: pd.DataFrame) -> list[list[int]]:
    """The places of groups with a test ELBO, those of one training together; first the one of most seeds."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for i, training in enumerate(_trainings(groups)):
        if present(groups["test_elbo_mean"].iloc[i]) is not None:
            found.setdefault(training, []).append(i)
    return [sorted(same, key=lambda i: -int(groups["seeds"].iloc[i])) for same in found.values()]


def contenders(groups: pd.DataFrame) -> pd.DataFrame:
    """The groups that are rivals: each training once, however often it was measured."""
    again = [i for same in _measurements(groups) for i in same[1:]]
    return groups.drop(index=groups.index[again])


def measured_again(groups: pd.DataFrame) -> list[str]:
    """Sentences: which groups are measurements of one training, and which of them the answer takes."""
    labels = [str(label) for label in groups["label"]]
    return [
        f"{listed([labels[i] for i in same])} are measurements of the same training with different settings, and no "
        f"rivals: the answer takes {name(labels[same[0]])}."
        for same in _measurements(groups)
        if len(same) > 1
    ]


def left_out(groups: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """A sentence, where some runs of a group were trained and not evaluated: they count in no mean of it."""
    counted = {directory for found in groups["directories"] for directory in found}
    finished = runs.loc[runs["status"] == DONE, "directory"]
    absent = [str(directory) for directory in finished if directory not in counted]
    if not absent:
        return []
    return [f"{plural(len(absent), 'run')} trained to the end and not evaluated, which no mean counts: "
            f"{', '.join(absent)}. python -m vem.evaluate RUN measures one."]  # fmt: skip


def best_label(groups: pd.DataFrame) -> str | None:
    """The contender with the highest mean test ELBO; None where no group has one."""
    groups = contenders(groups)
    known = groups[groups["test_elbo_mean"].notna()]
    return None if known.empty else str(known["label"].iloc[int(known["test_elbo_mean"].astype(float).argmax())])


def _named(groups: pd.DataFrame, wanted: str | None) -> list[str]:
    """The labels of the groups that are called so: by their label, else by their strategy alone."""
    return [wanted] if wanted in set(groups["label"]) else list(groups.loc[groups["strategy"] == wanted, "label"])  # type: ignore[list-item]  # a label


def chosen_baseline(groups: pd.DataFrame, wanted: str | None) -> str | None:
    """The label of the baseline: the one that is wanted, if the table has it, else that of the best."""
    found = _named(groups, wanted)
    return found[0] if len(found) == 1 else best_label(groups)


def check_baseline(tables: Sequence[pd.DataFrame], wanted: str | None) -> None:
    """Refuse a baseline that no table has.

    Raises:
        VemError: no group is called so, or several are.
    """
    found = [_named(groups, wanted) for groups in tables]
    if wanted is None or any(len(labels) == 1 for labels in found):
        return
    names = list(dict.fromkeys(str(label) for groups in tables for label in groups["label"]))
    shown = "; ".join(names[:12]) + (f"; and {len(names) - 12} more" if len(names) > 12 else "")
    if any(found):
        raise VemError(f"baseline {wanted!r} is the strategy of several groups: name one of them. They are: {shown}.")
    near = did_you_mean(wanted, names)
    raise VemError(f"baseline {wanted!r}: no group is called so{near} The groups are: {shown}.")


def _of_means(d: Difference) -> str | None:
    """What to say of a difference that is not paired datum by datum in every seed."""
    known = d.mean is None or d.over == "data" or d.data_se is not None
    if d.alone:
        return ONE_DATUM
    return None if known else "a difference of means: not every seed has the ELBO of each of the same data"


def with_differences(groups: pd.DataFrame, rivals: Rivals, baseline: str | None) -> pd.DataFrame:
    """The groups with ``paired_mean``, ``_se``, ``_ci95_low``, ``_ci95_high``, ``_seeds``, ``_reason``; and its error
    over data, ``_data_se``, ``_data_ci95_low``, ``_data_ci95_high``. With several seeds ``test_elbo_data_se`` is that
    of the ELBO averaged over them.
    """
    training = dict(zip(groups["label"], _trainings(groups), strict=True))

    def difference(label: str) -> Estimate:
        if baseline is None:
            return Estimate(reason="no group has a test ELBO")
        if label == baseline:
            return Estimate(reason="the baseline")
        if training[label] == training[baseline]:
            return Estimate(reason="another measurement of what the baseline trained")
        d = rivals.difference(label, baseline)
        low, high = d.data_interval(LEVEL) or (None, None)
        own = Estimate(d.mean, d.se, None, d.low, d.high, data_se=d.data_se, data_low=low, data_high=high)
        return own._replace(over=d.seeds, reason=d.reason or _of_means(d))

    found = [difference(str(label)) for label in groups["label"]]
    cells = {column(None, "paired", field=field): [getattr(one, field) for one in found] for field in PAIRED}
    compared = pd.DataFrame(cells, index=groups.index)
    out = pd.concat([groups, compared], axis="columns")
    out["test_elbo_data_se"] = [
        own if present(own) is not None or count < 2 else rivals.data_se(str(label))
        for label, own, count in zip(out["label"], out["test_elbo_data_se"], out["seeds"], strict=True)
    ]
    return out
